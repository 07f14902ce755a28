"""Fit AUGC over beta, compare forms, and find beta* by every definition (paper section 6, Eq. 14, 15, App. E).

Reads: plots/cells.csv.
Writes: metrics/power_law.json (the published fit), metrics/beta_star.json (forms and beta* by both measures),
plots/power_law.csv (the curve, and every point with its mean).
"""

from pessimism.checks import stage
from pessimism.claims.conservatism import beta_star_record
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.measures import power_law
from pessimism.scoring import scores


@stage.main("fit_power_law")
def main(params: Params) -> None:
    cells = scores.read_cells(params)
    means = scores.augc_means(cells, params.primary_arm)
    law = power_law.fit_power_law(means["beta"], means["augc"])
    records.write_table(layout.POWER_LAW_CURVE, power_law.curve_table(law, cells, means))
    records.write_json(layout.POWER_LAW, power_law.power_law_metrics(law))
    stars = beta_star_record(cells, params.primary_arm, params.placebo, params.protocol.paired_seeds)
    records.write_json(layout.BETA_STAR, stars)


if __name__ == "__main__":
    main()

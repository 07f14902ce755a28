"""Judge the paper's claims by its own measure and by the controlled one, with every run's value beside the verdict.

Reads: plots/cells.csv, metrics/power_law.json, metrics/beta_star.json.
Writes: metrics/claims.json.
"""

from pessimism.checks import stage
from pessimism.claims import claims
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.scoring import scores


@stage.main("check_claims")
def main(params: Params) -> None:
    record = claims.check_claims(
        cells=scores.read_cells(params),
        power_law=records.read_json(layout.POWER_LAW),
        beta_stars=records.read_json(layout.BETA_STAR),
        primary_arm=params.primary_arm,
        paired=params.protocol.paired_seeds,
    )
    records.write_json(layout.CLAIMS, record)


if __name__ == "__main__":
    main()

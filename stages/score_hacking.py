"""Score every online run for reward hacking (paper Def. 3.1 and 3.2, sections 5 and 7).

Reads: every online run; the probes, draws and validation of every checkpoint; the base's samples; the betas.
Writes: metrics/hacking.json, metrics/variance.json, metrics/equal_kl.json, plots/goodhart_gap.csv,
plots/heldout_rewards.csv, plots/cells.csv, plots/best_of_n.csv.
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.scoring import scores
from pessimism.scoring.equal_kl import equal_kl_record
from pessimism.scoring.runs import read_measurements
from pessimism.scoring.variance import variance_record


@stage.main("score_hacking")
def main(params: Params) -> None:
    measurements = read_measurements(params)
    cells = scores.cell_table(measurements)
    records.write_table(layout.GOODHART_GAP, scores.gap_table(measurements))
    records.write_table(layout.HELDOUT_REWARDS, scores.heldout_table(measurements))
    records.write_table(layout.BEST_OF_N, scores.best_of_n_table(measurements))
    records.write_table(layout.CELL_SCORES, cells)
    records.write_json(layout.VARIANCE, variance_record(measurements))
    records.write_json(layout.EQUAL_KL, equal_kl_record(measurements))
    records.write_json(layout.HACKING, scores.hacking_metrics(cells, measurements))


if __name__ == "__main__":
    main()

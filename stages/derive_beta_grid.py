"""Derive the strength of every offline cell: the betas of Eq. 7 from the base's log-ratios, others from their labels.

Paper: section 4, Eq. 6, 7. Reads: data/reference/grid_logps.parquet.
Writes: metrics/beta_grid.json (p20, ... in the protocol's precision; both precisions below), plots/log_ratios.csv.
"""

from pessimism.checks import stage
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.offline.beta_grid import grid_record, quantile_table


@stage.main("derive_beta_grid")
def main(params: Params) -> None:
    table = records.read_table(layout.GRID_LOGPS)
    record = grid_record(table, params.beta_percentiles, params.protocol.grid_precision, params.offline_cells)
    records.write_json(layout.BETA_GRID, record)
    records.write_table(layout.LOG_RATIOS, quantile_table(table))


if __name__ == "__main__":
    main()

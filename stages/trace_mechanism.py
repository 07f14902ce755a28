"""Trace the paper's mechanism from entropy to hacking, and ask whether disagreement knows of errors (paper section 5).

Reads: every online run, the probes of every checkpoint, plots/cells.csv, metrics/beta_grid.json.
Writes: metrics/mechanism.json, plots/disagreement.csv, plots/member_probes.csv.
"""

from pessimism.checks import stage
from pessimism.claims import mechanism
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.scoring import scores
from pessimism.scoring.runs import read_betas, read_probes, read_runs


@stage.main("trace_mechanism")
def main(params: Params) -> None:
    betas = read_betas(params)
    disagreement = mechanism.disagreement_table(read_runs(params), betas)
    record = mechanism.mechanism_record(scores.read_cells(params), disagreement, params)
    records.write_table(layout.DISAGREEMENT, disagreement)
    records.write_table(layout.MEMBER_PROBES, mechanism.member_table(read_probes(params), betas))
    records.write_json(layout.MECHANISM, record)


if __name__ == "__main__":
    main()

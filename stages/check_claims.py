"""Judge the paper's claims by its own measure and by the controlled one, with every run's value beside the verdict.

The primary claim's trend is split by arms into what beta does through the checkpoint and through the penalty.

Reads: plots/cells.csv, metrics/power_law.json, metrics/beta_star.json.
Writes: metrics/claims.json, and metrics/verdicts.json, its verdicts in short.
"""

from pessimism.checks import stage
from pessimism.claims import arm_contrasts, claims
from pessimism.claims.verdict_metrics import verdict_metrics
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.scoring import scores


@stage.main("check_claims")
def main(params: Params) -> None:
    cells, paired = scores.read_cells(params), params.protocol.paired_seeds
    record = claims.check_claims(
        cells=cells,
        power_law=records.read_json(layout.POWER_LAW),
        beta_stars=records.read_json(layout.BETA_STAR),
        primary_arm=params.primary_arm,
        paired=paired,
    )
    record["contrasts"] = arm_contrasts.check_contrasts(cells, params, paired)
    records.write_json(layout.CLAIMS, record)
    records.write_json(layout.VERDICTS, verdict_metrics(record))


if __name__ == "__main__":
    main()

"""Put a number on each of the paper's ten claims, with every run's value beside it.

Reads: plots/cells.csv, metrics/hacking.json, metrics/power_law.json.
Writes: metrics/claims.json.
"""

from pessimism import layout, records, stage
from pessimism.analysis import claims, scores
from pessimism.params import load_params


def main() -> None:
    with records.run_record("check_claims"):
        params = load_params()
        record = claims.check_claims(
            cells=scores.read_cells(params),
            hacking=records.read_json(layout.HACKING),
            power_law=records.read_json(layout.POWER_LAW),
            primary_arm=params.primary_arm,
        )
        records.write_json(layout.CLAIMS, record)


if __name__ == "__main__":
    stage.run(main)

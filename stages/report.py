"""Draw the paper's figures 3 to 6 and Table 1 from these runs, with published numbers beside them.

Reads: every metrics file, every plot table.
Writes: plots/report/: one self-contained page and its figures as PNG.
"""

from pessimism import layout, records, stage
from pessimism.params import load_params
from pessimism.reporting.report import read_results, write_report


def main() -> None:
    with records.run_record("report"):
        write_report(read_results(load_params()))
        print(f"report: {layout.REPORT_PAGE}")


if __name__ == "__main__":
    stage.run(main)

"""Write the report: claims with verdicts, both measures, the paper's figures 3 to 6 and Table 1, its Appendix F.

Reads: every metrics file, every plot table, data/sources.json.
Writes: plots/report/: one self-contained page and its figures as PNG.
"""

from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.machine import stage
from pessimism.reporting.report import write_report
from pessimism.reporting.results import read_results


def main() -> None:
    with records.run_record("report"):
        write_report(read_results(load_params()))
        print(f"report: {layout.REPORT_PAGE}")


if __name__ == "__main__":
    stage.run(main)

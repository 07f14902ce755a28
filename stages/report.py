"""Write the report: claims with verdicts, both measures, the paper's figures 3 to 6 and Table 1, its Appendix F.

Reads: every metrics file, every plot table, data/sources.json, the held-out responses of data/online.
Writes: plots/report/: one self-contained page and its figures as PNG, SVG and PDF.
"""

from pessimism.checks import stage
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.reporting.report import write_report
from pessimism.reporting.results import read_results


@stage.main("report")
def main(params: Params) -> None:
    write_report(read_results(params))
    print(f"report: {layout.REPORT_PAGE}")


if __name__ == "__main__":
    main()

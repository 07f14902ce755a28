"""Where the report of the run here lies, and several runs beside one another on a page of their own."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pessimism.errors import DataError
from pessimism.experiment import layout, records

if TYPE_CHECKING:
    from pessimism.runs.finished import FinishedRun

OUT = Path("comparison.html")
HERE = "the run here"
SHORT = 7  # of a hash


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Say where the report of the run here lies. With --compare, write a page of several runs side by side: the "
        "parameters that differ, verdicts, main numbers, areas over beta, gaps over steps. It opens from the disk and "
        "loads nothing."
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        metavar="REV",
        help="runs to compare with the first of them: revisions of Git, experiments of DVC, projects' directories; "
        "with one alone, the run here",
    )
    parser.add_argument("--out", type=Path, metavar="FILE.html", help=f"the page of --compare (default: {OUT})")


def run(options: argparse.Namespace) -> None:
    if options.compare is None and options.out is not None:
        raise DataError("--out: found no --compare; expected both: the pipeline writes the report of a run")
    print(located("Report", layout.REPORT_PAGE) if options.compare is None else compare(options.compare, options.out))


def located(what: str, page: Path) -> str:
    """A page by its path and as an address for a browser.

    Raises:
        DataError: it is not there.
    """
    if not page.is_file():
        raise DataError(f"{page} is missing; run `dvc repro` to make it")
    return f"{what}: {page}\n{' ' * len(what)}  {page.absolute().as_uri()}"


def compare(names: Sequence[str], out: Path | None = None) -> str:
    """Write the page of the runs; return where it is.

    Args:
        names: revisions, experiments or directories; one alone is compared with the run here.
        out: the page; None: ``OUT``.

    Raises:
        DataError: a run is named twice, is not there, is not finished or is of an older version, or the page's name
            does not end in .html.
    """
    file = OUT if out is None else out
    if file.suffix != ".html":
        raise DataError(f"--out: found {file}; expected a file that ends in .html")
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise DataError(f"--compare: found {twice[0]} twice; expected different runs")

    from pessimism.reporting.comparison import comparison_page
    from pessimism.runs.finished import load_run

    runs = {_title(run): run.shown() for run in map(load_run, names)}
    if len(names) == 1:
        runs[HERE] = load_run().shown()
    records.write_text(file, comparison_page(runs))
    return located("Comparison", file)


def _title(run: FinishedRun) -> str:
    """The name, with the commit where the name does not say it."""
    if run.commit is None or run.commit.startswith(run.name):
        return run.name
    return f"{run.name} ({run.commit[:SHORT]})"

"""Figures of a finished run for a talk or a paper, each with its message: the verdict and its numbers."""

from __future__ import annotations

import argparse
from pathlib import Path

from pessimism.runs.finished import load_run

FORMATS = ("png", "svg", "pdf")
OUT = Path("figures")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.formatter_class = argparse.ArgumentDefaultsHelpFormatter
    parser.description = (
        "Draw the rewards, the gap and what beta does, one row of panels each. A talk's are of 16:9, with letters of "
        "18 points or more and the message as title; a paper's are as wide as a column, and the message is printed for "
        "the caption."
    )
    add = parser.add_argument
    add(
        "source",
        nargs="?",
        metavar="RUN",
        help="a project's directory or a revision of the project here; none: the project here",
    )
    add("--style", choices=("talk", "paper"), default="talk", help="what the figures are for")
    add("--format", choices=FORMATS, default="png", help="of the files")
    add("--out", type=Path, default=OUT, metavar="DIR", help="where the files are written")


def run(options: argparse.Namespace) -> None:
    print(figures(options.source, options.style, options.format, options.out))


def figures(source: str | None, style: str, file_format: str, out: Path) -> str:
    """Write every figure; return the name of each file and its message.

    Raises:
        DataError: there is no such run, or it is not finished.
    """
    from pessimism.reporting import slides
    from pessimism.reporting.styles import STYLES

    shown, lines = load_run(source).shown(), []
    for name in slides.DRAWINGS:
        path = out / f"{name}_{style}.{file_format}"
        found = slides.save(name, shown, STYLES[style], path)
        lines.append(f"{path}\n  {found.caption}")
    return "\n".join(lines)

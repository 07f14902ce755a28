"""What the arms of a finished run save in hacking and cost in true reward: a table, a plot."""

from __future__ import annotations

import argparse
from pathlib import Path

from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.reporting.arm_costs import HACKING, KEYS, TRUE, arm_costs, cost_figure, markdown

_LEGEND = f"""
hacking: {HACKING} of plots/cells.csv, base sd x steps; true reward: {TRUE}, accuracy.
Both are above the placebo of the same checkpoint, averaged over the betas of a seed; in brackets 95 % over seeds.
saved: the first arm's hacking minus this one's; gained: this arm's true reward minus the first one's."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--figure", type=Path, metavar="FILE.png", help="draw a point per arm with its intervals")
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="write the table with all digits")


def run(options: argparse.Namespace) -> None:
    print(arms(options.figure, options.csv))


def arms(figure: Path | None, csv: Path | None) -> str:
    """The table as markdown, with what its columns are.

    Raises:
        DataError: there are no results of the parameters, or a file name has another ending.
    """
    for option, file, ending in (("--figure", figure, ".png"), ("--csv", csv, ".csv")):
        if file is not None and file.suffix != ending:
            raise DataError(f"{option}: found {file}; expected a file that ends in {ending}")
    params = load_params()
    costs = arm_costs(records.read_table(layout.CELL_SCORES, [*KEYS, HACKING, TRUE]), params)
    if figure is not None:
        from pessimism.reporting.saving import save

        save(lambda: cost_figure(costs), figure)
    if csv is not None:
        records.write_table(csv, costs)
    return f"{markdown(costs, params.primary_arm)}\n{_LEGEND}"

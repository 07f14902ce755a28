"""Finished runs beside one another on one page that holds everything it shows, as the report does."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from pessimism.claims.wording import listed
from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.reporting import comparison_design, comparison_figures, comparison_tables, page
from pessimism.reporting.comparison_design import Runs
from pessimism.reporting.comparison_figures import AREAS
from pessimism.reporting.comparison_tables import QUANTITIES
from pessimism.reporting.glossary import glossary
from pessimism.reporting.page import Section, folded, note, paragraph
from pessimism.reporting.saving import save
from pessimism.reporting.slides import Shown

TITLE = "Runs beside one another"
_NEEDED = {*QUANTITIES, *AREAS}


def comparison_page(runs: Runs) -> str:
    """The whole page.

    Args:
        runs: two or more, by name; the first is what the others are compared with.

    Raises:
        DataError: a run lacks a number or verdicts that this version shows.
    """
    for name, shown in runs.items():
        _check(name, shown)
    first, *others = runs
    lead = f"{first}, and compared with it {listed(others)}."
    sections = [
        Section("What changed", _parameters(runs)),
        Section("Verdicts", _verdicts(runs)),
        Section("Main numbers", _numbers(runs)),
        Section("AUGC over β", _areas(runs)),
        Section("Gap by step", _gaps(runs)),
    ]
    return page.page(TITLE, lead, sections)


def _check(name: str, shown: Shown) -> None:
    held = {
        layout.CELL_SCORES: (_NEEDED, set(shown.cells.columns)),
        layout.CLAIMS: ({"claims", "contrasts"}, set(shown.claims)),
    }
    for file, (needed, found) in held.items():
        missing = sorted(needed - found)
        if missing:
            raise DataError(
                f"{name}: found no {', '.join(missing)} in {file}, as in a run of an older version; expected the "
                "results of this one: run it anew"
            )


def _parameters(runs: Runs) -> list[str]:
    table, apart = comparison_design.parameter_tables(runs)
    return [
        paragraph(comparison_design.parameter_sentence(runs)),
        page.table(table),
        *(folded(title, page.table(content)) for title, content in apart.items()),
        *map(paragraph, comparison_design.design_sentences(runs)),
    ]


def _verdicts(runs: Runs) -> list[str]:
    units = dict.fromkeys(str(shown.claims["contrasts"]["unit"]) for shown in runs.values())
    return [
        page.heading(f"What β does to hacking ({' or '.join(units)})"),
        page.table(comparison_tables.contrasts_table(runs)),
        page.heading("The claims"),
        paragraph(comparison_tables.verdict_sentence(runs)),
        page.table(comparison_tables.verdicts_table(runs)),
        note(
            "Under a verdict: highest β minus lowest, mean over seeds, with its 95 % interval. Green supports the "
            "paper, red contradicts it. Each verdict is of its own run; that two differ is no test of their difference."
        ),
    ]


def _numbers(runs: Runs) -> list[str]:
    return [
        page.table(comparison_tables.numbers_table(runs)),
        note(
            "Means over the seeds of each run's first arm. In brackets the 95 % t interval; of the paper's AUGC, "
            "which is skewed and never below 0, the lowest and the highest seed. Base standard deviations are of each "
            "run's own base policy."
        ),
    ]


def _areas(runs: Runs) -> list[str]:
    return [
        _figure(
            lambda: comparison_figures.area_figure(runs),
            "AUGC of every run over beta by either measure, one panel per run",
            "A panel per run, all with the same axes. Dots are seeds of the first arm, bars their means; grey dots are "
            "the placebo, whose area noise alone makes positive. Each β has one hue in all panels.",
        )
    ]


def _gaps(runs: Runs) -> list[str]:
    return [
        _figure(
            lambda: comparison_figures.gap_figure(runs),
            "The controlled gap over training steps per beta, one panel per run",
            "Proxy minus true reward on held-out problems since the checkpoint, in base standard deviations: means "
            "over seeds with their 95 % band, the placebo of every β in grey. An arrow at the edge says what is "
            "beyond it.",
        ),
        folded("The words of this page", glossary()),
    ]


def _figure(draw: Callable[[], Figure], alternative: str, caption: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "figure.png"
        save(draw, path)
        return page.figure(path, alternative, caption)

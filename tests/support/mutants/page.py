"""docs/mutants.md: every planted bug, and what noticed it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from support.mutants.mutant import Mutant
from support.repository import CHECKOUT

PAGE = CHECKOUT / "docs" / "mutants.md"
SURVIVED = "**survived**"
NOT_PLANTED = "not planted yet"
_HEADING = "| file | bug | noticed by |"

_TEXT = f"""# Planted bugs

`make mutants` writes this page. It plants each of {{count}} bugs in a copy of the project, one at a time, and runs the
tests nearest to it. A bug that no test notices is a test that is missing, or it changes nothing, and the page says why.

{_HEADING}
|---|---|---|
"""


def key(mutant: Mutant) -> tuple[str, str]:
    """By what a row of the page is found again."""
    return f"`{mutant.path}`", mutant.what


def page(mutants: Sequence[Mutant], outcomes: Mapping[tuple[str, str], str]) -> str:
    """The page.

    Args:
        outcomes: by :func:`key`, what noticed the bug or why nothing can.
    """
    rows = [f"| {' | '.join((*key(mutant), outcomes.get(key(mutant), NOT_PLANTED)))} |\n" for mutant in mutants]
    return _TEXT.format(count=len(mutants)) + "".join(rows)


def outcomes(path: Path = PAGE) -> dict[tuple[str, str], str]:
    """What the page says; empty where there is none."""
    if not path.exists():
        return {}
    _, _, table = path.read_text(encoding="utf-8").partition(_HEADING)
    rows = [line.strip("| ").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    return {(file, what): outcome for file, what, outcome in rows}

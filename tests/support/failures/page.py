"""docs/failure-modes.md: what bad inputs get."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from support.failures.failure import Failure
from support.repository import CHECKOUT

PAGE = CHECKOUT / "docs" / "failure-modes.md"

_TEXT = """# What is refused, and how

Each of these {count} inputs ends the command with status 2 and one line on standard error, before anything is deleted
or paid for. The line says what was found, what was expected and what to change; the table has a part of it. Where
parameters have several problems, each has a line. `pessimism --debug COMMAND` shows where in the code it was refused.
`tests/test_failure_modes.py` makes every input and compares; `make failures` writes this page.
"""


def page(failures: Mapping[str, Sequence[Failure]]) -> str:
    """The page.

    Args:
        failures: by title.
    """
    tables = [f"\n## {title}\n\n{_table(rows)}" for title, rows in failures.items()]
    return _TEXT.format(count=sum(map(len, failures.values()))) + "".join(tables)


def _table(failures: Sequence[Failure]) -> str:
    rows = [("what is wrong", "command", "what is said"), ("---", "---", "---")]
    rows += [(failure.what, f"`{failure.command}`", f"``{failure.said}``") for failure in failures]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |\n" for row in rows)

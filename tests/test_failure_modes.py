"""Every bad input of docs/failure-modes.md ends with status 2 and one line that says what the page says."""

from __future__ import annotations

from pathlib import Path

import pytest

from support.failures import FAILURES
from support.failures.failure import Failure
from support.failures.page import PAGE, page

EVERY = [failure for failures in FAILURES.values() for failure in failures]


@pytest.mark.parametrize(
    "failure", EVERY, ids=[f"{number}: {failure.what[:60]}" for number, failure in enumerate(EVERY)]
)
def test_a_bad_input_gets_one_line(project: Path, failure: Failure) -> None:
    """Status 2 is asked for in support.endings; a traceback would be an exception here."""
    message = failure.message(project)
    assert failure.said in message and "\n" not in message


def test_the_page_lists_every_one() -> None:
    assert len(EVERY) >= 120
    assert len({(failure.what, failure.command) for failure in EVERY}) == len(EVERY)
    assert PAGE.read_text(encoding="utf-8") == page(FAILURES), "docs/failure-modes.md is stale: make failures"

"""How a process of this project ends where something is refused: status 2 and a message, which is one line."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr
from dataclasses import dataclass

import pytest

from pessimism import cli


@dataclass
class Refusal:
    """What was said: ``error: `` and why."""

    message: str = ""


@contextmanager
def refused(match: str = "") -> Iterator[Refusal]:
    """Expect that the block ends this process so, with a message in which the pattern ``match`` is found."""
    said, refusal = io.StringIO(), Refusal()
    with pytest.raises(SystemExit) as ended, redirect_stderr(said):
        yield refusal
    _, error, why = said.getvalue().rpartition("error: ")
    refusal.message = f"{error}{why}".removesuffix("\n")
    assert ended.value.code == 2 and error, f"found status {ended.value.code} and {said.getvalue()!r}"
    assert re.search(match, refusal.message), f"found {refusal.message!r}; expected {match!r}"


def failure(*arguments: object) -> str:
    """Message of a command that must be refused."""
    with refused() as refusal:
        cli.main([*map(str, arguments)])
    return refusal.message

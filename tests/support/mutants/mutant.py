"""What a planted bug is."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Mutant:
    """One bug in one file, and the tests that must notice it.

    Attributes:
        what: the bug, in words.
        path: file under ``src/pessimism``.
        old: text that stands there once.
        new: what it becomes.
        tests: test files, or single tests as ``file.py::name``, below ``tests``.
        equivalent: why no test can notice it; empty where one does.
    """

    what: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...]
    equivalent: str = ""

"""What a check found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One figure beside the criterion it was held against.

    Attributes:
        figure: what was measured, with its unit.
        criterion: what was asked of it.
        passed: whether it meets that.
    """

    figure: str
    criterion: str
    passed: bool

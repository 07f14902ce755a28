"""Curves as plain text, for a terminal: a panel per quantity, several series in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

HEIGHT = 7
"""Lines of a panel's canvas."""
_LABEL = 8
"""Characters of the numbers beside it."""


@dataclass(frozen=True)
class Series:
    """Points that share a mark, one character."""

    mark: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Panel:
    """One quantity over the steps.

    Attributes:
        series: later ones lie above earlier ones.
        with_zero: whether 0 is in sight whatever the values are, and has a line where it lies between them.
    """

    title: str
    series: Sequence[Series]
    with_zero: bool = False


def beside(left: list[str], right: list[str], gap: int = 3) -> list[str]:
    """Two panels of equal height next to one another."""
    width = max(map(len, left)) + gap
    return [(one.ljust(width) + other).rstrip() for one, other in zip(left, right, strict=True)]


def draw(panel: Panel, last_step: int, width: int) -> list[str]:
    """The lines of a panel.

    Args:
        last_step: at the right end; at the left end is 0.
        width: characters of a line, numbers included.
    """
    low, high = _range(panel)
    columns = width - _LABEL - 2
    labels = {0: f"{high:.3g}", HEIGHT - 1: f"{low:.3g}"}
    canvas = [[" "] * columns for _ in range(HEIGHT)]

    def line(value: float) -> int:
        return round((high - value) / (high - low) * (HEIGHT - 1))

    if panel.with_zero and line(0.0) not in labels:
        canvas[line(0.0)], labels[line(0.0)] = ["-"] * columns, "0"
    for series in panel.series:
        for step, value in series.points:
            canvas[line(value)][round(step / max(last_step, 1) * (columns - 1))] = series.mark
    lines = [f"{labels.get(place, ''):>{_LABEL}} |{''.join(row)}" for place, row in enumerate(canvas)]
    axis = f"{'':{_LABEL}} +{'-' * columns}"
    steps = f"{'':{_LABEL}}  0{str(last_step):>{columns - 1}}"
    return [f"{'':{_LABEL}}  {panel.title}", *lines, axis, steps]


def _range(panel: Panel) -> tuple[float, float]:
    """Lowest and highest value; a range around a single one."""
    values = [value for series in panel.series for _, value in series.points] + [0.0] * panel.with_zero
    low, high = min(values, default=0.0), max(values, default=0.0)
    return (low, high) if low < high else (low - 0.5, high + 0.5)

"""Rows of the table: one ratio with its spread, or one counted value, and the target that it is held against."""

from __future__ import annotations

import json
import operator
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

COMPARISONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "=": operator.eq}


@dataclass(frozen=True)
class Row:
    """One line of docs/bench.json.

    Attributes:
        ratio: median over the passes of a measurement; the counted value of a counter.
        low, high: smallest and largest ratio of a pass.
        target: comparison and number, such as ``<= 0.10``; None where a value is only shown.
        met: whether ``ratio`` meets the target.
        counter: whether a missed target ends the suite with status 1: work is counted, and equal every time.
    """

    id: str
    ratio: float
    low: float
    high: float
    target: str | None
    met: bool | None
    counter: bool = False

    def public(self) -> dict[str, object]:
        """Keys and values of docs/bench.json."""
        fields = asdict(self)
        del fields["counter"]
        return fields


def ratio_row(name: str, ratios: Sequence[float], target: str | None) -> Row:
    """The median of ``ratios``, one per pass, with the smallest and the largest."""
    middle = statistics.median(ratios)
    return Row(name, middle, min(ratios), max(ratios), target, meets(middle, target))


def counter_row(name: str, value: float, target: str | None) -> Row:
    """A counted value, or an error that stays below a stated tolerance."""
    return Row(name, value, value, value, target, meets(value, target), counter=target is not None)


def meets(value: float, target: str | None) -> bool | None:
    """Whether ``value`` meets a target such as ``<= 0.10``; None without one."""
    if target is None:
        return None
    comparison, limit = target.split()
    return COMPARISONS[comparison](value, float(limit))


def broken(rows: Sequence[Row]) -> list[Row]:
    """Counters that miss their target."""
    return [row for row in rows if row.counter and not row.met]


def write(rows: Sequence[Row], path: Path) -> None:
    path.write_text(json.dumps([row.public() for row in rows], indent=2) + "\n")


def line(row: Row) -> str:
    """One printed line."""
    spread = "" if row.low == row.high else f"{number(row.low)} .. {number(row.high)}"
    verdict = {True: "met", False: "MISSED", None: ""}[row.met]
    return f"{row.id:<50} {number(row.ratio):>9}  {spread:<20} {row.target or '':<10} {verdict}"


def markdown(rows: Sequence[Row]) -> str:
    """The table of docs/performance.md, as it stands there: ``python -m benchmarks`` prints it at the end."""
    lines = ["| | ratio or count | lowest .. highest | target | |", "|---|---|---|---|---|"]
    for row in rows:
        spread = "" if row.low == row.high else f"{number(row.low)} .. {number(row.high)}"
        verdict = {True: "met", False: "**missed**", None: ""}[row.met]
        lines.append(f"| {row.id} | {number(row.ratio)} | {spread} | {row.target or ''} | {verdict} |")
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Three significant digits; counts in full."""
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.1e}" if abs(value) < 1e-3 else f"{value:.3g}"

"""What the report's tables are made of: entries, rounded numbers, values per seed; tables of settings and metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

NONE = "–"
NEVER = "never"
SMALLEST_P = 0.0001
ROUNDING = 1e-12  # what is left of a parameter whose optimum is 0


@dataclass(frozen=True)
class Entry:
    """One entry of a table.

    Attributes:
        main: what stands in it.
        small: lines under it in smaller print.
        mark: how it is set off: one of the style classes of ``page``; empty = not.
    """

    main: str
    small: str = ""
    mark: str = ""


@dataclass(frozen=True)
class Table:
    """Headers and rows.

    Attributes:
        quiet_rows: set apart under the others, as the published numbers are.
        groups: titles over the headers, each with the number of columns that it spans; may be empty.
    """

    headers: Sequence[str]
    rows: Sequence[Sequence[Entry]]
    quiet_rows: Sequence[Sequence[Entry]] = ()
    groups: Sequence[tuple[str, int]] = ()


def number(value: Any, signed: bool = False, digits: int = 3) -> str:
    """Rounded to ``digits`` significant digits, or a dash where there is no value."""
    if value is None or pd.isna(value):
        return NONE
    if abs(value) < ROUNDING:
        return "0"
    sign = "+" if signed else ""
    if 10**digits <= abs(value) < 1e5:
        return f"{value:{sign}.0f}"
    return f"{value:{sign}.{digits}g}"


def p_value(p: float | None) -> str:
    """A p, rounded; one that is too small to matter how small is said to be below a bound."""
    return f"< {SMALLEST_P}" if p is not None and p < SMALLEST_P else number(p)


def bounds(interval: Sequence[float] | None) -> str:
    """An interval in brackets, which no line break parts, or nothing."""
    return "" if interval is None else f"[{number(interval[0])},\N{NO-BREAK SPACE}{number(interval[1])}]"


def lines(*texts: str) -> str:
    """The texts that are not empty, one per line."""
    return "\n".join(text for text in texts if text)


def over_seeds(values: pd.Series, signed: bool = False) -> Entry:
    """Mean over seeds, each seed's value under it, shorter."""
    if len(values) == 1:
        return Entry(number(values.iloc[0], signed))
    mean = values.dropna().mean() if values.notna().any() else None
    return Entry(number(mean, signed), seed_values(values, signed))


def seed_values(values: pd.Series, signed: bool = False) -> str:
    return " · ".join(number(value, signed, digits=2) for value in values)


def step(value: Any) -> str:
    """A measured step; missing or infinite = it never came."""
    return NEVER if pd.isna(value) or np.isinf(float(value)) else str(int(value))


def steps(values: pd.Series) -> str:
    """One step per seed."""
    return " · ".join(step(value) for value in values)


def count(amount: int, noun: str) -> str:
    """An amount with its noun in the right number."""
    return f"{amount:,} {noun}" if amount == 1 else f"{amount:,} {noun}s"


def metrics_table(records: Mapping[str, Mapping[str, Any]]) -> Table:
    """Every entry of the given metrics files, one row each."""
    rows = []
    for file, record in records.items():
        for name, value in leaves(record):
            rows.append([Entry(file), Entry(name), Entry(value if isinstance(value, str) else number(value))])
    return Table(["file", "metric", "value"], rows)


def leaves(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted names and values of a nested record, in its order."""
    for key, value in record.items():
        if isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def settings_table(settings: Mapping[str, Any], notes: Mapping[str, str] | None = None) -> Table:
    """Names and values of settings as they are; those that ``notes`` are about are marked, with the note."""
    notes = notes or {}
    rows = [
        [
            Entry(name),
            Entry(
                NONE if value is None else _spelled(value), notes.get(name, ""), mark="warning" if name in notes else ""
            ),
        ]
        for name, value in leaves(settings)
    ]
    return Table(["setting", "value"], rows)


def _spelled(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else str(value)

"""Which numbers a parameter may have. Every one of a scale and of a protocol is above 0, but for those listed here
and for a task's own settings, which the task checks.

No whole number is above MOST: a digit too many ends in a message, not in hours or in memory that is not there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Range:
    """What a number may be, for a message and for the comparison."""

    expected: str
    accepts: Callable[[float], bool]


ABOVE_0 = Range("a number above 0", lambda value: value > 0)
FROM_0 = Range("a number of 0 or more", lambda value: value >= 0)
RANGES = {
    "kl_noise_floor": FROM_0,
    "uwo_weight": FROM_0,
    "weight": FROM_0,
    "top_k": FROM_0,
    "shots": FROM_0,
    "learning_rate_factor": FROM_0,
    "bias": FROM_0,
    "discoverability": Range("a number in [0, 1)", lambda value: 0 <= value < 1),
    "lora_dropout": Range("a number in [0, 1)", lambda value: 0 <= value < 1),
    "kl_percentile": Range("a number in (0, 100]", lambda value: 0 < value <= 100),
    "top_p": Range("a number in (0, 1]", lambda value: 0 < value <= 1),
}
"""By the last part of a parameter's name."""
TASK_SETTINGS = "settings"
MOST = 10_000_000
"""More than a hundred times the paper's largest whole number, its 60,630 pairs."""


def range_problems(section: Any) -> list[str]:
    """What is wrong with the numbers of a dataclass of parameters, and of the dataclasses and dicts of them within."""
    problems = []
    for name, value in _numbers(section):
        allowed = RANGES.get(name.rpartition(".")[2], ABOVE_0)
        if not allowed.accepts(value):
            problems.append(f"{name}: found {value}; expected {allowed.expected}")
        elif isinstance(value, int) and value > MOST:
            problems.append(
                f"{name}: found {value:,}; expected at most {MOST:,}, more than a hundred times the paper's largest"
            )
    return problems


def _numbers(section: Any, prefix: str = "") -> Iterator[tuple[str, float]]:
    """Dotted name and value of every number."""
    items = section if isinstance(section, dict) else {key.name: getattr(section, key.name) for key in fields(section)}
    for name, value in items.items():
        if name == TASK_SETTINGS:
            continue
        if isinstance(value, dict) or is_dataclass(value):
            yield from _numbers(value, f"{prefix}{name}.")
        elif type(value) in (int, float):
            yield f"{prefix}{name}", value

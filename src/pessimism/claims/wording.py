"""Numbers and names in sentences that are computed."""

from __future__ import annotations

from collections.abc import Sequence

_NUMBERS = ("none", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")
TOTAL, OFFLINE, COUPLING = "total", "offline", "coupling"
DOORS = {
    TOTAL: "All that beta does",
    OFFLINE: "Through the checkpoint alone",
    COUPLING: "Through the penalty that grows with beta",
}
"""The three contrasts of the primary claim over arms, by question."""


def spelled(number: int) -> str:
    """A count in words up to twelve, in digits above."""
    return _NUMBERS[number] if number < len(_NUMBERS) else str(number)


def listed(parts: Sequence[str]) -> str:
    """The parts as a sentence lists them: a, b and c."""
    return " and ".join([", ".join(parts[:-1]), parts[-1]] if len(parts) > 1 else parts)

"""What a change of the parameters did to the results: the verdicts that it turned, the numbers that it moved."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pessimism.experiment import layout
from pessimism.reporting.tables import number

METRICS = (layout.VERDICTS, layout.HACKING, layout.POWER_LAW, layout.BASE_METRICS, layout.ENSEMBLE)
Record = Mapping[Path, Mapping[str, Any]]
"""What each metrics file holds."""
WIDTH = 118


def effect(turned: str, unchanged: Record, found: Record) -> str:
    """What a switch did: the verdicts that it turned and the numbers that it moved, both as they were and as they are.

    Args:
        turned: the switch with its value.
        unchanged, found: by metrics file what it holds, without the switch and with it.
    """
    verdicts = _told(_verdicts(unchanged), _verdicts(found))
    before, after = _numbers(unchanged), _numbers(found)
    numbers = _told(before, after)
    lines = [f"turns {'; '.join(verdicts)}" if verdicts else f"turns none of {len(_verdicts(found))} verdicts"]
    lines += [f"moves {len(numbers)} of {len(after)} numbers" + (f": {'; '.join(numbers)}" if numbers else "")]
    return "\n".join(
        [turned, *(textwrap.fill(line, WIDTH, initial_indent="  ", subsequent_indent="    ") for line in lines)]
    )


def _told(before: Mapping[str, str], after: Mapping[str, str]) -> list[str]:
    """What differs, in the order of the files."""
    names = [name for name in {**before, **after} if before.get(name) != after.get(name)]
    return [f"{name} {before.get(name, 'none')} -> {after.get(name, 'none')}" for name in names]


def _verdicts(metrics: Record) -> dict[str, str]:
    """Verdicts by name of the claim or the contrast; (paper): by the paper's measure."""
    measures = {"verdict": "", "verdict_paper": " (paper)"}
    found = metrics[layout.VERDICTS].items()
    return {f"{name}{shown}": one[key] for name, one in found for key, shown in measures.items() if key in one}


def _numbers(metrics: Record) -> dict[str, str]:
    """Every other metric over all seeds, those by beta as one, rounded: what rounds to the same has not moved."""
    estimates = {f"{name}.estimate": one.get("estimate") for name, one in metrics[layout.VERDICTS].items()}
    others = {
        f"{path.stem}.{key}": value
        for path, record in metrics.items()
        if path != layout.VERDICTS
        for key, value in record.items()
        if key != "seeds"
    }
    return {name: _shown(value) for name, value in (others | estimates).items() if value is not None}


def _shown(value: Any) -> str:
    if isinstance(value, Mapping):
        return " ".join(map(_shown, value.values()))
    return value if isinstance(value, str) else number(value)

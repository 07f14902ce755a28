"""Online cells while they run: the rows that they have measured so far, and whether somebody is still at work."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tqdm import tqdm

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.cells import is_cell_key
from pessimism.machine import running
from pessimism.online.stopping import gap_since
from pessimism.scoring.log_formats import whole_lines
from pessimism.scoring.runs import BATCH, HELDOUT

STAGE = "adapt_online"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class LiveCell:
    """An online cell as its file of rows has it now.

    Attributes:
        rows: in the order in which they were measured.
        age: seconds since the last was; nan where there is none.
        is_running: whether a process of this machine is at work on it.
    """

    key: str
    rows: list[Row] = field(default_factory=list)
    age: float = math.nan
    is_running: bool = False

    @classmethod
    def read(cls, key: str) -> LiveCell:
        """What stands there now; rows of an earlier run than the one at work are left out."""
        path, since = layout.RUN_RECORDS / f"{key}.jsonl", running.began(layout.STAGE_LOCKS, f"{STAGE}@{key}")
        if not path.is_file() or (since is not None and path.stat().st_mtime < since.timestamp()):
            return cls(key, is_running=since is not None)
        return cls(key, _rows(path), time.time() - path.stat().st_mtime, since is not None)

    def of(self, prompt_set: str) -> list[Row]:
        """Rows of the held-out problems, or of the training batches, by step."""
        return sorted((row for row in self.rows if row["prompt_set"] == prompt_set), key=lambda row: row["step"])

    @property
    def steps(self) -> int:
        """Steps of the whole run; 0 where no row tells."""
        return int(self.rows[-1]["steps"]) if self.rows else 0

    @property
    def done(self) -> int:
        """Steps whose batch has been measured, the last one counted from 1; 0 before."""
        return max((int(row["step"]) + 1 for row in self.of(BATCH)), default=0)

    @property
    def is_complete(self) -> bool:
        return self.done == self.steps > 0 and self.of(HELDOUT)[-1]["step"] == self.steps

    @property
    def gaps(self) -> list[tuple[float, float]]:
        """Step and gap of every evaluation, in standard deviations of the checkpoint; none where these are 0."""
        rows = self.of(HELDOUT)
        known = bool(rows) and rows[0]["step"] == 0 and rows[0]["proxy_reward_sd"] > 0
        return [(row["step"], gap_since(rows[0], row)) for row in rows] if known else []

    def with_gap(self, row: Row) -> Row:
        """A row of the cell; that of an evaluation with its gap, where there is one."""
        gap = dict(self.gaps).get(row["step"]) if row["prompt_set"] == HELDOUT else None
        return row if gap is None else {**row, "gap": gap}

    def state(self) -> str:
        """Whether it runs and how long it will, or how it ended, and how old the last row is."""
        if not self.rows:
            return "running, no row yet"
        told = "running" if self.is_running else "finished" if self.is_complete else "ended before its last step"
        left = [f"{tqdm.format_interval(self._seconds_left)} left"] if self.is_running and self.done else []
        return ", ".join([told, *left, f"last row {ago(self.age)} ago"])

    @property
    def _seconds_left(self) -> float:
        return float(self.rows[-1]["seconds"]) / self.done * (self.steps - self.done)


def all_cells() -> list[LiveCell]:
    """Every cell that has rows or is at work, by name."""
    keys = {path.stem for path in layout.RUN_RECORDS.glob("*.jsonl") if is_cell_key(path.stem)}
    locks = {path.name.removeprefix(f"{STAGE}@") for path in layout.STAGE_LOCKS.glob(f"{STAGE}@*")}
    cells = [LiveCell.read(key) for key in sorted(keys | locks)]
    return [cell for cell in cells if cell.rows or cell.is_running]


def looks(key: str, pause: float) -> Iterator[LiveCell]:
    """The cell now, after ``pause`` seconds again, and so on until nobody is at work on it.

    Raises:
        DataError: it has no row, and nobody is at work on it.
    """
    while True:
        cell = LiveCell.read(key)
        if not cell.rows and not cell.is_running:
            known = ", ".join(cell.key for cell in all_cells()) or "none"
            raise DataError(
                f"found no rows of {key!r} in {layout.RUN_RECORDS}, and nobody who runs it; expected an online cell "
                f"that runs or has run here: {known}"
            )
        yield cell
        if not cell.is_running:
            return
        time.sleep(pause)


def ago(seconds: float) -> str:
    """A time in its largest unit."""
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{max(seconds, 0):.0f} s"


def _rows(path: Path) -> list[Row]:
    """The whole lines of a file that somebody may still write.

    Raises:
        DataError: a line is no row.
    """
    lines = whole_lines(path.read_text(encoding="utf-8"), path.suffix).splitlines()
    try:
        return [json.loads(line) for line in lines]
    except json.JSONDecodeError as error:
        raise DataError(f"{path} is no JSON by lines ({error}); expected the rows of a cell: remove it") from error

"""Rows of online cells sent on to a tracker of experiments on this machine, as a run per cell."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from typing import Any

from pessimism.commands.live_cells import LiveCell, Row
from pessimism.errors import ParamsError
from pessimism.experiment import layout

TENSORBOARD = layout.RUN_RECORDS / "tensorboard"
PROJECT = "pessimism"
"""What Trackio calls the runs of all cells together."""
INSTALLED = {
    "tensorboard": "pip install -c constraints.txt 'pessimism[tensorboard]'",
    "trackio": "pip install 'pessimism[trackio]', in an environment of its own (docs/running.md)",
}
"""How to get their packages."""
SHOWN = {"tensorboard": f"tensorboard --logdir {TENSORBOARD}", "trackio": f"trackio show --project {PROJECT}"}
"""How to see what was sent."""
Send = Callable[[str, Sequence[Row], bool], None]
"""Sends rows of a cell; whether they are the first of a run, so that those of an earlier one are no more."""


class Forwarding:
    """Rows on their way to a tracker, each of which is sent once."""

    def __init__(self, kind: str) -> None:
        self._send = KINDS[kind]()
        self._sent: dict[str, list[Row]] = {}

    def send(self, cell: LiveCell) -> int:
        """Send what is new of a cell, all of it where its file was begun anew; return the number of rows."""
        before = self._sent.get(cell.key, [])
        anew = not before or cell.rows[: len(before)] != before
        rows = cell.rows if anew else cell.rows[len(before) :]
        if rows:
            self._send(cell.key, [cell.with_gap(row) for row in rows], anew)
            self._sent[cell.key] = cell.rows
        return len(rows)


def tensorboard() -> Send:
    """Event files, in a folder per cell."""
    with _needed("tensorboard"):
        from torch.utils.tensorboard import SummaryWriter

    writers: dict[str, Any] = {}

    def send(cell: str, rows: Sequence[Row], anew: bool) -> None:
        if anew:
            if cell in writers:
                writers[cell].close()
            # Hides what stands in the folder already, of whichever run.
            writers[cell] = SummaryWriter(str(TENSORBOARD / cell), purge_step=0)
        for row in rows:
            for name, value in _values(row).items():
                writers[cell].add_scalar(name, value, row["step"])
        writers[cell].flush()

    return send


def trackio() -> Send:
    """Trackio's database on this machine."""
    with _needed("trackio"):
        import trackio as package

    def send(cell: str, rows: Sequence[Row], anew: bool) -> None:
        # It holds one run open at a time. The load of this process is none of the cell's.
        resume, load = "never" if anew else "must", {"auto_log_gpu": False, "auto_log_cpu": False}
        with redirect_stdout(io.StringIO()):  # what it says of each run would stand in the drawing
            run = package.init(PROJECT, cell, resume=resume, embed=False, **load)
            for row in rows:
                run.log(_values(row), step=row["step"])
            run.finish()

    return send


KINDS: dict[str, Callable[[], Send]] = {"tensorboard": tensorboard, "trackio": trackio}


def _values(row: Row) -> dict[str, float]:
    """Numbers of a row, by the set of prompts that they were measured on."""
    return {
        f"{row['prompt_set']}/{name}": value
        for name, value in row.items()
        if isinstance(value, (int, float)) and name not in ("step", "steps")
    }


@contextmanager
def _needed(name: str) -> Iterator[None]:
    """Import a tracker's package, which is optional, in the body.

    Raises:
        ParamsError: it is not installed.
    """
    try:
        yield
    except ImportError as error:
        raise ParamsError(
            f"--report-to {name}: found no package {name} ({error}); expected it installed: {INSTALLED[name]}"
        ) from error

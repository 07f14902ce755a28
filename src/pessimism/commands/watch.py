"""Online cells as they run: drawn in the terminal, told line by line in a pipe, or sent on to a tracker."""

from __future__ import annotations

import argparse
import shutil
import sys
import time
from collections.abc import Iterator
from typing import NoReturn

from pessimism.commands import trackers
from pessimism.commands.live_cells import LiveCell, Row, all_cells, looks
from pessimism.commands.table import aligned
from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.reporting.text_panels import Panel, Series, beside, draw
from pessimism.scoring.runs import BATCH, HELDOUT

PAUSE = 2.0
"""Seconds between two looks at the files."""
LEGEND = (
    "At the last held-out evaluation: means of proxy and true reward; the gap between their changes since the start,\n"
    "in standard deviations of the checkpoint; KL from the checkpoint, nats."
)
_WIDEST, _NARROWEST = 140, 60
_BACK_UP = "\x1b[{lines}A\x1b[J"
"""Moves a terminal's cursor to the first of so many lines, and clears from there."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Online cells of this project that run or have run here. Without CELL: a line for each. With CELL: its curves, "
        "until it ends; where the output is no terminal, a line per held-out evaluation, and the curves at the end."
    )
    parser.add_argument("cell", nargs="?", metavar="CELL", help="such as p50-s0-proxy")
    parser.add_argument(
        "--report-to",
        choices=sorted(trackers.KINDS),
        help=f"send every row on: to TensorBoard's files in {trackers.TENSORBOARD}, or to Trackio's project "
        f"{trackers.PROJECT} on this machine; without CELL those of all cells, until Ctrl-C",
    )


def run(options: argparse.Namespace) -> None:
    forwarding = trackers.Forwarding(options.report_to) if options.report_to else None
    if options.cell is None and forwarding is None:
        print(listing())
        return
    try:
        if options.cell is not None:
            follow = _redraw if sys.stdout.isatty() else _tell
            follow(_sent(looks(options.cell, PAUSE), forwarding))
        elif forwarding is not None:
            print(f"sending rows until Ctrl-C; to see them: {trackers.SHOWN[options.report_to]}", flush=True)
            _forward_all(forwarding)
    except KeyboardInterrupt:  # the user has seen enough
        return


def listing() -> str:
    """A row per cell: its last held-out evaluation and what it is doing.

    Raises:
        DataError: there is none.
    """
    cells = all_cells()
    if not cells:
        raise DataError(
            f"found no rows of online cells in {layout.RUN_RECORDS}; expected those of a run: start one with "
            "`make reproduce` or `dvc repro`"
        )
    header = ("cell", "step", "proxy", "true", "gap", "KL", "")
    return "\n".join([aligned([header, *map(_listed, cells)]), LEGEND])


def _listed(cell: LiveCell) -> tuple[str, ...]:
    evaluations = cell.of(HELDOUT)
    values = _values(evaluations[-1], cell) if evaluations else ("", "", "", "")
    return cell.key, f"{cell.done} of {cell.steps}" if cell.rows else "", *values, cell.state()


def _values(row: Row, cell: LiveCell) -> tuple[str, str, str, str]:
    """Proxy, true reward, gap and KL of a held-out evaluation."""
    gap = cell.with_gap(row).get("gap")
    proxy, true, kl = (f"{row[name]:.3f}" for name in ("proxy_reward", "true_reward", "kl_k3"))
    return proxy, true, "" if gap is None else f"{gap:+.2f}", kl


def _sent(cells: Iterator[LiveCell], forwarding: trackers.Forwarding | None) -> Iterator[LiveCell]:
    for cell in cells:
        if forwarding is not None:
            forwarding.send(cell)
        yield cell


def _forward_all(forwarding: trackers.Forwarding) -> NoReturn:
    """Send on the rows of every cell, and look again, without end."""
    while True:
        for cell in all_cells():
            count = forwarding.send(cell)
            if count:
                print(f"{cell.key}: {count} row(s) sent, step {cell.done} of {cell.steps}", flush=True)
        time.sleep(PAUSE)


def _redraw(cells: Iterator[LiveCell]) -> None:
    """Draw a cell again and again over itself; a line that the terminal broke would be counted as one."""
    drawn = 0
    for cell in cells:
        width = shutil.get_terminal_size().columns
        lines = [line[:width] for line in drawing(cell, width).splitlines()]
        print(_BACK_UP.format(lines=drawn) * bool(drawn) + "\n".join(lines), flush=True)
        drawn = len(lines)


def _tell(cells: Iterator[LiveCell]) -> None:
    """Tell each held-out evaluation once, and draw the cell at its end."""
    told = set[int]()
    for cell in cells:
        for row in cell.of(HELDOUT):
            if row["step"] not in told:
                told.add(row["step"])
                values = zip(("proxy", "true", "gap", "KL"), _values(row, cell), strict=True)
                said = ", ".join(f"{name} {value}" for name, value in values if value)
                print(f"{cell.key}: step {row['step']} of {cell.steps}: {said}", flush=True)
        if not cell.is_running:
            print(drawing(cell, _WIDEST))


def drawing(cell: LiveCell, width: int) -> str:
    """Its four curves over the steps, two beside one another.

    Args:
        width: characters of a line.
    """
    half = (min(max(width, _NARROWEST), _WIDEST) - 3) // 2
    proxy, true, gap, kl = (draw(panel, cell.steps, half) for panel in _panels(cell))
    speed = [f"{cell.rows[-1]['tokens_per_second']:.0f} tokens/s"] if cell.rows else []
    head = ", ".join([f"{cell.key}: step {cell.done} of {cell.steps or '?'}", *speed])
    return "\n".join(
        [head, cell.state(), *beside(proxy, true), *beside(gap, kl), "o held-out problems   . training batches"]
    )


def _panels(cell: LiveCell) -> list[Panel]:
    def both(name: str) -> list[Series]:
        sets = ((".", BATCH), ("o", HELDOUT))
        return [Series(mark, [(row["step"], row[name]) for row in cell.of(which)]) for mark, which in sets]

    return [
        Panel("proxy reward", both("proxy_reward")),
        Panel("true reward", both("true_reward")),
        Panel("gap, sd of the checkpoint", [Series("o", cell.gaps)], with_zero=True),
        Panel("KL from the checkpoint, nats", both("kl_k3"), with_zero=True),
    ]

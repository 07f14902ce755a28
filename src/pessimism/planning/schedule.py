"""The pipeline's cells on several GPUs: what waits for what, the critical path, and how long it all takes."""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from pessimism.experiment.params import Params
from pessimism.experiment.pipeline import Stage

_TEMPLATE = re.compile(r"\$\{([^}]+)\}")


@dataclass(frozen=True)
class Cell:
    """One execution of a stage, under the name that DVC gives it.

    Attributes:
        after: names of the cells whose outputs it reads.
    """

    name: str
    stage: str
    after: tuple[str, ...]


def cells_of(stages: list[Stage], params: Params) -> list[Cell]:
    """Every cell of the design, in an order in which they can run."""
    executions = [execution for stage in stages for execution in _executions(stage, params)]
    cells = [
        Cell(
            name, stage, tuple(earlier for earlier, _, _, writes in executions if _reads(reads, writes, name, earlier))
        )
        for name, stage, reads, _ in executions
    ]
    return _ordered(cells)


def critical_path(cells: list[Cell], hours: Mapping[str, float]) -> list[Cell]:
    """The chain of cells that takes longest, by ``hours`` per stage: no number of GPUs is faster.

    Returns:
        The cells from first to last.
    """
    ends: dict[str, float] = {}
    before: dict[str, str | None] = {}
    for cell in cells:
        latest = max(cell.after, key=lambda name: ends[name], default=None)
        before[cell.name] = latest
        ends[cell.name] = hours[cell.stage] + (0 if latest is None else ends[latest])
    by_name = {cell.name: cell for cell in cells}
    name: str | None = max(ends, key=lambda key: ends[key])
    path = []
    while name is not None:
        path.append(by_name[name])
        name = before[name]
    return path[::-1]


def makespan(cells: list[Cell], hours: Mapping[str, float], on_gpu: set[str], gpus: int) -> float:
    """Hours until the last cell ends, each cell that needs a GPU on one of ``gpus``; list scheduling.

    Of the cells that could start, the one before the longest chain starts first. A cell without a GPU starts at once.
    """
    rank = _ranks(cells, hours)
    waiting = {cell.name: len(cell.after) for cell in cells}
    ready = [(-rank[cell.name], cell.name) for cell in cells if not cell.after]
    heapq.heapify(ready)
    by_name = {cell.name: cell for cell in cells}
    running: list[tuple[float, str]] = []
    now, free = 0.0, gpus
    while ready or running:
        held_back = []
        while ready:
            entry = heapq.heappop(ready)
            stage = by_name[entry[1]].stage
            if stage in on_gpu and free == 0:
                held_back.append(entry)
                continue
            free -= stage in on_gpu
            heapq.heappush(running, (now + hours[stage], entry[1]))
        for entry in held_back:
            heapq.heappush(ready, entry)
        now, ended = heapq.heappop(running)
        free += by_name[ended].stage in on_gpu
        for cell in cells:
            if ended in cell.after:
                waiting[cell.name] -= 1
                if waiting[cell.name] == 0:
                    heapq.heappush(ready, (-rank[cell.name], cell.name))
    return now


def _ranks(cells: list[Cell], hours: Mapping[str, float]) -> dict[str, float]:
    """Hours from the start of each cell to the end of the longest chain that begins with it."""
    rank: dict[str, float] = {}
    for cell in reversed(cells):
        later = [rank[other.name] for other in cells if cell.name in other.after]
        rank[cell.name] = hours[cell.stage] + max(later, default=0)
    return rank


_Execution = tuple[str, str, tuple[str, ...], tuple[str, ...]]


def _executions(stage: Stage, params: Params) -> list[_Execution]:
    """Name, stage, reads and writes of each cell of a stage."""
    found = []
    for values in itertools.product(*(getattr(params, key) for key in stage.axes.values())):
        item = dict(zip(stage.axes, values, strict=True))
        name = f"{stage.name}@{'-'.join(map(str, values))}" if values else stage.name
        reads, writes = (tuple(_filled(path, item, params) for path in paths) for paths in (stage.reads, stage.writes))
        found.append((name, stage.name, reads, writes))
    return found


def _filled(path: str, item: Mapping[str, object], params: Params) -> str:
    """A path of dvc.yaml with the values of one cell in place of its templates."""

    def value(match: re.Match[str]) -> str:
        name = match.group(1)
        if name.startswith("item."):
            return str(item[name.removeprefix("item.")])
        if name == "arms[0]":
            return params.primary_arm
        return {"scale": params.scale_name, "protocol": params.protocol_name}.get(name, match.group(0))

    return _TEMPLATE.sub(value, path)


def _reads(reads: tuple[str, ...], writes: tuple[str, ...], name: str, earlier: str) -> bool:
    return name != earlier and any(_overlap(read, written) for read in reads for written in writes)


def _overlap(left: str, right: str) -> bool:
    """Whether one path is the other or lies in it."""
    parts = PurePosixPath(left).parts, PurePosixPath(right).parts
    shorter = min(map(len, parts))
    return parts[0][:shorter] == parts[1][:shorter]


def _ordered(cells: list[Cell]) -> list[Cell]:
    """Cells after all that they wait for; else as given."""
    placed: dict[str, Cell] = {}
    left = list(cells)
    while left:
        able = [cell for cell in left if all(name in placed for name in cell.after)]
        placed |= {cell.name: cell for cell in able}
        left = [cell for cell in left if cell.name not in placed]
    return list(placed.values())

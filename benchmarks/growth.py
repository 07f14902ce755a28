"""B12: how the wall time of a whole run and the lines of its lock grow with the design; no stage computes anything.

What is left is what DVC and this project take per stage: to start it, to look at what it depends on, to record it.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from benchmarks import dag
from benchmarks.rows import Row, counter_row, ratio_row
from pessimism.experiment import layout

# Ten cells a seed: two reward models and, for both betas, training, online run, probe and best of n.
DESIGN: dict[str, Any] = {
    "beta_percentiles": [20, 50],
    "ensemble_members": [0, 1],
    "arms": ["proxy"],
    "offline_cells": [],
}
CELLS_PER_SEED = 10
CELLS = (50, 100, 200)

STUB = '''"""Write every output of the stage, or of one of its cells; what later stages read by its key is in each."""

import json
import sys
from pathlib import Path

OUTPUTS = {outputs}
KEYS = {keys}
item = {{flag.removeprefix("--"): value for flag, value in zip(sys.argv[1::2], sys.argv[2::2])}}
for output in OUTPUTS:
    for axis, value in item.items():
        output = output.replace("${{item." + axis + "}}", value)
    output = output.replace("${{prefix}}", "")
    path = Path(output) if Path(output).suffix else Path(output, "content.json")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(KEYS | {{"output": output}}))
'''


@dataclass(frozen=True)
class Whole:
    """A whole run of one design."""

    cells: int
    stages: int
    """Cells, and what stands once: what all cells share, and what gathers them."""
    seconds: float
    lock_lines: int

    @property
    def per_stage(self) -> float:
        """Seconds."""
        return self.seconds / self.stages


def write_stubs(seeds: Sequence[int]) -> None:
    """Put a script that only writes in the place of every stage; what the cells share is recorded as it is."""
    keys = {f"p{percentile}": 0.1 for percentile in DESIGN["beta_percentiles"]} | {f"s{seed}": 0.1 for seed in seeds}
    for name, stage in yaml.load(layout.PIPELINE.read_text(), yaml.CSafeLoader)["stages"].items():
        script = Path("stages", f"{name}.py")
        if script.is_file():
            listed = [*stage.get("outs", []), *stage.get("metrics", [])]
            outputs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in listed]
            script.write_text(STUB.format(outputs=outputs, keys=keys))


def run_whole(cells: int) -> Whole:
    """``dvc repro`` of a design with this many cells, in a fresh copy."""
    seeds = list(range(cells // CELLS_PER_SEED))
    with dag.copied_project(seeds=seeds, **DESIGN) as environment:
        write_stubs(seeds)
        start = time.perf_counter()
        dag.run(sys.executable, "-m", "dvc", "repro", environment=environment)
        seconds = time.perf_counter() - start
        lock = layout.LOCK.read_text()
    stages = list(yaml.load(lock, yaml.CSafeLoader)["stages"])
    return Whole(sum("@" in stage for stage in stages), len(stages), seconds, len(lock.splitlines()))


def measure() -> list[Row]:
    """B12."""
    return growth_rows([run_whole(cells) for cells in CELLS])


def growth_rows(runs: Sequence[Whole]) -> list[Row]:
    """Per-stage seconds and lines of the lock; of three designs, the smallest first, each with more cells."""
    small, middle, large = runs
    slower = large.per_stage / small.per_stage
    more = lines_per_cell(middle, large) / lines_per_cell(small, middle)
    return [
        *[ratio_row(f"B12 seconds per stage, {run.cells} cells", [run.per_stage], None) for run in runs],
        ratio_row(f"B12 seconds per stage, {large.cells} cells / {small.cells}", [slower], "<= 1.3"),
        *[counter_row(f"B12 lines of dvc.lock, {run.cells} cells", run.lock_lines, None) for run in runs],
        counter_row("B12 lines of a further cell, second half / first", more, "= 1"),
    ]


def lines_per_cell(smaller: Whole, larger: Whole) -> float:
    """Lines of the lock that a cell adds."""
    return (larger.lock_lines - smaller.lock_lines) / (larger.cells - smaller.cells)

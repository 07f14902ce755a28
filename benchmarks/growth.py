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
COMMANDS = {"dvc repro": ["dvc", "repro"], "pessimism repro": ["pessimism.cli", "repro"]}

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


def write_stubs(seeds: Sequence[int]) -> None:
    """Put a script that only writes in the place of every stage; what the cells share is recorded as it is."""
    keys = {f"p{percentile}": 0.1 for percentile in DESIGN["beta_percentiles"]} | {f"s{seed}": 0.1 for seed in seeds}
    for name, stage in yaml.load(layout.PIPELINE.read_text(), yaml.CSafeLoader)["stages"].items():
        script = Path("stages", f"{name}.py")
        if script.is_file():
            listed = [*stage.get("outs", []), *stage.get("metrics", [])]
            outputs = [entry if isinstance(entry, str) else next(iter(entry)) for entry in listed]
            script.write_text(STUB.format(outputs=outputs, keys=keys))


def run_whole(command: Sequence[str], cells: int) -> Whole:
    """A whole run by ``command`` of a design with this many cells, in a fresh copy."""
    seeds = list(range(cells // CELLS_PER_SEED))
    with dag.copied_project(seeds=seeds, **DESIGN) as environment:
        write_stubs(seeds)
        start = time.perf_counter()
        dag.run(sys.executable, "-m", *command, environment=environment)
        seconds = time.perf_counter() - start
        lock = layout.LOCK.read_text()
    stages = list(yaml.load(lock, yaml.CSafeLoader)["stages"])
    return Whole(sum("@" in stage for stage in stages), len(stages), seconds, len(lock.splitlines()))


def slope(smaller: Whole, larger: Whole) -> float:
    """Lines of the lock that a cell adds."""
    return (larger.lock_lines - smaller.lock_lines) / (larger.cells - smaller.cells)


def measure(cells: Sequence[int] = CELLS) -> list[Row]:
    """B12, by both commands.

    Args:
        cells: of three designs.
    """
    found: list[Row] = []
    for name, command in COMMANDS.items():
        small, middle, large = runs = [run_whole(command, count) for count in cells]
        per_stage = [whole.seconds / whole.stages for whole in runs]
        found += [
            ratio_row(f"B12 {name}, seconds per stage, {whole.cells} cells", [seconds], None)
            for whole, seconds in zip(runs, per_stage, strict=True)
        ]
        ratio = per_stage[-1] / per_stage[0]
        found.append(ratio_row(f"B12 {name}, seconds per stage, {large.cells} / {small.cells}", [ratio], "<= 1.3"))
    found += [counter_row(f"B12 lines of the lock, {whole.cells} cells", whole.lock_lines, None) for whole in runs]
    ratio = slope(middle, large) / slope(small, middle)
    found.append(counter_row("B12 lines a further cell adds, second half / first", ratio, "= 1"))
    return found

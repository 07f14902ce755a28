"""B8 and S1: what DVC takes to find nothing to do, which stages a further percentile runs, and the start of a stage."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from benchmarks import arms, worlds
from benchmarks.rows import Row, counter_row, ratio_row
from pessimism.experiment import layout

STAGES = 60  # at least
PERCENTILES = [20, 50, 80]
DESIGN: dict[str, Any] = {"beta_percentiles": PERCENTILES, "seeds": [0, 1, 2, 3], "arms": ["proxy", "placebo"]}
ADDED = 65
COPIED = ("dvc.yaml", "params.yaml", "scales", "protocols", "stages", "src", ".dvc", ".dvcignore")
# What reads the list of percentiles: the check of the parameters, the grid of betas, and what is about all cells.
OVER_ALL = {
    "check_params", "derive_beta_grid", "score_hacking", "fit_power_law", "trace_mechanism", "check_claims", "report"
}  # fmt: skip


def run(*command: str, environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stderr[-2000:]}")
    return done.stdout


@contextmanager
def copied_project(**changes: Any) -> Iterator[dict[str, str]]:
    """A copy of the checkout with another design, in which nothing has been run; yields its environment."""
    with worlds.temporary_directory() as directory:
        environment = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "DVC_SITE_CACHE_DIR": str(directory / ".home/site"),
            "DVC_GLOBAL_CONFIG_DIR": str(directory / ".home/global"),
        }
        listed = subprocess.run(
            ["git", "ls-files", "-z", *COPIED],
            cwd=worlds.CHECKOUT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            Path(name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(worlds.CHECKOUT / name, name, follow_symlinks=False)
        design(**changes)
        run("git", "init", "-q", environment=environment)
        yield environment


@contextmanager
def finished_project() -> Iterator[dict[str, str]]:
    """A copy whose stages all stand as run, with invented outputs; yields its environment."""
    with copied_project(**DESIGN) as environment:
        invent_outputs()
        run(sys.executable, "-m", "dvc", "commit", "--force", "--quiet", environment=environment)
        yield environment


def design(**changes: Any) -> None:
    path = Path("params.yaml")
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))


def resolved_stages() -> dict[str, Any]:
    """Stages of dvc.yaml, cells included, as DVC resolves them."""
    from dvc.repo import Repo

    with Repo() as repo:
        return {stage.addressing: stage for stage in repo.index.stages}


def invent_outputs() -> None:
    """Write a file for every output: as if each held the beta of every percentile, of which stages read keys."""
    percentiles = {f"p{percentile}": 0.1 for percentile in PERCENTILES}
    for stage in resolved_stages().values():
        for out in stage.outs:
            path = Path(out.fs_path)
            if path.suffix:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(json.dumps(percentiles))
            else:
                path.mkdir(parents=True, exist_ok=True)
                (path / "content.txt").write_text(path.name)


def reproduced(environment: dict[str, str]) -> set[str]:
    """Stages that ``dvc repro`` runs."""
    printed = run(sys.executable, "-m", "dvc", "repro", environment=environment)
    return set(re.findall(r"^Running stage '([^']+)'", printed, re.M))


def add_percentile() -> None:
    """Ask for a further percentile, and write its beta beside the others, as derive_beta_grid does."""
    design(beta_percentiles=[*PERCENTILES, ADDED])
    betas = json.loads(layout.BETA_GRID.read_text())
    layout.BETA_GRID.write_text(json.dumps(betas | {f"p{ADDED}": 0.2}))


def measure() -> list[Row]:
    """B8: seconds, and stages that should not run or should have run."""
    with finished_project() as environment:
        count, ran = len(resolved_stages()), reproduced(environment)
        dvc = [sys.executable, "-m", "dvc"]
        seconds = arms.interleaved(
            {
                "repro": lambda: run(*dvc, "repro", environment=environment),
                "start": lambda: run(*dvc, "status", "check_params", environment=environment),
            },
            rounds=2,
        )
        add_percentile()
        would_run = set(json.loads(run(sys.executable, "-m", "dvc", "status", "--json", environment=environment)))
        cells = {name for name in resolved_stages() if f"p{ADDED}" in name or f"@{ADDED}" in name}
    wrong = (would_run - OVER_ALL) ^ cells
    return [
        counter_row("B8 stages of the design", count, f">= {STAGES}"),
        counter_row("B8 stages run where nothing changed", len(ran), "= 0"),
        ratio_row("B8 no-op dvc repro, seconds", seconds["repro"], "<= 4"),
        ratio_row("B8 dvc status of one stage, seconds", seconds["start"], None),
        counter_row("B8 percentile added: cells run or left out wrongly", len(wrong), "= 0"),
    ]


IMPORT = "import runpy, sys; runpy.run_path(sys.argv[1], run_name='imported')"


def import_seconds(script: Path) -> tuple[float, float]:
    """Seconds that the imports of a stage script take: of this project's own modules, and of all others."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", IMPORT, str(script)], capture_output=True, text=True, check=True
    )
    own = libraries = 0
    for line in done.stderr.splitlines():
        found = re.fullmatch(r"import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)", line)
        if found and found[2].split(".")[0] == "pessimism":
            own += int(found[1])
        elif found:
            libraries += int(found[1])
    return own / 1e6, libraries / 1e6


def measure_start() -> list[Row]:
    """S1: the slowest stage's own imports; the share of the libraries is printed for each."""
    own = []
    for script in sorted((worlds.CHECKOUT / "stages").glob("*.py")):
        seconds, libraries = import_seconds(script)
        print(f"  {script.stem:<20} own {seconds:.2f} s, libraries {libraries:.1f} s", flush=True)
        own.append(seconds)
    return [Row("S1 start-up, own seconds of a stage", max(own), min(own), max(own), "<= 1", max(own) <= 1)]

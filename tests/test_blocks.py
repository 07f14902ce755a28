"""A seed is a block: DVC runs what is of the new seed or arm, and nothing of another, told by the pipeline as it is.

The scripts that compute are replaced by one that writes what DVC expects in no time; tests/test_smoke.py does the same
with models.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from support.project_copy import FAN_IN, Project, commit, new_project
from support.repository import python_files

WRITER = '''
"""Write every output of the stage: its cell, or the design that it gathers."""

import json
import sys
from pathlib import Path

import yaml

given = {flag.removeprefix("--"): value for flag, value in zip(sys.argv[1::2], sys.argv[2::2])}
design = yaml.safe_load(Path("params.yaml").read_text())
body = yaml.safe_load(Path("dvc.yaml").read_text())["stages"][Path(__file__).stem]
gathered = {} if Path(__file__).stem == "check_params" else design
BY_KEY = {
    "metrics/beta_grid.json": {f"p{percentile}": percentile for percentile in design["beta_percentiles"]},
    "metrics/reward_members.json": {f"s{seed}": {"score_mean": seed} for seed in design["seeds"]},
}
for entry in [*body.get("outs", []), *body.get("metrics", [])]:
    name = entry if isinstance(entry, str) else next(iter(entry))
    path = name.replace("${prefix}", "")
    for axis, value in given.items():
        path = path.replace(f"${{item.{axis}}}", value)
    file = Path(path) if Path(path).suffix else Path(path) / "content.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(BY_KEY.get(path, given or gathered)))
'''
OVER_SEEDS = ["assess_ensemble", "measure_base"]
"""Stages that run a model for all seeds."""


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project of two betas, one seed and two arms in which every stage has been run once."""
    project = new_project(tmp_path_factory.mktemp("blocks") / "project")
    for script in (script for script in python_files("stages") if script.stem != "record_inputs"):
        (project.root / "stages" / script.name).write_text(WRITER)
    project.dvc("repro")
    commit(project, "run")
    return project


def test_a_seed_more_runs_its_block_and_back_leaves_nothing(finished: Project) -> None:
    before = finished.results()
    finished.design(seeds=[0, 1])
    block = [f"train_reward_model@1-{member}" for member in (0, 1)]
    checkpoints = ("train_dpo", "probe_policy", "select_best_of_n")
    block += [f"{stage}@{percentile}-1" for stage in checkpoints for percentile in (20, 90)]
    block += [f"adapt_online@{percentile}-1-{arm}" for percentile in (20, 90) for arm in ("proxy", "placebo")]
    assert sorted(finished.dvc("repro")) == sorted(["check_params", *block, *OVER_SEEDS, *FAN_IN])
    assert finished.dvc("repro") == []

    finished.design(seeds=[0])
    assert "removed models/reward/s1" in finished.pessimism("prune").splitlines()
    assert set(finished.dvc("repro")) <= {"check_params", *OVER_SEEDS, *FAN_IN}  # those not in the run cache
    assert finished.results() == before
    assert finished.succeed("git", "diff", "--name-only", "HEAD", "--", "metrics", "plots", "dvc.lock") == ""
    assert not [path for folder in ("data", "models") for path in Path(finished.root / folder).rglob("*s1*")]


def test_an_arm_more_runs_its_cells_alone(finished: Project) -> None:
    finished.design(arms=["proxy", "placebo", "oracle"])
    cells = [f"adapt_online@{percentile}-0-oracle" for percentile in (20, 90)]
    assert sorted(finished.dvc("repro")) == sorted(["check_params", *cells, *FAN_IN])

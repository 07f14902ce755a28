"""The disturbances are those of the plan, and what one may not leave is found where it is planted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from benchmarks.chaos import checks, page
from benchmarks.chaos.__main__ import cached_of, disturb
from benchmarks.chaos.disturb import Account, Disturbed, turn_a_bit
from benchmarks.chaos.plan import (
    AT_REST,
    AT_WORK,
    BEGINS,
    COMPUTES,
    DELETED,
    KEEPS,
    KILLED,
    KINDS,
    ONE_BY_ONE,
    PLAIN,
    SAVES,
    SIDE_BY_SIDE,
    TERMINATED,
    TOGETHER,
    Disturbance,
    plan,
    stage_of,
)
from benchmarks.chaos.project import Project
from benchmarks.micro import DESIGN
from pessimism.experiment import layout, pipeline
from support.repository import CHECKOUT
from support.stage_code import STAGES

NAMES = pipeline.lock_names(pipeline.load_stages(CHECKOUT / "dvc.yaml"), {**DESIGN, "offline_cells": []})
SOME = Disturbance("prepare_data", KILLED, BEGINS, 0.0, PLAIN)


# The plan


@pytest.mark.parametrize("seed", range(3))
def test_the_plan_has_every_stage_at_work_and_every_kind(seed: int) -> None:
    planned = plan(NAMES, NAMES, seed)
    at_work = [disturbance for disturbance in planned if not disturbance.is_of_result]
    assert len(planned) == 50
    assert [disturbance.stage for disturbance in at_work] == NAMES, "each once, in the order of a run"
    by_label = {name for name in STAGES if name.endswith("_by_label")}
    assert {stage_of(disturbance.stage) for disturbance in at_work} == STAGES.keys() - by_label
    counts = {kind: sum(disturbance.kind == kind for disturbance in planned) for kind in KINDS}
    assert counts == dict.fromkeys(KINDS, 10)
    assert {disturbance.moment for disturbance in at_work} == {BEGINS, COMPUTES, SAVES, KEEPS}
    assert {disturbance.kind for disturbance in at_work} == set(AT_WORK)
    assert {disturbance.kind for disturbance in planned[len(at_work) :]} == set(AT_REST)
    assert len({disturbance.stage for disturbance in planned[len(at_work) :]}) == 20


def test_the_same_seed_gives_the_same_plan_and_another_one_another() -> None:
    assert plan(NAMES, NAMES, 3) == plan(NAMES, NAMES, 3) != plan(NAMES, NAMES, 4)


def test_trainings_are_disturbed_when_they_have_kept_and_first_cells_have_another_beside_them() -> None:
    planned = {disturbance.stage: disturbance for disturbance in plan(NAMES, NAMES, 0) if not disturbance.is_of_result}
    keeping = {name for name, disturbance in planned.items() if disturbance.moment == KEEPS}
    trainings = ("train_reward_model@", "train_dpo@", "adapt_online@")
    assert keeping == {name for name in NAMES if name.startswith(trainings) and not name.endswith("placebo")}
    together = {name for name, disturbance in planned.items() if disturbance.command in TOGETHER}
    cells = [name for name in NAMES if "@" in name]
    assert together == {next(cell for cell in cells if stage_of(cell) == stage_of(name)) for name in cells}


def test_what_is_corrupted_is_in_the_cache() -> None:
    cached = NAMES[:12]
    assert {disturbance.stage for disturbance in plan(NAMES, cached, 0) if disturbance.kind == AT_REST[0]} <= set(
        cached
    )


# The checks


@pytest.fixture
def made(tmp_path: Path) -> Project:
    """A project with a lock of two stages and one metric."""
    return small_project(tmp_path / "made")


def small_project(home: Path) -> Project:
    project = Project(home, home / "notes")
    for folder in (project.root / layout.METRICS, project.root / ".dvc/tmp", project.temporary, project.notes):
        folder.mkdir(parents=True)
    project.trace.touch()
    stages = {name: {"cmd": name, "outs": [{"path": f"data/{name}", "md5": "0"}]} for name in ("first", "second")}
    (project.root / layout.LOCK).write_text(yaml.safe_dump({"schema": "2.0", "stages": stages}))
    (project.root / layout.METRICS / "some.json").write_text('{"augc": 1.0}')
    return project


def test_a_planted_difference_is_found(made: Project, tmp_path: Path) -> None:
    other = small_project(tmp_path / "other")
    assert checks.differing(made.root, other.root) == checks.differing_files(made.root, other.root) == []
    metric = made.root / layout.METRICS / "some.json"
    metric.write_text('{"augc": 1.1}')
    assert checks.differing_files(made.root, other.root) == ["metrics/some.json"]
    metric.unlink()
    assert checks.differing_files(made.root, other.root) == ["metrics/some.json"]
    lock = made.root / layout.LOCK
    lock.write_text(lock.read_text().replace("path: data/second", "path: data/other"))
    assert checks.differing(made.root, other.root) == ["second"]
    assert checks.differing_files(made.root, other.root) == ["dvc.lock", "metrics/some.json"]


def test_a_lock_that_is_half_written_holds_no_entry(made: Project) -> None:
    (made.root / layout.LOCK).write_text("schema: '2.0'\nstages:\n  first:\n    outs: [")
    assert checks.lock_entries(made.root) == {}


def test_a_planted_orphan_is_found_and_ended(made: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checks, "GRACE_SECONDS", 0.3)
    assert checks.orphans(made) == []
    sleep = "import time; time.sleep(600)"
    orphan = subprocess.Popen([sys.executable, "-c", sleep], env=made.environment(), start_new_session=True)
    stranger = subprocess.Popen([sys.executable, "-c", sleep])
    try:
        assert checks.orphans(made) == [f"{sys.executable} -c {sleep}"]
        assert orphan.wait(10) == -9 and stranger.poll() is None
    finally:
        orphan.kill()
        stranger.kill()


def test_a_planted_left_over_is_found(made: Project) -> None:
    expected = checks.files(made)
    assert checks.left_over(made, expected) == set()
    (made.root / ".dvc/tmp/unfinished/train_dpo@p20-s0").mkdir(parents=True)
    planted = [".dvc/tmp/unfinished/train_dpo@p20-s0/fingerprint.txt", "metrics/some.json.partial"]
    for name in planted:
        (made.root / name).touch()
    (made.temporary / "pessimism-socket").mkdir()
    assert checks.left_over(made, expected) == {*planted, "tmp/pessimism-socket"}


def test_planted_locks_are_found(made: Project) -> None:
    path = made.root / checks.DVC_LOCKS
    path.write_text(json.dumps({"write": {}, "read": {"data/first": []}}))
    assert checks.held(made.root) == set()
    path.write_text(json.dumps({"write": {"data/first": {"pid": 1, "cmd": "repro"}}, "read": {}}))
    assert checks.held(made.root) == {".dvc/tmp/rwlock: data/first"}
    path.write_text("")
    assert checks.held(made.root) == {".dvc/tmp/rwlock, which is not JSON"}


def test_a_finished_stage_that_runs_again_is_lost() -> None:
    assert checks.lost({"first", "second"}, ["second", "third"]) == ["second"]


def test_damage_keeps_size_mode_and_time(tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"sound")
    path.chmod(0o444)
    before = path.stat()
    turn_a_bit(path)
    after = path.stat()
    assert path.read_bytes() != b"sound"
    assert (before.st_size, before.st_mode, before.st_mtime_ns) == (after.st_size, after.st_mode, after.st_mtime_ns)


FILLED = """
import sys
from pathlib import Path
from benchmarks.chaos import disk
if disk.enter_namespace("filled"):
    sys.exit(77)
folder = Path(sys.argv[1])
with disk.mounted(folder):
    (folder / "old").write_text("old")
    disk.fill(folder)
    try:
        (folder / "new").write_text("new")
    except OSError as error:
        print(error)
    disk.free(folder)
    (folder / "new").write_text("new")
    print((folder / "old").read_text(), (folder / "new").read_text())
print(*folder.iterdir())
"""


def test_the_small_disk_is_full_and_free_again(tmp_path: Path) -> None:
    (tmp_path / "filled.py").write_text(FILLED)
    environment = {**os.environ, "PYTHONPATH": f"{CHECKOUT}{os.pathsep}{tmp_path}"}
    command = [sys.executable, "-m", "filled", str(tmp_path / "disk")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    if done.returncode == 77:
        pytest.skip("this system gives no file system of one's own")
    assert done.stdout == "[Errno 28] No space left on device\nold new\n\n", done.stderr


# The page


def test_the_table_by_hand() -> None:
    cells = [
        replace(SOME, stage=f"train_dpo@{cell}", kind=kind) for cell, kind in (("20-0", KILLED), ("90-0", DELETED))
    ]
    accounts = [Account(SOME), Account(cells[0], lost=["prepare_data", "prepare_base"]), Account(cells[1], missed=True)]
    assert [account.is_clean for account in accounts] == [True, False, False]
    lines = page.table(accounts).splitlines()
    assert lines[2:] == [
        "| `prepare_data` | 1 |  |  |  |  | 0 | 0 | 0 | 0 | 0 | 0 |",
        "| `train_dpo` | 1 |  |  |  | 1 | 1 | 0 | 2 | 0 | 0 | 0 |",
        "| **all** | 2 |  |  |  | 1 | 1 | 0 | 2 | 0 | 0 | 0 |",
    ]
    assert page.summary(accounts).startswith("3 disturbances: not met 1, differing 0, lost 2, ")


def test_the_page_can_be_written_anew() -> None:
    text = page.PAGE.read_text(encoding="utf-8")
    again = page.written(text, [Account(SOME)], 0, "found none")
    assert "--seed 0`: 1 disturbances. No disk was filled: found none." in again
    assert page.written(again, [Account(SOME)], 0, "found none") == again != text


# From end to end


@pytest.mark.slow
def test_three_disturbances_of_the_first_stages(tmp_path: Path) -> None:
    kept = ("check_params", "prepare_data", "prepare_base")
    undisturbed, disturbed = (Project(tmp_path / name, tmp_path / f"{name}-notes") for name in ("one", "other"))
    for project in (undisturbed, disturbed):
        project.make()
        path = project.root / layout.PIPELINE
        stages = yaml.safe_load(path.read_text())["stages"]
        path.write_text(yaml.safe_dump({"stages": {name: stages[name] for name in kept}}, sort_keys=False))
        project.succeed("git", "commit", "-q", "-a", "-m", "first stages")
    undisturbed.succeed(*SIDE_BY_SIDE)
    assert cached_of(undisturbed) == list(kept)
    planned = [
        Disturbance("prepare_data", KILLED, COMPUTES, 0.0, ONE_BY_ONE),
        Disturbance("prepare_base", TERMINATED, COMPUTES, 0.2, ONE_BY_ONE),
        Disturbance("prepare_data", DELETED, "ended", 0.0, PLAIN),
    ]
    accounts = disturb(Disturbed(disturbed, undisturbed, checks.files(undisturbed)), planned)
    assert len(accounts) == 3 and all(account.is_clean for account in accounts), accounts
    assert list(dict.fromkeys(begun.stage for begun in disturbed.begun())) == list(kept)

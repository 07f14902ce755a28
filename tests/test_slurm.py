"""The fan-out on a real SLURM of one node and two GPUs, which the tests start and end."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.project_copy import Project
from support.quick_cells import (
    FANOUT,
    MEMBERS,
    counts,
    executions,
    plan,
    quick_project,
    run,
    traced_project,
    until,
)
from support.remote_project import copied, start
from support.slurm_cluster import Cluster, cluster, missing

pytestmark = [pytest.mark.slow, pytest.mark.skipif(missing() is not None, reason=f"no SLURM here: {missing()}")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return traced_project(tmp_path_factory.mktemp("prepared"))


@pytest.fixture(scope="module")
def slurm() -> Iterator[Cluster]:
    with cluster() as started:
        yield started


@pytest.fixture
def quick(prepared: Project, slurm: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    """A project on the cluster's login node."""
    for name, value in slurm.environment.items():
        monkeypatch.setenv(name, value)
    with quick_project(prepared, tmp_path) as project:
        yield project
        slurm.run("scancel", "--me")
        until(lambda: not slurm.succeed("squeue", "--noheader"))


def driver(project: Project) -> subprocess.Popen[str]:
    """The command in the background, once members 0 and 1 are at work on the two GPUs."""
    process = start(project, *FANOUT, "train_reward_model", "--hours", "0.1")
    until(lambda: counts(project).keys() >= set(MEMBERS[:2]))
    return process


def job_ids(slurm: Cluster) -> dict[str, str]:
    """Numbers of the jobs in the queue, by their cells."""
    rows = slurm.succeed("squeue", "--noheader", "--format=%j %i").splitlines()
    return dict(row.removeprefix("pessimism-").split() for row in rows)


def line_with(words: str, process: subprocess.Popen[str]) -> str:
    """The next line that the driver prints and that holds the words."""
    assert process.stdout is not None
    line = next((line for line in process.stdout if words in line), None)
    assert line is not None, f"the driver ended without a word of {words!r}"
    return line


def test_results_are_those_of_a_plain_run_and_a_requeue_is_refused(
    quick: Project, slurm: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    plain = copied(quick, tmp_path_factory.mktemp("plain"))
    recorded = "train_reward_model_inputs"
    assert plain.dvc("repro", "--single-item", recorded, *MEMBERS) == [recorded, *MEMBERS]
    (quick.root.parent / "trace.jsonl").unlink(missing_ok=True)

    plan(quick, m0="until 2")
    process = driver(quick)
    refused = slurm.run("scontrol", "requeue", job_ids(slurm)[MEMBERS[0]])
    assert "Requested operation is presently disabled" in refused.stderr
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 0 and "merged 3 of 3" in printed, printed
    assert counts(quick) == dict.fromkeys(MEMBERS, 1)
    assert {device for *_, device, _ in executions(quick)[:2]} == {"0", "1"}
    assert (quick.root / "dvc.lock").read_bytes() == (plain.root / "dvc.lock").read_bytes()
    files = ("models/reward/s0/member-0/adapter.txt", "models/reward/s0/member-2/adapter.txt")
    assert [(quick.root / name).read_text() for name in files] == [(plain.root / name).read_text() for name in files]
    assert "3 cells, 3 with a result, 0 to run" in run(quick)[1]


def test_jobs_that_slurm_ended_are_reported_with_its_reason(quick: Project, slurm: Cluster) -> None:
    """One is cancelled at work, one is cancelled in the queue, and the time of one is up."""
    plan(quick, m0="hang", m1="hang")
    process = driver(quick)
    ids = job_ids(slurm)
    waiting, late, cancelled = ids[MEMBERS[2]], *(ids[cell] for cell in MEMBERS[:2])
    assert line_with("waits in SLURM's queue", process) == f"{MEMBERS[2]}: waits in SLURM's queue: Resources\n"
    slurm.succeed("scancel", waiting, cancelled)
    slurm.succeed("scontrol", "update", f"JobId={late}", "TimeLimit=1")
    printed, _ = process.communicate(timeout=120)
    assert process.returncode == 2 and "merged 0 of 3" in printed
    by_cell = dict(re.findall(r"^(train_reward_model@0-\d), attempt 1: (.*?)(?:\n\n|\Z)", printed, re.M | re.S))
    assert f"job {late}: " in by_cell[MEMBERS[0]] and "this job is timed-out" in by_cell[MEMBERS[0]]
    assert by_cell[MEMBERS[0]].rstrip().endswith("Its time was up: give a larger --hours.")
    assert f"job {cancelled}: CANCELLED by 0" in by_cell[MEMBERS[1]] and "CANCELLED AT" in by_cell[MEMBERS[1]]
    assert by_cell[MEMBERS[2]].startswith("it wrote no log: it never started\n")
    assert f"job {waiting}: CANCELLED by 0" in by_cell[MEMBERS[2]] and "Its time was up" not in by_cell[MEMBERS[2]]
    assert "refs/pessimism" not in quick.succeed("git", "for-each-ref")


def test_after_a_killed_driver_nothing_runs_twice_and_without_accounting_nothing_starts(
    quick: Project, slurm: Cluster
) -> None:
    """Accounting is down while jobs are held: they are not submitted again, and one that is cancelled is noticed."""
    plan(quick, m0="hang", m1="slow")
    process = driver(quick)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = job_ids(slurm)
    slurm.stop("slurmdbd")
    try:
        status, printed = run(quick)
        assert status == 2 and "error: found no working accounting: sacct says " in printed, printed
        assert "Connection refused" in printed
        assert job_ids(slurm).items() <= held.items(), "nothing was submitted"
    finally:
        slurm.start("slurmdbd")
    until(lambda: slurm.run("sacct").returncode == 0)
    again = start(quick, *FANOUT, "train_reward_model")
    assert line_with("waits for job", again) == f"{MEMBERS[0]}: waits for job {held[MEMBERS[0]]}, submitted earlier\n"
    slurm.stop("slurmdbd")
    try:
        slurm.succeed("scancel", held[MEMBERS[0]])
        printed, _ = again.communicate(timeout=120)
    finally:
        slurm.start("slurmdbd")
    assert again.returncode == 2 and "error: 1 cell(s) have no result" in printed, printed
    assert f"{MEMBERS[0]}, attempt 1: " in printed and f"SLURM says nothing of job {held[MEMBERS[0]]}" in printed
    assert counts(quick) == dict.fromkeys(MEMBERS, 1)


def test_a_refused_submission_is_one_line_and_leaves_no_reference(quick: Project, slurm: Cluster) -> None:
    status, printed = run(quick, "--set", "partition=nowhere")
    assert status == 2
    assert printed.splitlines()[1:] == [
        f"error: {MEMBERS[0]}: the job was refused: sbatch: error: invalid partition specified: nowhere; "
        "sbatch: error: Batch job submission failed: Invalid partition name specified"
    ]
    assert "refs/pessimism" not in quick.succeed("git", "for-each-ref")
    assert not slurm.succeed("squeue", "--noheader")

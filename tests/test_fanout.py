"""Cells as jobs: really fanned out through submitit, merged without running anything twice, and what is refused."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import yaml

from pessimism.commands import fanout as command
from pessimism.errors import ParamsError
from pessimism.experiment import records
from pessimism.fanout import dvc_project, failures, resources, scheduling, slurm, snapshot, worker
from pessimism.fanout.errors import FanoutError
from pessimism.fanout.resources import Resources, parse_settings
from pessimism.fanout.worker import CellJob
from support.project_copy import SECRETS, commit, leaks, new_project
from support.quick_cells import (
    FANOUT,
    MEMBERS,
    counts,
    executions,
    plan,
    quick_project,
    run,
    stage_process,
    traced_project,
    until,
)
from support.remote_project import (
    DVC,
    Project,
    add_directory_remote,
    add_s3_remote,
    copied,
    s3_server,
    start,
)

LOCAL = Resources("local", jobs=None, gpus=1, hours=1, settings={})


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Project:
    return traced_project(tmp_path_factory.mktemp("prepared"))


@pytest.fixture
def quick(prepared: Project, tmp_path: Path) -> Iterator[Project]:
    with quick_project(prepared, tmp_path) as project:
        yield project


def kill_job(project: Project, cell: str) -> None:
    """End every process of the cell's job at once, as a scheduler or a crash of the machine would."""
    family = stage_process(project, cell).parents()
    job = [process for process in family if any(f"{cell}-" in part for part in process.cmdline())]
    assert job, "found no process of submitit above the stage"
    for process in [*job[-1].children(recursive=True), job[-1]]:
        process.kill()


@pytest.mark.slow
def test_three_cells_in_parallel_and_nothing_twice(prepared: Project, tmp_path: Path) -> None:
    """The real stage, through a server of the S3 protocol, whose credentials are not in Git."""
    project = copied(prepared, tmp_path)
    with s3_server() as endpoint:
        add_s3_remote(project, endpoint)
        status, printed = run(project, "--executor", "local", "--jobs", "3")
        assert status == 0, printed
        assert "3 cells, 0 with a result, 3 to run" in printed and "merged 3 of 3" in printed
        assert "Running stage" not in printed
        assert counts(project) == dict.fromkeys(MEMBERS, 1)
        places = {where for _, _, where, *_ in executions(project)}
        assert len(places) == 3 and project.root.as_posix() not in places
        started = [when for *_, when in executions(project)]
        records = [project.root / f"run_records/train_reward_model@s0-m{n}.json" for n in range(3)]
        assert max(started) < min(record.stat().st_mtime for record in records), "they did not run at the same time"

        assert project.dvc("repro", *MEMBERS) == []
        assert "3 cells, 3 with a result, 0 to run" in run(project, "--executor", "local")[1]
        assert counts(project) == dict.fromkeys(MEMBERS, 1)
        assert not list(project.root.glob(".dvc/tmp/fanout/*/clone"))


@pytest.mark.slow
def test_what_no_commit_holds_reaches_the_jobs_and_nothing_of_the_user_changes(quick: Project) -> None:
    before = [quick.succeed("git", *arguments) for arguments in (("status", "--porcelain"), ("rev-parse", "HEAD"))]
    status, printed = run(quick, "--executor", "local", "--jobs", "3")
    assert status == 0, printed
    assert [(quick.root / f"models/reward/s0/member-{n}/adapter.txt").read_text() for n in range(3)] == ["0", "1", "2"]
    quick.succeed("git", "checkout", "--quiet", "dvc.lock")
    after = [quick.succeed("git", *arguments) for arguments in (("status", "--porcelain"), ("rev-parse", "HEAD"))]
    assert after == before
    assert "refs/pessimism" not in quick.succeed("git", "for-each-ref")


@pytest.mark.slow
def test_a_failed_cell_is_reported_with_its_log_and_the_others_are_merged(quick: Project) -> None:
    plan(quick, m1="fail")
    status, printed = run(quick, "--executor", "local", "--jobs", "3")
    assert status == 2 and "merged 2 of 3" in printed
    report = printed[printed.index("error: 1 cell(s) have no result") :]
    assert "error: member 1 does not want to" in report and "Traceback" not in report
    (log,) = re.findall(r"^train_reward_model@0-1, attempt 1: (\S+)$", report, re.M)
    assert "member 1 does not want to" in Path(log).read_text()
    assert "attempt 1" in Path(log).read_text().splitlines()[0]
    assert not (quick.root / "models/reward/s0/member-1").exists()

    plan(quick)
    status, printed = run(quick, "--executor", "local", "--jobs", "3")
    assert status == 0 and "3 cells, 2 with a result, 1 to run" in printed
    (again,) = worker.attempt_lines(Path(log), 2)[:1]
    assert re.fullmatch(rf"\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d attempt 2 on {socket.gethostname()}", again)
    assert counts(quick) == {MEMBERS[0]: 1, MEMBERS[1]: 2, MEMBERS[2]: 1}
    assert not any(secret in printed for secret in SECRETS.values())
    assert [name for name in leaks(quick.root.parent) if not name.endswith("support/project_copy.py")] == []


@pytest.mark.slow
def test_after_a_killed_job_and_a_killed_driver_only_what_is_missing_runs(quick: Project) -> None:
    """Job 1 and the driver are killed; job 0 goes on without a driver; job 2 has not been submitted yet.

    Nothing else is placed on the GPU of job 0, though it comes last now.
    """
    plan(quick, m0="beyond 2", m1="hang")
    driver = start(quick, *FANOUT, "train_reward_model", "--executor", "local", CUDA_VISIBLE_DEVICES="4,6")
    until(lambda: len(executions(quick)) == 2)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    kill_job(quick, MEMBERS[1])
    assert stage_process(quick, MEMBERS[0]).is_running()

    plan(quick)
    status, printed = run(quick, "--executor", "local", CUDA_VISIBLE_DEVICES="6,4")
    assert status == 0, printed
    assert f"{MEMBERS[0]}: waits for job" in printed
    assert "merged 3 of 3" in printed
    places = [(stage, device) for stage, _, _, device, _ in executions(quick)]
    assert sorted(places[:2]) == [(MEMBERS[0], "4"), (MEMBERS[1], "6")]
    assert places[2:] == [(MEMBERS[1], "6"), (MEMBERS[2], "6")]
    assert quick.dvc("repro", *MEMBERS) == []


class StubHandle:
    """A job that is done the third time it is asked."""

    job_id = "0"

    def __init__(self) -> None:
        self.asked = 0

    def done(self) -> bool:
        self.asked += 1
        return self.asked > 2

    def exception(self) -> None:
        return None


def left_behind(folder: Path, devices: str) -> subprocess.Popen[bytes]:
    """A process like that of an earlier driver's job, and its record."""
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)", str(folder)])
    place = {"host": socket.gethostname(), "devices": devices}
    record = {"executor": "local", "job_id": str(process.pid), "attempt": 1, **place}
    records.write_json(folder / worker.SUBMITTED, record)
    return process


def test_a_gpu_that_an_earlier_drivers_job_uses_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cell b is at work on GPU 4 and a cell of another stage on GPU 5, until c has ended."""
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5,6")
    for folder in ("a", "b", "c", "d", "other", "reused", "elsewhere"):
        (tmp_path / folder).mkdir()
    own, other = left_behind(tmp_path / "b", "4"), left_behind(tmp_path / "other", "5")
    number = {"executor": "local", "job_id": str(os.getpid()), "devices": "6"}  # given out again, or another machine's
    for folder, host in (("reused", socket.gethostname()), ("elsewhere", "elsewhere")):
        (tmp_path / folder / worker.SUBMITTED).write_text(json.dumps(number | {"host": host}))
    jobs = [CellJob(cell, (), tmp_path, "ref", "storage", "url", tmp_path / cell, None) for cell in "abcd"]
    submitted: list[tuple[str, str | None]] = []

    def submit(job: CellJob, _: Resources) -> StubHandle:
        submitted.append((job.cell, job.devices))
        return StubHandle()

    monkeypatch.setattr(scheduling, "_submit", submit)
    printed = []
    for job, line in scheduling.run_all(jobs, LOCAL):
        printed.append(f"{job.cell}: {line}")
        if line.startswith("finished") and job.cell == "c":
            for process in (own, other):
                process.kill()
                process.wait()
    assert submitted[:2] == [("a", "6"), ("c", "6")] and [cell for cell, _ in submitted[2:]] == ["d"]
    assert f"b: waits for job {own.pid}, submitted earlier" in printed
    assert any(line.startswith(f"c: waits for a GPU, used by job {other.pid} on 5 of") for line in printed)
    assert any(line.startswith("b: failed after") for line in printed), "it was killed and left no result"


@pytest.mark.slow
def test_every_job_has_a_gpu_of_its_own(quick: Project) -> None:
    plan(quick, m1="until 2")
    status, printed = run(quick, "--executor", "local", CUDA_VISIBLE_DEVICES="4,6")
    assert status == 0, printed
    devices = {stage: device for stage, _, _, device, _ in executions(quick)}
    assert sorted(devices) == MEMBERS
    assert {devices[MEMBERS[0]], devices[MEMBERS[1]]} == {"4", "6"}
    assert devices[MEMBERS[2]] == devices[MEMBERS[0]], "member 1 ran until member 2 did"


SBATCH = """#!{python}
import itertools, os, re, shutil, subprocess, sys
home = "{home}"
number = next(n for n in itertools.count(100) if not os.path.exists(f"{{home}}/{{n}}.sh"))
shutil.copy(sys.argv[-1], f"{{home}}/{{number}}.sh")
environment = {{**os.environ, "SLURM_JOB_ID": str(number), "CUDA_VISIBLE_DEVICES": f"of SLURM job {{number}}"}}
environment.pop("PYTHONPATH")  # as on a cluster that hands nothing on
quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
subprocess.Popen(["bash", f"{{home}}/{{number}}.sh"], env=environment, **quiet)
print("Submitted batch job", number)
"""
SRUN = """#!{python}
import os, sys
assert sys.argv[1:3] == ["--unbuffered", "--output"]
log = sys.argv[3].replace("%j", os.environ["SLURM_JOB_ID"]).replace("%t", "0")
os.dup2(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND), 1)
os.dup2(1, 2)
os.execvp(sys.argv[4], sys.argv[4:])
"""
SQUEUE = """#!{python}
for number in range(100, 110):
    print(f"{{number}}|RUNNING|None")
"""
SACCT = """#!{python}
"""


def write_commands(home: Path, **programs: str) -> str:
    """A stand-in for SLURM: its commands, as far as they are used here. Returns a PATH that has them."""
    (home / "bin").mkdir(exist_ok=True)
    for name, text in programs.items():
        path = home / "bin" / name
        path.write_text(text.format(python=sys.executable, home=home))
        path.chmod(0o755)
    return os.pathsep.join([str(home / "bin"), str(Path(sys.executable).parent), os.environ["PATH"]])


@pytest.mark.slow
def test_slurm_gets_one_gpu_per_job_and_the_users_settings(quick: Project) -> None:
    home = quick.root.parent
    path = write_commands(home, sbatch=SBATCH, srun=SRUN, squeue=SQUEUE, sacct=SACCT)
    options = ("--hours", "7.5", "--set", "partition=gpu", "--set", "cpus_per_task=8")
    status, printed = run(quick, *options, PATH=path)
    assert status == 0, printed
    assert "merged 3 of 3" in printed and counts(quick) == dict.fromkeys(MEMBERS, 1)
    assert {device for *_, device, _ in executions(quick)} == {f"of SLURM job {n}" for n in (100, 101, 102)}
    scripts = [(home / f"{number}.sh").read_text() for number in (100, 101, 102)]
    wanted = ("gpus-per-node=1", "time=450", "partition=gpu", "cpus-per-task=8", "job-name=pessimism-train_reward")
    wanted += ("no-requeue", "signal=USR2@90")
    assert all(f"#SBATCH --{option}" in script for option in wanted for script in scripts)


@pytest.mark.slow
def test_a_job_that_slurm_still_holds_is_not_submitted_again(quick: Project) -> None:
    home = quick.root.parent
    path = write_commands(home, sbatch=SBATCH, srun=SRUN, squeue=SQUEUE, sacct=SACCT)
    plan(quick, m0="slow", m1="hang", m2="slow")
    driver = start(quick, *FANOUT, "train_reward_model", PATH=path)
    until(lambda: len(executions(quick)) == 3)
    driver.kill()
    driver.wait()
    stage_process(quick, MEMBERS[1]).kill()  # its job goes on and ends as failed
    plan(quick)
    status, printed = run(quick, PATH=path)
    assert "waits for job 100, submitted earlier" in printed
    assert status == 2 and "merged 2 of 3" in printed, printed
    assert counts(quick) == dict.fromkeys(MEMBERS, 1)


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A project in which nothing has been run, as working directory."""
    project = new_project(tmp_path / "project")
    monkeypatch.chdir(project.root)
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.setenv("DVC_GLOBAL_CONFIG_DIR", str(tmp_path / "global"))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    return project


def refusal(*stages: str, resources: Resources = LOCAL) -> str:
    with pytest.raises(FanoutError) as raised:
        list(command.fanout(stages, resources))
    return str(raised.value)


def test_only_matrix_stages_are_fanned_out(plain: Project) -> None:
    message = refusal("train_dpo", "assess_ensemble", "trian_dpo")
    assert "found no matrix stage assess_ensemble, trian_dpo" in message
    assert "train_reward_model, train_dpo, train_dpo_by_label, adapt_online, adapt_online_by_label" in message


def test_without_a_remote_the_two_ways_to_get_one_are_named(plain: Project) -> None:
    message = refusal("train_reward_model")
    assert "found no default DVC remote" in message
    for line in ("dvc remote add --default storage /shared/directory", "dvc remote add --default storage s3://"):
        assert line in message


def test_a_remote_that_keeps_no_run_cache_is_refused(plain: Project) -> None:
    plain.succeed(*DVC, "remote", "add", "--default", "web", "https://example.invalid/dvc")
    assert "https://example.invalid/dvc" in refusal("train_reward_model")


def test_what_is_stale_before_the_cells_is_named_with_the_commands_in_order(plain: Project) -> None:
    add_directory_remote(plain)
    message = refusal("adapt_online")
    assert message.splitlines()[-4:] == [
        "  dvc repro --pull check_params prepare_data prepare_base sample_pairs measure_reference derive_beta_grid",
        "  pessimism fanout train_reward_model",
        "  dvc repro --pull assess_ensemble",
        "  pessimism fanout train_dpo",
    ]
    assert "train_dpo@20-0" in message and "score_hacking" not in message
    together = refusal("train_dpo", "adapt_online")
    assert together.endswith("pessimism fanout train_dpo"), "a stage must not be fanned out with one that waits for it"


def test_cells_that_recorded_inputs_make_stale_are_named(plain: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """Code of train_dpo changed: its cells are up to date until that is recorded, and adapt_online would take them."""
    add_directory_remote(plain)
    recorded: list[str] = []
    monkeypatch.setattr(dvc_project, "dvc", lambda *arguments: recorded.append(arguments[-1]))
    monkeypatch.setattr(
        dvc_project, "stale_upstream", lambda cells: ["train_dpo@20-0"] if recorded else ["train_dpo_inputs"]
    )
    assert refusal("adapt_online").endswith("First run:\n  pessimism fanout train_dpo")
    assert recorded == ["train_dpo_inputs"]


def test_a_relative_path_of_a_model_is_refused(plain: Project) -> None:
    scale = plain.root / "scales/micro.yaml"
    content = yaml.safe_load(scale.read_text())
    content["policy"] |= {"source": "path", "name": "../weights"}
    scale.write_text(yaml.safe_dump(content))
    message = refusal("train_dpo")
    assert "scales/micro.yaml: policy.name: found the relative path '../weights'" in message
    assert str(plain.root / "../weights") in message


def test_outputs_of_cells_no_longer_listed_are_refused(plain: Project) -> None:
    (plain.root / "models/reward/s0/member-7").mkdir(parents=True)
    assert "models/reward/s0/member-7" in refusal("train_dpo") and "pessimism prune" in refusal("train_dpo")


def test_unusable_parameters_are_refused(plain: Project) -> None:
    plain.design(ensemble_members=[0])
    with pytest.raises(ParamsError, match="ensemble_members"):
        list(command.fanout(["train_reward_model"], LOCAL))


def test_a_missing_submitit_names_the_extra(plain: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "submitit", None)
    assert "pip install -e '.[cluster]'" in refusal("train_reward_model")


def test_a_machine_without_slurm_names_the_other_executor(plain: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    message = refusal("train_reward_model", resources=Resources("slurm", None, 1, 1, {}))
    assert "found no sbatch" in message and "--executor local" in message


@pytest.mark.parametrize(
    ("jobs", "gpus", "hours", "option"),
    [(0, 1, 1, "--jobs"), (None, -1, 1, "--gpus"), (None, 1, 0, "--hours"), (None, 1, 0.09, "--hours")],
)
def test_numbers_that_cannot_be_are_refused(jobs: int | None, gpus: int, hours: float, option: str) -> None:
    with pytest.raises(FanoutError, match=option):
        resources.check(Resources("local", jobs, gpus, hours, {}))


def test_settings_get_the_names_of_submitit() -> None:
    settings = parse_settings(["partition=gpu", "slurm_qos=high", "mem_gb=64", "constraint=h100&nvlink", "nice=5"])
    expected = {"slurm_partition": "gpu", "slurm_qos": "high", "mem_gb": 64}
    assert settings == {**expected, "slurm_constraint": "h100&nvlink", "slurm_nice": 5}


@pytest.mark.parametrize(
    "pair", ["partition", "partition=", "time=4:00:00", "slurm_time=60", "gpus_per_node=2", "signal_delay_s=5"]
)
def test_settings_without_value_or_with_an_option_of_their_own_are_refused(pair: str) -> None:
    with pytest.raises(FanoutError, match=f"--set {pair.partition('=')[0].removeprefix('slurm_')}"):
        parse_settings([pair])


@pytest.mark.parametrize(
    ("visible", "jobs", "gpus", "expected"),
    [
        ("0,1,2", None, 1, ["0", "1", "2"]),
        ("0,1,2", 2, 1, ["0", "1"]),
        ("3,5,7,GPU-8", None, 2, ["3,5", "7,GPU-8"]),
        ("0,1,2", None, 2, ["0,1"]),
        ("", None, 1, [""]),
        ("", 3, 1, ["", "", ""]),
        ("0,1", 3, 0, ["", "", ""]),
    ],
)
def test_places_of_this_machine(
    visible: str, jobs: int | None, gpus: int, expected: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert resources.slots(Resources("local", jobs, gpus, 1, {}), cells=9) == expected


@pytest.mark.parametrize(("jobs", "gpus"), [(3, 1), (2, 2), (None, 4)])
def test_more_gpus_than_there_are_are_refused(jobs: int | None, gpus: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    with pytest.raises(FanoutError, match=r"found 2 GPU\(s\); expected at least"):
        resources.check(Resources("local", jobs, gpus, 1, {}))


def test_slurm_gets_every_cell_at_once_unless_told() -> None:
    assert resources.slots(Resources("slurm", None, 1, 1, {}), cells=4) == [None] * 4
    assert resources.slots(Resources("slurm", 2, 1, 1, {}), cells=4) == [None] * 2


def test_a_snapshot_holds_what_git_does_not_ignore_and_leaves_the_index_alone(plain: Project) -> None:
    (plain.root / "new.txt").write_text("new")
    (plain.root / "README.md").write_text("changed")
    (plain.root / "LICENSE").unlink()
    plain.succeed("git", "rm", "--quiet", "--cached", "Makefile")
    (plain.root / "data/rows.csv").write_text("ignored")
    before = plain.succeed("git", "status", "--porcelain")
    taken = snapshot.take(plain.root)
    assert plain.succeed("git", "status", "--porcelain") == before
    names = plain.succeed("git", "ls-tree", "-r", "--name-only", taken.ref).split()
    assert {"new.txt", "README.md", "Makefile"} <= set(names) and not {"LICENSE", "data/rows.csv"} & set(names)
    assert plain.succeed("git", "show", f"{taken.ref}:README.md") == "changed"


def test_a_driver_takes_no_other_drivers_snapshot_away(plain: Project, tmp_path: Path) -> None:
    first, second = snapshot.take(plain.root), snapshot.take(plain.root)
    snapshot.forget(plain.root, first)
    job = CellJob("train_dpo@20-0", (), plain.root, second.ref, "storage", "url", tmp_path, None)
    worker.fetch_snapshot(job, dict(os.environ))
    assert (job.clone / "dvc.yaml").read_text() == (plain.root / "dvc.yaml").read_text()
    assert first.ref not in plain.succeed("git", "for-each-ref")


def test_untracked_weights_are_refused_until_ignored_or_added(plain: Project) -> None:
    weights = plain.root / "weights/part \u00e9.safetensors"
    weights.parent.mkdir()
    with weights.open("wb") as file:
        file.truncate(28_000_000_000)  # takes no space on the disk
    (plain.root / "new.txt").write_text("small")
    message = refusal("train_reward_model")
    assert "found 28,000 MB of files that Git neither tracks nor ignores; expected at most 100 MB" in message
    assert "  weights/part \u00e9.safetensors (28,000.0 MB)\n  new.txt (0.0 MB)" in message
    assert ".gitignore" in message and "`git add`" in message
    os.truncate(weights, 99_000_000)
    snapshot.check_untracked(plain.root)
    os.truncate(weights, 101_000_000)
    with pytest.raises(FanoutError, match="found 101 MB"):
        snapshot.check_untracked(plain.root)
    plain.succeed("git", "add", "weights")
    snapshot.check_untracked(plain.root)
    plain.succeed("git", "rm", "--quiet", "--cached", "-r", "weights")
    (plain.root / ".git/info/exclude").write_text("weights\n")
    snapshot.check_untracked(plain.root)


def test_cells_read_their_inputs_and_no_others(plain: Project) -> None:
    """What adapt_online pulls: of six adapters the one that it adapts, of prepare_data's outputs the problems."""
    with dvc_project.opened() as repo:
        (stage,) = [stage for stage in repo.index.stages if stage.addressing == "adapt_online@20-0-proxy"]
        inputs = dvc_project.cell_inputs(repo, stage)
    members = ["models/reward/s0/member-0", "models/reward/s0/member-1"]
    assert inputs == ["data/inputs/adapt_online.json", "data/tasks", "models/base", "models/dpo/p20-s0", *members]


def test_a_result_for_other_inputs_is_told_from_a_failure(tmp_path: Path) -> None:
    job = CellJob("train_dpo@20-0", (), tmp_path, "ref", "storage", "url", tmp_path, None)
    records.write_json(job.record, {"executor": "local", "job_id": "7", "attempt": 1})
    log = "2026-11-28 09:00:00 attempt 1 on node\n2026-11-28 09:00:01 $ dvc repro\n"
    job.log.write_text(f"{log}2026-11-28 09:00:02 {worker.FINISHED}\n")
    assert "for other inputs than this project holds now" in failures.report([job], {job.cell: "finished"})
    job.log.write_text(f"{log}error: no memory\n")
    report = failures.report([job], {job.cell: "failed"})
    assert "other inputs" not in report and "no memory" in report


SUBMITIT_LOG = """\
submitit INFO (2026-11-29 01:58:19,408) - Job has timed out. Ran 1 minutes out of requested 6 minutes.
submitit WARNING (2026-11-29 01:58:19,408) - Caught signal SIGUSR2 on vm: this job is timed-out.
submitit WARNING (2026-11-29 01:58:19,408) - Caught signal SIGUSR2 on vm: this job is timed-out.
submitit WARNING (2026-11-29 01:58:19,410) - Bypassing signal SIGCONT
Traceback (most recent call last):
  File "/python/submitit/core/job_environment.py", line 227, in checkpoint_and_try_requeue
submitit.core.utils.UncompletedJobError: Job not requeued because: checkpoint function returned None.
srun: error: vm: task 0: Exited with exit code 1
"""


def test_the_scheduler_says_why_a_job_ended(tmp_path: Path) -> None:
    """The telling line is not the last one, a killed job wrote nothing, and an older attempt is no reason."""
    job = CellJob("train_dpo@20-0", (), tmp_path, "ref", "storage", "url", tmp_path, None)
    (tmp_path / "7_0_log.out").write_text(SUBMITIT_LOG)
    records.write_json(job.record, {"executor": "local", "job_id": "7", "attempt": 2})
    job.log.write_text("2026-11-28 09:00:00 attempt 1 on node\nerror: no memory\n")
    report = failures.report([job], {job.cell: "failed"}).splitlines()[2:]
    assert report == [
        "train_dpo@20-0, attempt 2: it wrote no log: it never started",
        *(f"  7_0_log.out: {SUBMITIT_LOG.splitlines()[number]}" for number in (1, 6, 7)),
        "  Its time was up: give a larger --hours.",
    ]


@pytest.mark.parametrize(("state", "time_was_up"), [("TIMEOUT", True), ("NODE_FAIL", False), ("CANCELLED by 7", False)])
def test_slurms_state_stands_in_the_report(
    state: str, time_was_up: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = CellJob("train_dpo@20-0", (), tmp_path, "ref", "storage", "url", tmp_path, None)
    records.write_json(job.record, {"executor": "slurm", "job_id": "7", "attempt": 1})
    monkeypatch.setenv("PATH", write_commands(tmp_path, sacct=f"#!/bin/sh\necho '{state}|0:0|node3'\n"))
    report = failures.report([job], {job.cell: "failed"})
    assert f"SLURM says of job 7: {state}, exit code 0:0, nodes: node3" in report
    assert ("give a larger --hours" in report) == time_was_up


def test_a_cell_that_was_not_submitted_says_so(tmp_path: Path) -> None:
    jobs = [CellJob(cell, (), tmp_path, "ref", "storage", "url", tmp_path, None) for cell in "ab"]
    report = failures.report(jobs, {"a": "not submitted: no such partition"}).splitlines()
    assert [line for line in report if line][1:] == ["a: not submitted: no such partition", "b: not submitted"]


def jobs_on_slurm(home: Path, cells: str) -> list[CellJob]:
    for cell in cells:
        (home / cell).mkdir()
    return [CellJob(cell, (), home, "ref", "storage", "url", home / cell, None) for cell in cells]


def test_after_a_refused_job_no_other_is_submitted_and_those_held_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = []

    def submit(job: CellJob, _: Resources) -> StubHandle:
        submitted.append(job.cell)
        if job.cell == refused:
            raise FanoutError("too many jobs")
        return StubHandle()

    monkeypatch.setattr(scheduling, "_submit", submit)
    jobs, resources = jobs_on_slurm(tmp_path, "abc"), replace(LOCAL, jobs=3)
    refused = "a"
    with pytest.raises(FanoutError, match="too many jobs"):
        list(scheduling.run_all(jobs, resources))
    refused = "b"
    lines = [f"{job.cell}: {line}" for job, line in scheduling.run_all(jobs, resources)]
    assert submitted == ["a", "a", "b"]
    assert lines[1] == "b: not submitted: too many jobs" and lines[2].startswith("a: finished")


SILENT = "#!/bin/sh\necho 'Connection refused' >&2\nexit 1\n"


@pytest.mark.parametrize(
    ("squeue", "sacct", "held"),
    [
        ("echo '7|RUNNING|None'", SILENT, True),
        ("echo '7|CANCELLED|None'", SILENT, False),
        ("echo '8|RUNNING|None'", "echo RUNNING", False),
        (SILENT, "echo PENDING", True),
        (SILENT, "echo 'CANCELLED by 7'", False),
        (SILENT, SILENT, None),
    ],
)
def test_whether_slurm_still_holds_a_job(
    squeue: str, sacct: str, held: bool | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The controller knows; accounting is asked where it does not answer, and without either nothing is submitted."""
    path = write_commands(tmp_path, squeue=f"#!/bin/sh\n{squeue}\n", sacct=f"#!/bin/sh\n{sacct}\n")
    monkeypatch.setenv("PATH", path)
    if held is None:
        with pytest.raises(FanoutError, match="neither squeue nor sacct answers whether job 7, submitted earlier"):
            slurm.still_held("7", slurm.Queue())
    else:
        assert slurm.still_held("7", slurm.Queue()) == held


def test_accounting_that_does_not_answer_is_refused_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", write_commands(tmp_path, sbatch=SILENT, srun=SILENT, squeue=SILENT, sacct=SILENT))
    with pytest.raises(FanoutError, match="found no working accounting: sacct says 'Connection refused'; expected"):
        resources.check(Resources("slurm", None, 1, 1, {}))


def test_a_job_is_done_by_an_answer_from_after_its_submission(tmp_path: Path) -> None:
    """A controller that is down for a while, or was asked before, says nothing about a job."""
    handle = SimpleNamespace(job_id="7", paths=SimpleNamespace(result_pickle=tmp_path / "result"))
    queue = slurm.Queue()
    job = slurm.SlurmJob(handle, queue, submitted=100.0)
    assert not job.done()
    queue.answered = 99.0
    assert not job.done()
    queue.answered, queue.jobs = 120.0, {"7": slurm.QueuedJob("PENDING", "QOSMaxJobsPerUserLimit")}
    assert not job.done() and job.waits_for() == "QOSMaxJobsPerUserLimit"
    queue.jobs = {"7": slurm.QueuedJob("RUNNING", "None")}
    assert not job.done() and job.waits_for() is None
    queue.jobs = {"7": slurm.QueuedJob("NODE_FAIL", "None")}
    assert job.done() and job.exception() is not None
    queue.jobs = {"7": slurm.QueuedJob("COMPLETED", "None")}
    assert job.done() and job.exception() is None
    queue.jobs = {}
    assert job.done() and job.exception() is not None


def test_the_lock_keeps_the_places_of_the_commit_and_adds_in_the_order_of_a_plain_run(plain: Project) -> None:
    """A cell that is merged late stands where a plain run would have put it, and Git shows no line as moved."""

    def write(*names: str) -> None:
        entries = {name: {"cmd": f"python {name}"} for name in names}
        (plain.root / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": entries}, sort_keys=False))

    write("train_reward_model@0-1", "check_params", "train_reward_model@0-0")
    commit(plain, "lock")
    write("train_dpo@90-0", "train_reward_model@0-0", "assess_ensemble", "check_params", "train_dpo@20-0",
          "train_reward_model@0-1")  # fmt: skip
    dvc_project.order_lock(dvc_project.committed_entries())
    written = (plain.root / "dvc.lock").read_text()
    write("train_reward_model@0-1", "check_params", "train_reward_model@0-0", "assess_ensemble", "train_dpo@20-0",
          "train_dpo@90-0")  # fmt: skip
    assert written == (plain.root / "dvc.lock").read_text()


def test_two_jobs_of_one_cell_work_one_after_the_other(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with worker.alone(tmp_path):
            order.append("second")

    thread = threading.Thread(target=second)
    with worker.alone(tmp_path):
        thread.start()
        time.sleep(0.5)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]


def test_no_training_outlives_its_job(tmp_path: Path) -> None:
    """submitit interrupts a job whose time is up by a signal; here an alarm does."""
    job = CellJob("train_dpo@20-0", (), tmp_path, "ref", "storage", "url", tmp_path, None)
    job.clone.mkdir()

    def ring(*_: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, ring)
    try:
        signal.alarm(2)
        with pytest.raises(TimeoutError):
            worker.run_command(job, dict(os.environ), "bash", "-c", "sleep 600 & echo $! > pid; wait")
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    pid = int((job.clone / "pid").read_text())
    until(lambda: not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)


def test_a_job_runs_its_clones_code_with_the_drivers_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", "/elsewhere/src")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "7")
    job = CellJob("train_dpo@20-0", (), tmp_path, "ref", "storage", "url", tmp_path, None)
    environment = worker.job_environment(job, "/site")
    assert environment["PYTHONPATH"].split(os.pathsep) == [str(tmp_path / "clone/src"), "/elsewhere/src"]
    assert shutil.which("python", path=environment["PATH"]) == str(Path(sys.executable).parent / "python")
    assert environment["CUDA_VISIBLE_DEVICES"] == "7", "SLURM's own assignment must stand"
    assert worker.job_environment(replace(job, devices="1"), "/site")["CUDA_VISIBLE_DEVICES"] == "1"

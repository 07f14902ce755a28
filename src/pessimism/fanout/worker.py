"""What a job does: clone the snapshot, pull the cell's inputs, run the cell, push outputs and run cache."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

CLONE = "clone"
LOG = "job.log"
SUBMITTED = "submitted.json"
FINISHED = "finished: the result is in the remote"
_ATTEMPT = "attempt"
_TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"


@dataclass(frozen=True)
class CellJob:
    """One cell and all that its job must be told. Paths are absolute and mean the same for jobs and driver."""

    cell: str
    """Name of the cell in dvc.yaml, e.g. ``train_dpo@50-0``."""
    inputs: tuple[str, ...]
    """Outputs of other stages that the cell reads, relative to the project."""
    project: Path
    """The driver's project, whose Git repository holds the snapshot."""
    ref: str
    remote: str
    remote_url: str
    folder: Path
    """Holds the clone and the logs of this cell."""
    devices: str | None
    """CUDA_VISIBLE_DEVICES of the job; None leaves it to the scheduler."""
    attempt: int = 1
    """Counts the jobs that were submitted for this very cell."""

    @property
    def clone(self) -> Path:
        return self.folder / CLONE

    @property
    def log(self) -> Path:
        """Output of every command that the job ran."""
        return self.folder / LOG

    @property
    def record(self) -> Path:
        """What was submitted last: by which executor, under which number, as which attempt."""
        return self.folder / SUBMITTED


@dataclass(frozen=True)
class OneRun:
    """What is submitted: one run of a cell, which no scheduler starts a second time.

    By then the driver has reported the first as failed and dropped the snapshot; the next call of the command runs it.
    """

    job: CellJob

    def __call__(self) -> None:
        run(self.job)

    def checkpoint(self) -> None:
        """submitit's question, asked when a job is about to be preempted, what to start again: nothing."""


def run(job: CellJob) -> None:
    """Run the cell in its clone. What an earlier, killed job of the cell left in the clone is used again.

    Raises:
        subprocess.CalledProcessError: a command failed; its output is in the job's log.
    """
    with alone(job.folder), tempfile.TemporaryDirectory() as site:
        _note(job, f"{_ATTEMPT} {job.attempt} on {socket.gethostname()}")
        environment = job_environment(job, site)
        fetch_snapshot(job, environment)
        dvc = (sys.executable, "-m", "dvc")
        # A relative address in the driver's configuration means another place here.
        run_command(job, environment, *dvc, "remote", "modify", "--local", job.remote, "url", job.remote_url)
        if job.inputs:
            run_command(job, environment, *dvc, "pull", *job.inputs)
        run_command(job, environment, *dvc, "repro", "--single-item", job.cell)
        run_command(job, environment, *dvc, "push", "--run-cache", job.cell)
        _note(job, FINISHED)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Wait until no other job of the cell is at work; the lock ends with the process that holds it."""
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def job_environment(job: CellJob, site: str) -> dict[str, str]:
    """The clone's code before any other, the driver's Python as ``python``, and a DVC state of the job's own.

    DVC keeps that state in a database, which is best not on a network file system nor shared between jobs.
    """
    environment = {
        **os.environ,
        "PATH": _joined(str(Path(sys.executable).parent), os.environ.get("PATH")),
        "PYTHONPATH": _joined(str(job.clone / "src"), os.environ.get("PYTHONPATH")),
        "DVC_SITE_CACHE_DIR": site,
    }
    return environment if job.devices is None else {**environment, "CUDA_VISIBLE_DEVICES": job.devices}


def _joined(first: str, rest: str | None) -> str:
    return f"{first}{os.pathsep}{rest}" if rest else first


def fetch_snapshot(job: CellJob, environment: dict[str, str]) -> None:
    """Bring the snapshot into the clone, together with what the driver keeps out of Git: its local DVC settings."""
    job.clone.mkdir(exist_ok=True)
    run_command(job, environment, "git", "init", "--quiet")
    run_command(job, environment, "git", "fetch", "--quiet", "--depth", "1", str(job.project), job.ref)
    run_command(job, environment, "git", "checkout", "--quiet", "--force", "--detach", "FETCH_HEAD")
    # Names processes of the job that was killed, possibly on another machine, where DVC cannot see that they ended.
    (job.clone / ".dvc/tmp/rwlock").unlink(missing_ok=True)
    settings = job.project / ".dvc/config.local"
    if settings.is_file():
        shutil.copy(settings, job.clone / ".dvc")


def run_command(job: CellJob, environment: dict[str, str], *command: str) -> None:
    """Run a command in the clone, with its output in the job's log; it ends with the job at the latest.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    _note(job, f"$ {' '.join(command)}")
    with job.log.open("a", encoding="utf-8") as log:
        process = subprocess.Popen(
            command, cwd=job.clone, env=environment, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )
        try:
            status = process.wait()
        except BaseException as error:  # time is up, preempted, interrupted: no training may outlive its job
            os.killpg(process.pid, signal.SIGKILL)
            _note(job, f"interrupted: {type(error).__name__}: {error}")
            raise
    if status:
        _note(job, f"exit status {status}")
        raise subprocess.CalledProcessError(status, command)


def attempt_lines(log: Path, attempt: int) -> list[str]:
    """What the log holds of an attempt; nothing where its job never started."""
    if not log.is_file():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    starts = [index for index, line in enumerate(lines) if re.match(rf"{_TIME} {_ATTEMPT} {attempt} ", line)]
    return lines[starts[-1] :] if starts else []


def _note(job: CellJob, line: str) -> None:
    with job.log.open("a", encoding="utf-8") as log:
        log.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {line}\n")

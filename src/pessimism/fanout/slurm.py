"""What SLURM says of jobs: its controller (squeue) of those it holds, its accounting (sacct) of how they ended."""

from __future__ import annotations

import os
import subprocess
import time
from dataclasses import dataclass, field
from typing import Any

from pessimism.fanout.errors import FanoutError

COMMANDS = ("sbatch", "srun", "squeue", "sacct")
ASKED_SECONDS = 20.0  # between two questions to the controller, which serves the whole cluster
_ANSWER_SECONDS = 60.0
_CONSIDERED_SECONDS = 10.0  # until SLURM has looked at a new job; the reason is not its own before
_NEVER = float("-inf")
_ENDED = {
    "BOOT_FAIL",
    "CANCELLED",
    "COMPLETED",
    "DEADLINE",
    "FAILED",
    "NODE_FAIL",
    "OUT_OF_MEMORY",
    "PREEMPTED",
    "REVOKED",
    "TIMEOUT",
}


@dataclass(frozen=True)
class QueuedJob:
    """A job as the controller knows it."""

    state: str
    """In SLURM's words, e.g. RUNNING."""
    reason: str
    """Why it waits, e.g. Resources."""


@dataclass
class Queue:
    """This user's jobs by their numbers, those included that ended a few minutes ago; asked for now and then."""

    jobs: dict[str, QueuedJob] = field(default_factory=dict)
    answered: float = _NEVER
    """When the controller was asked for the answer that ``jobs`` holds, by the monotonic clock."""
    _asked: float = _NEVER

    def refresh(self) -> None:
        """Ask again where the last question is old. Without an answer what was known stays."""
        now = time.monotonic()
        if now - self._asked < ASKED_SECONDS:
            return
        self._asked = now
        done = _ask("squeue", "--noheader", "--states=all", f"--user={os.getuid()}", "--format=%i|%T|%r")
        if not done.returncode:
            rows = [line.split("|", 2) for line in done.stdout.splitlines()]
            self.jobs = {number: QueuedJob(state, reason) for number, state, reason in rows}
            self.answered = now

    def holds(self, job_id: str) -> bool:
        """Whether the job is queued or at work, by the last answer."""
        return job_id in self.jobs and self.jobs[job_id].state not in _ENDED


@dataclass(frozen=True)
class SlurmJob:
    """A job that this driver or an earlier one submitted."""

    handle: Any
    """submitit's; it knows what the job's function returned or raised."""
    queue: Queue
    submitted: float
    """By the monotonic clock: an answer from before does not name the job."""

    @property
    def job_id(self) -> str:
        return str(self.handle.job_id)

    def done(self) -> bool:
        return self._returned or (self.queue.answered > self.submitted and not self.queue.holds(self.job_id))

    def exception(self) -> Any:
        """None where the job did what it should."""
        if self._returned:
            return self.handle.exception()
        completed = self.job_id in self.queue.jobs and self.queue.jobs[self.job_id].state == "COMPLETED"
        return None if completed else FanoutError(f"job {self.job_id} left no result")

    def waits_for(self) -> str | None:
        """The controller's reason for a job that is pending; None for others."""
        known = self.queue.jobs.get(self.job_id)
        considered = self.queue.answered > self.submitted + _CONSIDERED_SECONDS
        return known.reason if known is not None and known.state == "PENDING" and considered else None

    @property
    def _returned(self) -> bool:
        return bool(self.handle.paths.result_pickle.exists())


def check() -> None:
    """Refuse a cluster that would not say how a job ended.

    Raises:
        FanoutError: accounting does not answer.
    """
    done = _ask("sacct", "--allocations", "--noheader", "--parsable2", "--format=JobID", "--starttime=now")
    if done.returncode:
        raise FanoutError(
            f"found no working accounting: sacct says {' '.join(done.stderr.split()) or 'nothing'!r}; expected it to "
            "answer, since it alone knows how a job ended that has left the queue. Wait until it does, or ask the "
            "cluster's administrators for slurmdbd"
        )


def still_held(job_id: str, queue: Queue) -> bool:
    """Whether a job that an earlier driver submitted is still queued or at work.

    The controller is asked first. Accounting, asked where it does not answer, calls jobs running that a crash ended.

    Raises:
        FanoutError: neither answers.
    """
    queue.refresh()
    if queue.answered > _NEVER:
        return queue.holds(job_id)
    states = _accounted(job_id, "State")
    if states is None:
        raise FanoutError(
            f"found that neither squeue nor sacct answers whether job {job_id}, submitted earlier, is still held; "
            "expected one of them, or the cell might run twice. Type the command again once they do"
        )
    return any(state.partition(" ")[0] not in _ENDED for (state,) in states)


def ending(job_id: str) -> str:
    """How the job ended, in SLURM's words, as far as it says so."""
    rows = _accounted(job_id, "State", "ExitCode", "NodeList")
    if not rows:
        return f"SLURM says nothing of job {job_id}; try: sacct -j {job_id}"
    state, code, nodes = rows[-1]
    return f"SLURM says of job {job_id}: {state}, exit code {code}, nodes: {nodes}"


def _accounted(job_id: str, *fields: str) -> list[list[str]] | None:
    """What accounting knows of the job, one row or none; None where it does not answer."""
    done = _ask(
        "sacct", "--allocations", "--noheader", "--parsable2", f"--jobs={job_id}", f"--format={','.join(fields)}"
    )
    return None if done.returncode else [line.split("|") for line in done.stdout.splitlines()]


def _ask(*command: str) -> subprocess.CompletedProcess[str]:
    """Run a command of SLURM's; one that does not answer in time has failed."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=_ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(command, 1, "", f"no answer within {_ANSWER_SECONDS:.0f} s")

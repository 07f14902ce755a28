"""Jobs through submitit: how one is described to SLURM or to this machine, and which of them run when."""

from __future__ import annotations

import contextlib
import io
import math
import os
import shlex
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pessimism
from pessimism.experiment import records
from pessimism.fanout import slurm
from pessimism.fanout.errors import FanoutError
from pessimism.fanout.local import LocalJob, occupied, places, working_here, works_here
from pessimism.fanout.resources import NOTICE_SECONDS, Resources, import_submitit, slots
from pessimism.fanout.slurm import Queue, SlurmJob
from pessimism.fanout.worker import CellJob, OneRun

NOT_SUBMITTED = "not submitted"
_REASON_SECONDS = 300.0  # between two lines with the queue's reason
_POLL_SECONDS = {"slurm": 5.0, "local": 0.2}


def run_all(jobs: Sequence[CellJob], resources: Resources) -> Iterator[tuple[CellJob, str]]:
    """Submit the jobs as places get free, and wait for all. Once one was refused, no other is submitted.

    Yields:
        a job and a line of progress, as things happen. Whether a cell has a result is not judged here: the remote
        knows.

    Raises:
        FanoutError: the first job was refused.
    """
    floor = _Floor(resources, free=slots(resources, len(jobs)), waiting=list(jobs))
    while floor.waiting or floor.running:
        yield from floor.fill()
        if resources.executor == "slurm":
            floor.queue.refresh()
            yield from floor.pending()
        yield from floor.clear()
        time.sleep(_POLL_SECONDS[resources.executor])


@dataclass
class _Running:
    job: CellJob
    handle: Any
    started: float
    """By the monotonic clock, as all times here."""


@dataclass
class _Floor:
    """The places where jobs run, those that wait for one, and those that have one."""

    resources: Resources
    free: list[str | None]
    waiting: list[CellJob]
    running: list[_Running] = field(default_factory=list)
    queue: Queue = field(default_factory=Queue)
    started: bool = False
    told: dict[str, float] = field(default_factory=dict)
    """When a cell was last said to wait for a GPU, or jobs for a reason of the queue's."""

    def fill(self) -> Iterator[tuple[CellJob, str]]:
        """Start what waits where a place is free."""
        here = self.waiting and self.resources.executor == "local"
        others = working_here(self.waiting[0].folder.parent) if here else {}
        for job in list(self.waiting):
            fitting = places(job, self.free, others)
            if fitting:
                yield self._start(replace(job, devices=fitting[0]))
            elif self.free and job.cell not in self.told:
                self.told[job.cell] = time.monotonic()
                yield job, occupied(self.free, others)
            if not self.waiting:
                return

    def _start(self, job: CellJob) -> tuple[CellJob, str]:
        try:
            job, handle, line = _start(job, self.resources, self.queue)
        except FanoutError as error:
            if not self.started:
                raise
            self.waiting.clear()
            return job, f"{NOT_SUBMITTED}: {error}"
        self.waiting = [other for other in self.waiting if other.cell != job.cell]
        self.free.remove(job.devices)
        self.started = True
        self.running.append(_Running(job, handle, time.monotonic()))
        return job, line

    def pending(self) -> Iterator[tuple[CellJob, str]]:
        """Why SLURM lets jobs wait: a reason when it is new, and again every few minutes."""
        now = time.monotonic()
        reasons: dict[str, list[_Running]] = {}
        for place in self.running:
            reason = place.handle.waits_for()
            if reason is not None:
                reasons.setdefault(reason, []).append(place)
        for reason, alike in reasons.items():
            if now - self.told.get(reason, float("-inf")) >= _REASON_SECONDS:
                self.told[reason] = now
                others = f" (and {len(alike) - 1} more)" if len(alike) > 1 else ""
                yield alike[0].job, f"waits in SLURM's queue: {reason}{others}"

    def clear(self) -> Iterator[tuple[CellJob, str]]:
        """Give back the places of jobs that have ended."""
        for place in [place for place in self.running if place.handle.done()]:
            self.running.remove(place)
            self.free.append(place.job.devices)
            yield place.job, _ending(place.handle, time.monotonic() - place.started)


def _start(job: CellJob, resources: Resources, queue: Queue) -> tuple[CellJob, Any, str]:
    """Submit the job, unless one that an earlier driver submitted for this very cell is still queued or at work.

    Returns:
        the job with the number of its attempt, its handle, and a line of progress.
    """
    path = job.record
    record: dict[str, Any] = records.read_json(path) if path.is_file() else {"executor": None, "attempt": 0}
    if record["executor"] == resources.executor:
        earlier = _earlier(job, record, queue)
        if earlier is not None:
            job = replace(job, attempt=record["attempt"])
            return job, earlier, f"waits for job {earlier.job_id}, submitted earlier"
    job = replace(job, attempt=record["attempt"] + 1)
    handle = _submit(job, resources)
    where = {"host": socket.gethostname(), "devices": job.devices} if resources.executor == "local" else {}
    record = {"executor": resources.executor, "job_id": handle.job_id, "attempt": job.attempt, **where}
    records.write_json(path, record)
    line = f"submitted as job {handle.job_id}; log: {job.log}"
    return job, SlurmJob(handle, queue, time.monotonic()) if resources.executor == "slurm" else handle, line


def _earlier(job: CellJob, record: Mapping[str, Any], queue: Queue) -> Any:
    submitit = import_submitit()
    if record["executor"] == "local":
        handle: Any = submitit.LocalJob(folder=job.folder, job_id=record["job_id"])
        return LocalJob(job.folder, record, handle) if works_here(job.folder, record) else None
    if not slurm.still_held(record["job_id"], queue):
        return None
    handle = submitit.SlurmJob(folder=job.folder, job_id=record["job_id"])
    return SlurmJob(handle, queue, time.monotonic())


def _submit(job: CellJob, resources: Resources) -> Any:
    submitit = import_submitit()
    python = f"env PYTHONPATH={shlex.quote(_import_path())} {shlex.quote(sys.executable)}"
    executor = submitit.AutoExecutor(job.folder, cluster=resources.executor, slurm_python=python, local_python=python)
    try:
        executor.update_parameters(**_parameters(job, resources))
        with contextlib.redirect_stderr(io.StringIO()):  # submitit prints what it also raises
            return executor.submit(OneRun(job))
    except (AssertionError, NameError, TypeError, ValueError, submitit.core.utils.FailedJobError) as error:
        raise FanoutError(f"{job.cell}: the job was refused: {'; '.join(str(error).splitlines())}") from error


def _parameters(job: CellJob, resources: Resources) -> dict[str, Any]:
    """What submitit is told of a job.

    ``no-requeue``: SLURM must not start a job again after a failed node (see ``OneRun``).
    """
    gpus = {"gpus_per_node": resources.gpus} if resources.executor == "slurm" and resources.gpus else {}
    return {
        "name": f"pessimism-{job.cell}",
        "timeout_min": math.ceil(60 * resources.hours),
        "stderr_to_stdout": True,
        "slurm_signal_delay_s": NOTICE_SECONDS,
        "slurm_additional_parameters": {"no-requeue": True},
        **gpus,
        **resources.settings,
    }


def _import_path() -> str:
    """Where the job finds this package, whatever of the environment the scheduler hands on."""
    return os.pathsep.join(filter(None, [str(Path(pessimism.__file__).parents[1]), os.environ.get("PYTHONPATH")]))


def _ending(handle: Any, seconds: float) -> str:
    ended = "failed" if handle.exception() is not None else "finished"
    return f"{ended} after {seconds:.0f} s"

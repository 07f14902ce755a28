"""Jobs through submitit: how one is described to SLURM or to this machine, and how many run at a time."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import psutil

import pessimism
from pessimism.experiment import records
from pessimism.fanout import worker
from pessimism.fanout.errors import FanoutError
from pessimism.fanout.worker import CellJob

SUBMITTED = "submitted.json"
_GENERIC = {"mem_gb", "nodes", "cpus_per_task", "tasks_per_node"}
"""Settings that submitit knows for every executor; the others are SLURM's."""
_OURS = {
    "name": "it is the cell's",
    "timeout_min": "use --hours",
    "time": "use --hours",
    "gpus_per_node": "use --gpus",
    "stderr_to_stdout": "each job has one log",
}
_WAITING = {"PENDING", "CONFIGURING", "RUNNING", "REQUEUED", "RESIZING", "SUSPENDED", "COMPLETING"}
_POLL_SECONDS = {"slurm": 5.0, "local": 0.2}
LocalRecord = dict[str, Any]
"""What was submitted on this machine: job_id (number of its process), host, devices (its CUDA_VISIBLE_DEVICES)."""


@dataclass(frozen=True)
class Resources:
    """What each job gets, and how many there may be at a time."""

    executor: Literal["slurm", "local"]
    jobs: int | None
    """None: as many as there are cells (slurm) or GPUs (local; one job where there is none)."""
    gpus: int
    hours: float
    settings: dict[str, Any]
    """Further settings by submitit's names, e.g. ``slurm_partition``."""


def parse_settings(pairs: Sequence[str]) -> dict[str, Any]:
    """Settings written as KEY=VALUE, under submitit's names. Whole numbers become numbers, the rest stays text.

    Raises:
        FanoutError: one has no value, or has an option of its own.
    """
    settings: dict[str, Any] = {}
    for pair in pairs:
        key, separator, value = pair.partition("=")
        if not separator or not value:
            raise FanoutError(f"--set {pair}: found no value; expected KEY=VALUE, for instance partition=gpu")
        key = key.removeprefix("slurm_")
        if key in _OURS:
            raise FanoutError(f"--set {key}: found a setting that cannot be given so: {_OURS[key]}")
        settings[key if key in _GENERIC else f"slurm_{key}"] = int(value) if re.fullmatch(r"\d+", value) else value
    return settings


def check(resources: Resources) -> None:
    """Refuse what could not work before anything is pushed.

    Raises:
        FanoutError: submitit is not installed, there is no SLURM here, or there are fewer GPUs than asked for.
    """
    _check_numbers(resources)
    _submitit()
    missing = [name for name in ("sbatch", "srun", "sacct") if shutil.which(name) is None]
    if resources.executor == "slurm" and missing:
        raise FanoutError(
            f"found no {', '.join(missing)} on this machine; expected a login node of a SLURM cluster. To use this "
            "machine's own GPUs, add --executor local"
        )
    if resources.executor == "local":
        slots(resources, cells=1)


def _check_numbers(resources: Resources) -> None:
    if resources.jobs is not None and resources.jobs < 1:
        raise FanoutError(f"--jobs: found {resources.jobs}; expected 1 or more")
    if resources.gpus < 0:
        raise FanoutError(f"--gpus: found {resources.gpus}; expected 0 or more")
    if not 0 < resources.hours < float("inf"):
        raise FanoutError(f"--hours: found {resources.hours}; expected a number above 0")


def slots(resources: Resources, cells: int) -> list[str | None]:
    """CUDA_VISIBLE_DEVICES of each place where a job may run; None where SLURM decides.

    submitit's own local executor starts every job at once and shows all of them the same GPU.
    """
    if resources.executor == "slurm":
        return [None] * (resources.jobs or cells)
    devices = _devices()
    if not devices or not resources.gpus:
        return [""] * (resources.jobs or 1)
    groups = [",".join(devices[first : first + resources.gpus]) for first in range(0, len(devices), resources.gpus)]
    groups = groups[: len(devices) // resources.gpus]
    wanted = resources.jobs or max(1, len(groups))
    if wanted > len(groups):
        raise FanoutError(
            f"found {len(devices)} GPU(s); expected at least {wanted * resources.gpus} for --jobs {wanted} with "
            f"--gpus {resources.gpus} each"
        )
    return [*groups[:wanted]]


def _devices() -> list[str]:
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return [device for device in visible.split(",") if device]
    import torch

    return [str(index) for index in range(torch.cuda.device_count())]


def run_all(jobs: Sequence[CellJob], resources: Resources) -> Iterator[tuple[CellJob, str]]:
    """Submit the jobs as places get free, and wait for all.

    Yields:
        a job and a line of progress, as things happen. Whether a cell has a result is not judged here: the remote
        knows.
    """
    free, waiting = slots(resources, len(jobs)), list(jobs)
    running: dict[str, tuple[CellJob, Any, float]] = {}
    told: set[str] = set()
    while waiting or running:
        others = _working_here(waiting[0].folder.parent) if waiting and resources.executor == "local" else {}
        for queued in list(waiting):
            places = _places(queued, free, others)
            if places:
                free.remove(places[0])
                waiting.remove(queued)
                job = replace(queued, devices=places[0])
                handle, line = _start(job, resources)
                running[job.cell] = (job, handle, time.monotonic())
                yield job, line
            elif free and queued.cell not in told:
                told.add(queued.cell)
                yield queued, _occupied(free, others)
        for cell, (job, handle, started) in list(running.items()):
            if handle.done():
                del running[cell]
                free.append(job.devices)
                yield job, _ending(handle, time.monotonic() - started)
        time.sleep(_POLL_SECONDS[resources.executor])


def _places(job: CellJob, free: Sequence[str | None], others: Mapping[Path, LocalRecord]) -> list[str | None]:
    """Which of the free places the job may take: where it is at work already, else where no other job is."""
    if job.folder in others and others[job.folder]["devices"] in free:
        return [others[job.folder]["devices"]]
    return [place for place in free if not any(_shared(place, record) for record in others.values())]


def _shared(place: str | None, record: LocalRecord) -> bool:
    """Whether the job that was recorded is at work on a GPU of the place."""
    return bool(set(filter(None, (place or "").split(","))) & set(record["devices"].split(",")))


def _occupied(free: Sequence[str | None], others: Mapping[Path, LocalRecord]) -> str:
    jobs = [record for record in others.values() if any(_shared(place, record) for place in free)]
    named = ", ".join(f"by job {record['job_id']} on {record['devices']}" for record in jobs)
    return f"waits for a GPU, used {named} of another driver; `kill -INT NUMBER` would end a job"


def _working_here(folder: Path) -> dict[Path, LocalRecord]:
    """Records of the jobs at work on this machine, whichever driver submitted them, by job folder."""
    found = {path.parent: records.read_json(path) for path in folder.glob(f"*/{SUBMITTED}")}
    return {place: record for place, record in found.items() if _works_here(place, record)}


def _works_here(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the process that a record names still is that job's: numbers of processes are given out again."""
    if record["executor"] != "local" or record.get("host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(record["job_id"]))
        return process.status() != psutil.STATUS_ZOMBIE and str(folder) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # AccessDenied: another user's, so not the job
        return False


@dataclass(frozen=True)
class _LocalJob:
    """A job of an earlier driver on this machine, as far as submitit's own handle cannot tell."""

    folder: Path
    record: Mapping[str, Any]

    @property
    def job_id(self) -> str:
        return str(self.record["job_id"])

    def done(self) -> bool:
        return not _works_here(self.folder, self.record)

    def exception(self) -> Any:
        return _submitit().LocalJob(folder=self.folder, job_id=self.job_id).exception()


def _start(job: CellJob, resources: Resources) -> tuple[Any, str]:
    """Submit the job, unless one that an earlier driver submitted for this very cell is still queued or at work."""
    earlier = _earlier(job, resources)
    if earlier is not None:
        return earlier, f"waits for job {earlier.job_id}, submitted earlier"
    handle = _submit(job, resources)
    where = {"host": socket.gethostname(), "devices": job.devices} if resources.executor == "local" else {}
    records.write_json(job.folder / SUBMITTED, {"executor": resources.executor, "job_id": handle.job_id, **where})
    return handle, f"submitted as job {handle.job_id}; log: {job.log}"


def _earlier(job: CellJob, resources: Resources) -> Any:
    path = job.folder / SUBMITTED
    if not path.is_file():
        return None
    record = records.read_json(path)
    if record["executor"] != resources.executor:
        return None
    if resources.executor == "local":
        return _LocalJob(job.folder, record) if _works_here(job.folder, record) else None
    handle: Any = _submitit().SlurmJob(folder=job.folder, job_id=record["job_id"])
    return handle if handle.get_info(mode="force").get("State", "").partition(" ")[0] in _WAITING else None


def _submit(job: CellJob, resources: Resources) -> Any:
    submitit = _submitit()
    python = f"env PYTHONPATH={shlex.quote(_import_path())} {shlex.quote(sys.executable)}"
    executor = submitit.AutoExecutor(job.folder, cluster=resources.executor, slurm_python=python, local_python=python)
    try:
        executor.update_parameters(**_parameters(job, resources))
        return executor.submit(worker.run, job)
    except (AssertionError, NameError, TypeError, ValueError, submitit.core.utils.FailedJobError) as error:
        raise FanoutError(f"{job.cell}: submitit refused the job: {error}") from error


def _parameters(job: CellJob, resources: Resources) -> dict[str, Any]:
    gpus = {"gpus_per_node": resources.gpus} if resources.executor == "slurm" and resources.gpus else {}
    return {
        "name": f"pessimism-{job.cell}",
        "timeout_min": max(1, round(60 * resources.hours)),
        "stderr_to_stdout": True,
        **gpus,
        **resources.settings,
    }


def _import_path() -> str:
    """Where the job finds this package, whatever of the environment the scheduler hands on."""
    return os.pathsep.join(filter(None, [str(Path(pessimism.__file__).parents[1]), os.environ.get("PYTHONPATH")]))


def _ending(handle: Any, seconds: float) -> str:
    ended = "failed" if handle.exception() is not None else "finished"
    return f"{ended} after {seconds:.0f} s"


def _submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise FanoutError(
            "found no submitit in this environment; install this package's extra: pip install -e '.[cluster]'"
        ) from error
    return submitit

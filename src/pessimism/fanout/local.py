"""Jobs on this machine: which of them are at work, whichever driver submitted them, and on which GPUs."""

from __future__ import annotations

import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from pessimism.experiment import records
from pessimism.fanout.worker import SUBMITTED, CellJob

LocalRecord = dict[str, Any]
"""What was submitted on this machine: job_id (number of its process), host, devices (its CUDA_VISIBLE_DEVICES)."""


def places(job: CellJob, free: Sequence[str | None], others: Mapping[Path, LocalRecord]) -> list[str | None]:
    """Which of the free places the job may take: where it is at work already, else where no other job is."""
    if job.folder in others and others[job.folder]["devices"] in free:
        return [others[job.folder]["devices"]]
    return [place for place in free if not any(_shared(place, record) for record in others.values())]


def _shared(place: str | None, record: LocalRecord) -> bool:
    """Whether the job that was recorded is at work on a GPU of the place."""
    return bool(set(filter(None, (place or "").split(","))) & set(record["devices"].split(",")))


def occupied(free: Sequence[str | None], others: Mapping[Path, LocalRecord]) -> str:
    jobs = [record for record in others.values() if any(_shared(place, record) for place in free)]
    named = ", ".join(f"by job {record['job_id']} on {record['devices']}" for record in jobs)
    return f"waits for a GPU, used {named} of another driver; `kill -INT NUMBER` would end a job"


def working_here(folder: Path) -> dict[Path, LocalRecord]:
    """Records of the jobs at work on this machine, whichever driver submitted them, by job folder."""
    found = {path.parent: records.read_json(path) for path in folder.glob(f"*/{SUBMITTED}")}
    return {place: record for place, record in found.items() if works_here(place, record)}


def works_here(folder: Path, record: Mapping[str, Any]) -> bool:
    """Whether the process that a record names still is that job's: numbers of processes are given out again."""
    if record["executor"] != "local" or record.get("host") != socket.gethostname():
        return False
    try:
        process = psutil.Process(int(record["job_id"]))
        return process.status() != psutil.STATUS_ZOMBIE and str(folder) in process.cmdline()
    except (psutil.NoSuchProcess, psutil.AccessDenied):  # AccessDenied: another user's, so not the job
        return False


@dataclass(frozen=True)
class LocalJob:
    """A job of an earlier driver on this machine, as far as submitit's own handle cannot tell."""

    folder: Path
    record: Mapping[str, Any]
    handle: Any
    """submitit's; it knows what the job's function returned or raised."""

    @property
    def job_id(self) -> str:
        return str(self.record["job_id"])

    def done(self) -> bool:
        return not works_here(self.folder, self.record)

    def exception(self) -> Any:
        return self.handle.exception()

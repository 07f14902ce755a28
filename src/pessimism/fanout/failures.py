"""What is said of cells without a result: the end of their jobs' logs, and what their scheduler says of them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from pessimism.experiment import records
from pessimism.fanout import scheduling, slurm, worker
from pessimism.fanout.worker import CellJob

_SHOWN_LINES = 15
_SHOWN_TELLING = 5
_TELLING = re.compile(r"slurmstepd\S*: error: |srun: error: |submitit WARNING .*this job is |[\w.]+(Error|Exception)\b")
"""Lines of a scheduler's log that say why a job ended; what surrounds them is of its own doing."""
_TIME_WAS_UP = re.compile(r"this job is timed-out|DUE TO TIME LIMIT|\bTIMEOUT\b")


def report(jobs: Sequence[CellJob], said: Mapping[str, str]) -> str:
    """Of each job without a result: where it ended, what it printed last, and what its scheduler says of it.

    Args:
        said: the last line of progress of a cell, for those that got one.
    """
    return f"{len(jobs)} cell(s) have no result; the same command again runs them and no other.\n\n" + "\n\n".join(
        _failure(job, said.get(job.cell, scheduling.NOT_SUBMITTED)) for job in jobs
    )


def _failure(job: CellJob, said: str) -> str:
    if said.startswith(scheduling.NOT_SUBMITTED):
        return f"{job.cell}: {said}"
    record = records.read_json(job.record)
    lines = worker.attempt_lines(job.log, record["attempt"])
    heading = f"{job.cell}, attempt {record['attempt']}: {job.log if lines else 'it wrote no log: it never started'}"
    if lines[-1:] and lines[-1].endswith(worker.FINISHED):
        lines.append("The job succeeded, but for other inputs than this project holds now: did files change meanwhile?")
    ending = [slurm.ending(record["job_id"])] if record["executor"] == "slurm" else []
    ending += _telling(job.folder / f"{record['job_id']}_0_log.out")
    if any(_TIME_WAS_UP.search(line) for line in ending):
        ending.append("Its time was up: give a larger --hours.")
    return "\n".join([heading, *(f"  {line}" for line in [*lines[-_SHOWN_LINES:], *ending])])


def _telling(log: Path) -> list[str]:
    """The last lines of a scheduler's log that say why the job ended, each once."""
    if not log.is_file():
        return []
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return [f"{log.name}: {line}" for line in list(dict.fromkeys(filter(_TELLING.match, lines)))[-_SHOWN_TELLING:]]

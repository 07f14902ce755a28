"""The whole pipeline with several stages at a time: what a plain `dvc repro` makes, in less time."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from pessimism.errors import ParamsError
from pessimism.experiment import layout
from pessimism.experiment.params import Params, load_params
from pessimism.fanout import dvc_graph, dvc_project, resident, side_by_side
from pessimism.machine import cores

LOGS = Path(".dvc/tmp/repro")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run every stage that is not up to date, as `dvc repro` does, several at a time. Files, metrics and dvc.lock "
        "become the same bytes. Run it again after any failure: what has ended is kept."
    )
    parser.add_argument(
        "--jobs",
        type=int,
        metavar="N",
        help="stages at a time (default: the cores that this process may use; 1 where the scale needs a GPU)",
    )
    parser.add_argument(
        "--resident",
        action="store_true",
        help="import the libraries once, in a process of which stages are forks: the same bytes in less time; Linux",
    )


def run(options: argparse.Namespace) -> None:
    warning = cores.busy_warning()
    if warning:
        print(warning, file=sys.stderr)
    with resident.started() if options.resident else nullcontext():
        for line in repro(options.jobs):
            print(line, flush=True)


def repro(jobs: int | None, logs: Path = LOGS) -> Iterator[str]:
    """Bring every stage up to date.

    Args:
        jobs: stages at a time; None: see :func:`default_jobs`.

    Yields:
        lines of progress.

    Raises:
        FanoutError: a stage failed, or DVC refuses something.
        ParamsError: the parameters are not usable, or ``jobs`` is less than 1.
    """
    jobs = default_jobs(load_params()) if jobs is None else jobs
    if jobs < 1:
        raise ParamsError(f"--jobs: found {jobs}; expected 1 or more")
    yield f"up to {jobs} stage(s) at a time; what each prints: {logs}/STAGE.log"
    yield from dvc_project.mend_cut_off()
    recorded = dvc_project.lock_entries(layout.LOCK.read_text(encoding="utf-8") if layout.LOCK.is_file() else "")
    try:
        with dvc_graph.opened() as graph:
            yield from side_by_side.run_all(graph, jobs, logs)
    finally:
        if layout.LOCK.is_file():
            dvc_project.order_lock(recorded)


def default_jobs(params: Params) -> int:
    """One stage per core, each of which computes with one thread; one where the scale is made to fill a GPU."""
    return 1 if params.scale.device == "cuda" else cores.usable()

"""The cells of matrix stages as jobs on other GPUs, and their results back into this project."""

from __future__ import annotations

import argparse
import itertools
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from pessimism.commands.prune import left_over_files
from pessimism.experiment import layout, pipeline
from pessimism.experiment.params import Params, load_params
from pessimism.fanout import dvc_project, failures, scheduling, snapshot
from pessimism.fanout.dvc_project import PendingCell, Remote
from pessimism.fanout.errors import FanoutError
from pessimism.fanout.resources import Resources, check, parse_settings
from pessimism.fanout.snapshot import Snapshot
from pessimism.fanout.worker import CellJob

FOLDER = Path(".dvc/tmp/fanout")


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Run every cell of the stages that has no result yet as a job of its own, in a clone, and bring the results "
        "back through the DVC remote. Run it again after any failure: only what is missing runs. docs/paper-scale.md "
        "has an example."
    )
    add = parser.add_argument
    add("stages", nargs="+", metavar="STAGE", help="matrix stages of dvc.yaml that do not depend on one another")
    add(
        "--executor",
        choices=("slurm", "local"),
        default="slurm",
        help="who starts the jobs: SLURM, or this machine, one job per GPU (default: slurm)",
    )
    add("--jobs", type=int, metavar="N", help="jobs at a time (default: slurm: every cell; local: every GPU)")
    add("--gpus", type=int, default=1, metavar="N", help="GPUs of each job (default: 1)")
    add(
        "--hours",
        type=float,
        default=24,
        metavar="H",
        help="time after which a job is ended, 90 s of it to end in (default: 24)",
    )
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="setting for SLURM by submitit's name, as often as needed: partition=gpu, account=me, cpus_per_task=8",
    )
    add(
        "--folder",
        type=Path,
        default=FOLDER,
        help=f"for clones and logs; all machines must see it under this path (default: {FOLDER} of the project)",
    )


def run(options: argparse.Namespace) -> None:
    settings = parse_settings(options.settings)
    resources = Resources(options.executor, options.jobs, options.gpus, options.hours, settings)
    for line in fanout(options.stages, resources, options.folder):
        print(line, flush=True)


def fanout(stages: Sequence[str], resources: Resources, folder: Path = FOLDER) -> Iterator[str]:
    """Run the pending cells of ``stages`` as jobs and merge what they and earlier jobs made.

    Every call starts with what is already in the remote, so that a call after a killed driver or a failed job submits
    only the cells that still have no result.

    Args:
        stages: matrix stages of dvc.yaml that do not depend on one another.
        folder: holds clones and logs; every machine that runs jobs must see it under the same path.

    Yields:
        lines of progress.

    Raises:
        FanoutError: something is not ready for it, or cells failed: all the others are merged then.
        ParamsError: the parameters are not usable.
    """
    params = load_params()
    cells = _cells(stages, params)
    check(resources)
    remote = _ready(stages, cells, params)
    pending = dvc_project.merge(cells)
    yield (
        f"scale {params.scale_name}, protocol {params.protocol_name}: {len(cells)} cells, "
        f"{len(cells) - len(pending)} with a result, {len(pending)} to run"
    )
    if not pending:
        return
    dvc_project.push_upstream([cell.name for cell in pending])
    taken = snapshot.take(Path.cwd())
    jobs = [_job(cell, remote, taken, folder.absolute()) for cell in pending]
    said: dict[str, str] = {}
    try:
        for job, line in scheduling.run_all(jobs, resources):
            said[job.cell] = line
            yield f"{job.cell}: {line}"
    except FanoutError:  # nothing was submitted that would need it
        snapshot.forget(Path.cwd(), taken)
        raise
    snapshot.forget(Path.cwd(), taken)
    missing = {cell.name for cell in dvc_project.merge([job.cell for job in jobs])}
    done = [job for job in jobs if job.cell not in missing]
    for job in done:
        _tidy(job)
    yield f"merged {len(done)} of {len(jobs)}"
    if missing:
        raise FanoutError(failures.report([job for job in jobs if job.cell in missing], said))


def _cells(stages: Sequence[str], params: Params) -> list[str]:
    """Names of all cells of the stages."""
    known = {stage.name: stage for stage in pipeline.load_stages() if stage.axes}
    unknown = sorted(set(stages) - known.keys())
    if unknown:
        raise FanoutError(
            f"found no matrix stage {', '.join(unknown)} in dvc.yaml; expected some of {', '.join(known)}"
        )
    lists = {key: list(value) for key, value in asdict(params).items() if isinstance(value, tuple)}
    return pipeline.lock_names([known[name] for name in dict.fromkeys(stages)], lists)


def _ready(stages: Sequence[str], cells: Sequence[str], params: Params) -> Remote:
    """Refuse whatever would make the jobs fail, or make results that do not belong to this project."""
    for role in ("policy", "reward"):
        model = params.scale.model(role)
        if model.source == "path" and not Path(model.name).is_absolute():
            raise FanoutError(
                f"{layout.scale_file(params.scale_name)}: {role}.name: found the relative path {model.name!r}, which "
                f"does not exist in a job's clone; expected an absolute one: {Path(model.name).absolute()}"
            )
    left_over = left_over_files(params)
    if left_over:
        raise FanoutError(
            f"found outputs of cells that params.yaml no longer lists ({left_over[0]}, ...); no job would have them, "
            "and results would not fit. First run: pessimism prune"
        )
    snapshot.check_untracked(Path.cwd())
    remote = dvc_project.default_remote()
    stale = dvc_project.stale_upstream(cells)
    if stale and all(name.endswith(pipeline.INPUTS) for name in stale):  # a tenth of a second each
        dvc_project.dvc("repro", "--single-item", *stale)
        stale = dvc_project.stale_upstream(cells)  # cells depend on what was recorded
    if stale:
        raise FanoutError(
            f"found stages before {', '.join(stages)} that are not up to date: {', '.join(stale)}. "
            "First run:\n" + "\n".join(f"  {command}" for command in _commands(stale))
        )
    return remote


def _commands(stale: Sequence[str]) -> list[str]:
    """What brings stale stages up to date, in the order of dvc.yaml; fanning out cells records their inputs too."""
    names = {cell.partition("@")[0] for cell in stale if not cell.endswith(pipeline.INPUTS)}
    stages = [stage for stage in pipeline.load_stages() if stage.name in names]
    groups = itertools.groupby(stages, key=lambda stage: bool(stage.axes))
    return [
        f"{'pessimism fanout' if matrix else 'dvc repro --pull'} {' '.join(stage.name for stage in group)}"
        for matrix, group in groups
    ]


def _job(cell: PendingCell, remote: Remote, taken: Snapshot, folder: Path) -> CellJob:
    directory = folder / f"{cell.name}-{cell.digest}"
    directory.mkdir(parents=True, exist_ok=True)
    return CellJob(
        cell=cell.name,
        inputs=cell.inputs,
        project=Path.cwd(),
        ref=taken.ref,
        remote=remote.name,
        remote_url=remote.url,
        folder=directory,
        devices=None,
    )


def _tidy(job: CellJob) -> None:
    """Keep what the run took, its rows and its log; the clone has served."""
    for record in (job.clone / layout.RUN_RECORDS).glob("*.json*"):
        layout.RUN_RECORDS.mkdir(exist_ok=True)
        shutil.copy(record, layout.RUN_RECORDS)
    shutil.rmtree(job.clone, ignore_errors=True)

"""What each job gets, and how many there may be at a time."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pessimism.fanout import slurm
from pessimism.fanout.errors import FanoutError

_GENERIC = {"mem_gb", "nodes", "cpus_per_task", "tasks_per_node"}
"""Settings that submitit knows for every executor; the others are SLURM's."""
NOTICE_SECONDS = 90
"""Before its time is up a job is told so, by a signal at which it ends what it started."""
_LEAST_HOURS = 0.1
_OURS = {
    "name": "it is the cell's",
    "timeout_min": "use --hours",
    "time": "use --hours",
    "gpus_per_node": "use --gpus",
    "stderr_to_stdout": "each job has one log",
    "signal_delay_s": f"it is {NOTICE_SECONDS}",
    "additional_parameters": "they say that SLURM must not start a job again",
}


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
    import_submitit()
    if resources.executor == "local":
        slots(resources, cells=1)
        return
    missing = [name for name in slurm.COMMANDS if shutil.which(name) is None]
    if missing:
        raise FanoutError(
            f"found no {', '.join(missing)} on this machine; expected a login node of a SLURM cluster. To use this "
            "machine's own GPUs, add --executor local"
        )
    slurm.check()


def _check_numbers(resources: Resources) -> None:
    if resources.jobs is not None and resources.jobs < 1:
        raise FanoutError(f"--jobs: found {resources.jobs}; expected 1 or more")
    if resources.gpus < 0:
        raise FanoutError(f"--gpus: found {resources.gpus}; expected 0 or more")
    if not _LEAST_HOURS <= resources.hours < float("inf"):
        raise FanoutError(
            f"--hours: found {resources.hours}; expected {_LEAST_HOURS} or more, since a job is told to end up to "
            f"{NOTICE_SECONDS} s before its time is up"
        )


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


def import_submitit() -> Any:
    try:
        import submitit
    except ImportError as error:
        raise FanoutError(
            "found no submitit in this environment; install this package's extra: pip install -e '.[cluster]'"
        ) from error
    return submitit

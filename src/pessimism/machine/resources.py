"""What this machine has free: disk, memory, a CUDA device. Each check raises, or says nothing.

All needs are lower bounds that are certain. How much a stage takes in the end, the planner estimates.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pessimism.errors import ResourceError
from pessimism.machine import processes

GIB = 1024**3
CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUP = Path("/proc/self/cgroup")


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that something will write below a directory, which need not exist yet."""

    directory: Path
    size: int
    purpose: str


def check_disk(needs: Sequence[DiskNeed]) -> None:
    """Check that each file system has room for everything that goes there.

    Raises:
        ResourceError: one has less free than it needs.
    """
    places = [_existing(need.directory) for need in needs]
    for device in sorted({place.stat().st_dev for place in places}):
        here = [(need, place) for need, place in zip(needs, places, strict=True) if place.stat().st_dev == device]
        needed, free = sum(need.size for need, _ in here), shutil.disk_usage(here[0][1]).free
        if free < needed:
            purposes = "; ".join(f"{_gib(need.size)} below {need.directory} for {need.purpose}" for need, _ in here)
            raise ResourceError(
                f"found {_gib(free)} free on the disk of {here[0][1]}; expected at least {_gib(needed)} ({purposes}): "
                "free some, or move the Hugging Face cache to another disk with HF_HOME"
            )


def check_device(required: str) -> None:
    """Check that there is a CUDA device, where the scale requires one, for this process of the machine's.

    Raises:
        ResourceError: there is none.
    """
    if required != "cuda":
        return
    import torch

    if not torch.cuda.is_available():
        build = f"is built for CUDA {torch.version.cuda}" if torch.version.cuda else "is built without CUDA"
        raise ResourceError(
            f"found no CUDA device (torch {torch.__version__} {build}, CUDA_VISIBLE_DEVICES="
            f"{os.environ.get('CUDA_VISIBLE_DEVICES', 'not set')}); expected one, for the scale says `device: cuda`: "
            "run this on a machine with a GPU (on a cluster, in a job that was given one), or choose another scale"
        )
    count, index = torch.cuda.device_count(), processes.local_rank()
    if index >= count:
        raise ResourceError(
            f"found {count} CUDA device(s); expected one for each of the {processes.local_count()} processes on "
            "this machine: lower --num_processes of the launcher in params.yaml"
        )


def check_memory(needed: int, purpose: str) -> None:
    """Check that ``needed`` bytes fit: the free memory of this process's GPU, or of the machine where there is none.

    Raises:
        ResourceError: they do not.
    """
    free, where = free_memory()
    if free < needed:
        raise ResourceError(
            f"found {_gib(free)} free {where}; expected at least {_gib(needed)} for {purpose} alone: end what else "
            "uses it, take a larger one, or choose another scale"
        )


def free_memory() -> tuple[int, str]:
    """Bytes that this process may still take for a model, and where; processes of one machine share its memory."""
    import torch

    if torch.cuda.is_available():
        index = processes.local_rank()
        return torch.cuda.mem_get_info(index)[0], f"on GPU {index} ({torch.cuda.get_device_name(index)})"
    return free_ram() // processes.local_count(), "in this machine's memory"


def free_ram() -> int:
    """Bytes of RAM that the kernel and every control group above this process still give."""
    import psutil

    return min([psutil.virtual_memory().available, *_cgroup_free()])


def _cgroup_free() -> Iterator[int]:
    """What each control group that holds this process has left, of version 1 and 2; page cache counts as free."""
    files = {
        "": ("memory.max", "memory.current", "inactive_file"),
        "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
    }
    for controllers, group in _cgroups():
        if controllers not in files:
            continue
        limit, usage, cache = files[controllers]
        if (group / limit).is_file() and (group / usage).is_file():
            text = (group / limit).read_text(encoding="ascii").strip()
            if text != "max":
                yield max(0, int(text) - int((group / usage).read_text(encoding="ascii")) + _stat(group, cache))


def cgroup_cores() -> Iterator[float]:
    """Time per time that each control group that holds this process, of version 1 and 2, may take of the cores."""
    for _, group in _cgroups():
        if (group / "cpu.max").is_file():
            quota, period = (group / "cpu.max").read_text(encoding="ascii").split()
        elif (group / "cpu.cfs_quota_us").is_file():
            quota, period = ((group / f"cpu.cfs_{name}_us").read_text(encoding="ascii") for name in ("quota", "period"))
        else:
            continue
        if quota.strip() not in ("max", "-1"):
            yield int(quota) / int(period)


def _cgroups() -> Iterator[tuple[str, Path]]:
    """Controllers and directory of every control group that holds this process, the inner ones first."""
    lines = OWN_CGROUP.read_text(encoding="ascii").splitlines() if OWN_CGROUP.is_file() else []
    for line in lines:
        _, controllers, path = line.split(":", 2)
        own = CGROUPS / controllers / path.lstrip("/")
        yield from ((controllers, group) for group in (own, *own.parents) if group.is_relative_to(CGROUPS))


def _stat(group: Path, key: str) -> int:
    lines = (group / "memory.stat").read_text(encoding="ascii").splitlines()
    return next((int(line.split()[1]) for line in lines if line.split()[0] == key), 0)


def _existing(path: Path) -> Path:
    path = path.absolute()
    return next(place for place in (path, *path.parents) if place.exists())


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"

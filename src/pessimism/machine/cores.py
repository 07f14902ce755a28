"""How many cores this process may use, and whether they are busy."""

from __future__ import annotations

import os

from pessimism.machine import resources

_BUSY = 0.75


def usable() -> int:
    """The cores of this process's affinity (macOS: all), and no more than its control groups may take."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, int(min([cores, *resources.cgroup_cores()])))


def busy_warning() -> str | None:
    """A line where other processes of the machine have kept most of its cores busy for a minute; None where not."""
    load, cores = os.getloadavg()[0], os.cpu_count() or 1
    if load < _BUSY * cores:
        return None
    return f"warning: found a load of {load:.1f} on {cores} core(s): other processes share them, and a run takes longer"

"""How many cores this process may use."""

from __future__ import annotations

import os

from pessimism.machine import resources


def usable() -> int:
    """The cores of this process's affinity, and no more than its control groups may take."""
    return max(1, int(min([len(os.sched_getaffinity(0)), *resources.cgroup_cores()])))

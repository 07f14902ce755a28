"""How many cores this process may use."""

from __future__ import annotations

import os

from pessimism.machine import resources


def usable() -> int:
    """Cores that the scheduler gives this process: those of its affinity, and no more than its control groups' share."""
    return max(1, int(min([len(os.sched_getaffinity(0)), *resources.cgroup_cores()])))

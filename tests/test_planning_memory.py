"""Predicted peak memory against what the same stage functions take on this CPU, each in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from pessimism.planning.hardware import Assumptions
from pessimism.planning.workload import Workload
from support import memory_probe

TOLERANCE = 0.2
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    # Every tensor of 64 KiB or more is taken from the system by itself and given back when it is freed.
    "MALLOC_MMAP_THRESHOLD_": "65536",
}


def predicted(stage: str, size: str, directory: Path, project: Path) -> int:
    params = memory_probe.params_of(size, directory, project)
    work = getattr(Workload(params, memory_probe.ROWS, Assumptions(), target="cpu"), stage)()
    return sum(work.resident.values()) + max(sum(use.traced.memory.values()) for use in work.uses)


def measured(stage: str, size: str, project: Path) -> int:
    command = [sys.executable, memory_probe.__file__, stage, size, str(project)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = os.environ | ENVIRONMENT | {"PYTHONPATH": path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return int(json.loads(done.stdout.splitlines()[-1])["bytes"])


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux to measure")
@pytest.mark.parametrize("size", memory_probe.SIZES)
@pytest.mark.parametrize("stage", ["measure_reference", "train_dpo", "train_reward_model"])
def test_predicted_peak_is_the_measured_one(stage: str, size: str, tmp_path: Path, checkout: Path) -> None:
    expected = measured(stage, size, checkout)
    found = predicted(stage, size, tmp_path, checkout)
    assert found == pytest.approx(expected, rel=TOLERANCE), f"predicted {found:,}, measured {expected:,}"

"""Memory of one workload, in this process: ``python -m benchmarks.memory logprobs.naive_memory``.

Prints the bytes by which the process (on CUDA: torch's allocator) had grown at most while the workload ran (``peak``)
and when it was done (``resident``). A workload is a function of this package that makes ready and returns the call to
measure. It is run on its tiny version first, so that what libraries load on first use is not counted.
"""

from __future__ import annotations

import gc
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

Workload = Callable[[bool], Callable[[], object]]
"""Given whether it shall be tiny, makes ready and returns the call to measure."""


def status_bytes(key: str) -> int:
    """A line of this process's status, in bytes: VmRSS resident now, VmHWM resident at most since the last reset."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def measure_cpu(call: Callable[[], object]) -> dict[str, int]:
    before = status_bytes("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the largest resident set so far
    kept = call()
    found = {"peak": status_bytes("VmHWM") - before}
    gc.collect()
    found["resident"] = status_bytes("VmRSS") - before
    del kept
    return found


def measure_cuda(call: Callable[[], object]) -> dict[str, int]:
    import torch

    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    kept = call()
    found = {"peak": torch.cuda.max_memory_allocated() - before}
    gc.collect()
    found["resident"] = torch.cuda.memory_allocated() - before
    del kept
    return found


def main() -> None:
    import torch

    module, function = sys.argv[1].split(".")
    workload: Workload = getattr(importlib.import_module(f"benchmarks.{module}"), function)
    workload(True)()
    call = workload(False)
    gc.collect()
    print(json.dumps(measure_cuda(call) if torch.cuda.is_available() else measure_cpu(call)))


if __name__ == "__main__":
    main()

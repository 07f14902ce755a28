"""Rehearse a scale in ten minutes, before a day is spent: ``python -m benchmarks.rehearse --scale paper``.

Prints JSON, a line for every pass of every step and a summary at the end; status 1 where something is not as it should
be. ``--scale micro`` is the same on a CPU, with small models. docs/paper-scale.md says how to read the lines.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence

from benchmarks.rehearse.bases import MICRO, SCALES
from benchmarks.rehearse.measuring import Line
from benchmarks.rehearse.step import STEPS

MINUTES = 10  # of a call


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.rehearse", description=__doc__.partition("\n")[0])
    parser.add_argument("--scale", choices=(*SCALES, MICRO), default=MICRO)
    parser.add_argument("--steps", type=lambda text: text.split(","), default=list(STEPS), help="such as train_dpo")
    options = parser.parse_args()
    unknown = sorted(set(options.steps) - set(STEPS))
    if unknown:
        parser.error(f"--steps: found {', '.join(unknown)}; expected some of {', '.join(STEPS)}")
    return options


def check_device(scale: str) -> None:
    """End at once where a scale needs a GPU and there is none: its models would take days to compute with."""
    import torch

    if scale != MICRO and not torch.cuda.is_available():
        sys.exit(
            f"error: --scale {scale}: found no CUDA device; expected one: run this on a machine with a GPU, or "
            f"`--scale {MICRO}` here"
        )


def run_process(step: str, command: Sequence[str], limit: float) -> Iterator[Line]:
    """The lines that a process prints, and one more where it does not end well.

    Args:
        limit: seconds after which it is ended.
    """
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=limit, check=False)
        printed, problem = done.stdout, _problem(done) if done.returncode else None
    except subprocess.TimeoutExpired as stopped:
        printed = (stopped.stdout or b"").decode()
        problem = f"stopped after {limit:.0f} s, at the end of the {MINUTES} minutes: run it alone: --steps {step}"
    yield from (json.loads(text) for text in printed.splitlines() if text.startswith("{") and text.endswith("}"))
    if problem:
        yield {"step": step, "ok": False, "reason": problem}


def _problem(done: subprocess.CompletedProcess[str]) -> str:
    """How a process ended, and the last that it said."""
    status = done.returncode
    how = f"by {signal.Signals(-status).name}" if status < 0 else f"with status {status}"
    return f"ended {how}: {(done.stderr.strip().splitlines() or ['nothing was printed'])[-1]}"


def summary(found: Sequence[Line]) -> Line:
    """The last line: whether all is well, and the largest ratios to the plan."""
    wrong = [f"{line['step']}, {line.get('pass', 'whole step')}: {line['reason']}" for line in found if not line["ok"]]
    ratios = {
        f"largest_{key}": max((line[key] for line in found if line.get(key) is not None), default=None)
        for key in ("seconds_ratio", "bytes_ratio")
    }
    return {
        "step": "summary",
        "lines": len(found),
        **ratios,
        "ok": bool(found) and not wrong,
        "reason": "; ".join(wrong) or None,
    }


def main() -> None:
    options = parse()
    check_device(options.scale)
    os.environ["TQDM_DISABLE"] = "1"  # of the steps: what dies says why in its last line
    end, found = time.monotonic() + 60 * MINUTES, []
    for step in options.steps:
        command = [sys.executable, "-m", "benchmarks.rehearse.step", options.scale, step]
        for line in run_process(step, command, max(0.0, end - time.monotonic())):
            print(json.dumps(line), flush=True)
            found.append(line)
    last = summary(found)
    print(json.dumps(last))
    sys.exit(not last["ok"])


if __name__ == "__main__":
    main()

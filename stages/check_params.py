"""Validate every parameter, and the local files that the parameters name, before anything is run.

Where the scale needs a GPU, print the planned hours first: that is when they are many. They decide nothing, so the
planner runs beside this stage, and what it does or prints is none of its inputs or outputs.

Reads: params.yaml, the scale file, the protocol file.
Writes: data/params_checked.txt, which always says the same: later stages wait for it, and none reruns because of it.
"""

import subprocess
import sys

from pessimism.checks import preflight
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.machine import stage

PLAN = [sys.executable, "-m", "pessimism.cli", "plan", "--brief"]


def main() -> None:
    with records.run_record("check_params"):
        params = load_params()
        preflight.check(params)
        if params.scale.device == "cuda":
            _print_plan()
        records.write_text(layout.PARAMS_CHECKED, "The parameters and the local sources that they name are usable.\n")


def _print_plan() -> None:
    done = subprocess.run(PLAN, check=False, capture_output=True, text=True)
    if done.returncode == 0:
        print(done.stdout, end="", flush=True)
        print(done.stderr, end="", file=sys.stderr)
        return
    reason = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
    print(f"no plan of the hours, and the run goes on without one: {reason[0]}", flush=True)


if __name__ == "__main__":
    stage.run(main)

"""Validate every parameter, and the local files that the parameters name, before anything is run.

Where the scale needs a GPU, print the planned hours too. They decide nothing: the planner is a program of its own, and
what it prints is no output of this stage.

Reads: params.yaml, the scale file, the protocol file.
Writes: data/params_checked.txt, which always says the same: later stages wait for it, and none reruns because of it.
"""

import subprocess
import sys

from pessimism.checks import preflight, stage
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params


@stage.main("check_params")
def main(params: Params) -> None:
    preflight.check(params)
    if params.scale.device == "cuda":
        subprocess.run([sys.executable, "-m", "pessimism.cli", "plan", "--brief"], check=False)
    records.write_text(layout.PARAMS_CHECKED, "The parameters and the local sources that they name are usable.\n")


if __name__ == "__main__":
    main()

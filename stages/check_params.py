"""Validate every parameter, and the local files that the parameters name, before anything is run.

Reads: params.yaml, the scale file, the protocol file.
Writes: data/params_checked.txt, which always says the same: later stages wait for it, and none reruns because of it.
"""

from pessimism.checks import preflight, stage
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params


@stage.main("check_params")
def main(params: Params) -> None:
    preflight.check(params)
    records.write_text(layout.PARAMS_CHECKED, "The parameters and the local sources that they name are usable.\n")


if __name__ == "__main__":
    main()

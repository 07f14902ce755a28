"""Validate every parameter, and the local files that the parameters name, before anything is run.

Where the scale needs a GPU, print the planned hours first: that is when they are many.

Reads: params.yaml, the scale file, the protocol file.
Writes: data/params_checked.txt, which always says the same: later stages wait for it, and none reruns because of it.
"""

from pessimism import layout, preflight, records, stage


def main() -> None:
    with records.run_record("check_params"):
        params = preflight.check()
        if params.scale.device == "cuda":
            from pessimism.planning.plan import summary

            print(summary(params), flush=True)
        records.write_text(layout.PARAMS_CHECKED, "The parameters and the local sources that they name are usable.\n")


if __name__ == "__main__":
    stage.run(main)

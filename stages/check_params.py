"""Validate every parameter, and the local files that the parameters name, before anything is run.

Reads: params.yaml, the scale file, the protocol file.
Writes: data/params_checked.txt, which always says the same: later stages wait for it, and none reruns because of it.
"""

from pessimism import layout, preflight, records, stage


def main() -> None:
    with records.run_record("check_params"):
        preflight.check()
        records.write_text(layout.PARAMS_CHECKED, "The parameters and the local sources that they name are usable.\n")


if __name__ == "__main__":
    stage.run(main)

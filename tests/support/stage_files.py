"""What a stage's script reads beside its inputs: its own code, and the records of code and parameters."""

from __future__ import annotations

import shutil
from pathlib import Path

from pessimism.experiment import inputs, layout, records
from support.repository import CHECKOUT


def write_stage_files(*stages: str) -> None:
    """Copy the code into the working directory, and write there what the stages ..._inputs would."""
    for folder in ("src", "stages"):
        shutil.copytree(CHECKOUT / folder, Path(folder), ignore=shutil.ignore_patterns("__pycache__", "design"))
    for stage in stages:
        records.write_json(layout.shared_inputs(stage), inputs.shared_inputs(stage))

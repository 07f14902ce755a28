"""Online batches that cannot be shared out as the objective asks are refused before anything is trained."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Edit
from pessimism.checks import launch
from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.online.objective import find_objective


def test_a_batch_holds_whole_prompts(project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    """Responses that are left over would be dropped from every step without a word."""
    records.write_json(layout.base_record("policy"), {"parameters": 1000})
    monkeypatch.setattr(launch, "find_objective", lambda name: replace(find_objective(name), samples_per_prompt=4))
    edit("scales/tiny.yaml", "online.batch_size", 8)
    launch.check_processes(load_params())
    edit("scales/tiny.yaml", "online.batch_size", 6)
    with pytest.raises(ParamsError, match=r"online\.batch_size: found 6 responses; expected a multiple of 4"):
        launch.check_processes(load_params())

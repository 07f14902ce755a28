"""What the cells of a stage share is one record, which changes where any of it does and nowhere else."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from pessimism.errors import DataError
from pessimism.experiment import pipeline
from pessimism.experiment.inputs import shared_inputs
from support.repository import CHECKOUT
from support.stage_code import BODIES, CODE, WRITTEN, filled, param_keys
from support.yaml_edits import set_key

CELLS = [name.removesuffix(pipeline.INPUTS) for name in WRITTEN if name.endswith(pipeline.INPUTS)]
ROOM = "src/pessimism/probes"


@pytest.fixture
def sources(project: Path) -> Path:
    """The project with its code."""
    for folder in ("src", "stages"):
        shutil.copytree(CHECKOUT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    return project


@pytest.mark.parametrize("stage", CELLS)
def test_a_record_holds_what_the_cells_depend_on(sources: Path, stage: str) -> None:
    record = shared_inputs(stage)
    assert list(record["code"]) == [filled(path) for path in BODIES[stage]["deps"] if path.startswith(CODE)]
    for file, values in record["parameters"].items():
        listed = param_keys(
            f"{stage}{pipeline.INPUTS}", str(file).replace("tiny", "${scale}").replace("paper", "${protocol}")
        )
        assert set(values) == listed and listed, file
    assert record["parameters"]["params.yaml"]["root_seed"] == 42


@pytest.mark.parametrize("stage", CELLS)
def test_it_changes_with_every_file_of_code(sources: Path, stage: str) -> None:
    before = shared_inputs(stage)
    for file in (file for name in before["code"] for file in _files(sources / name)):
        text = file.read_text()
        file.write_text(f"{text}\n")
        assert shared_inputs(stage) != before, file
        file.write_text(text)
    (sources / "src/pessimism/reporting/page.py").write_text("changed = True\n")
    assert shared_inputs(stage) == before


@pytest.mark.parametrize("stage", CELLS)
def test_it_changes_with_every_parameter(sources: Path, stage: str) -> None:
    before = shared_inputs(stage)
    for file, values in before["parameters"].items():
        for key in set(values) - {"scale", "online.objective", "offline.objective"}:  # these name other files
            set_key(sources / file, key, "another")
            assert shared_inputs(stage) != before, key
            set_key(sources / file, key, values[key])
    assert shared_inputs(stage) == before
    set_key(sources / "params.yaml", "seeds", [7])
    assert shared_inputs(stage) == before


def test_a_file_added_to_a_room_counts_and_a_compiled_one_does_not(sources: Path) -> None:
    before = shared_inputs("probe_policy")
    assert ROOM in before["code"]
    compiled = sources / ROOM / "__pycache__" / "entropy.cpython-311.pyc"
    compiled.parent.mkdir(exist_ok=True)
    compiled.write_bytes(b"compiled")
    assert shared_inputs("probe_policy") == before
    (sources / ROOM / "new_probe.py").write_text("new = True\n")
    assert shared_inputs("probe_policy") != before


def test_a_missing_file_is_named(sources: Path) -> None:
    (sources / "src/pessimism/online/loop.py").unlink()
    with pytest.raises(DataError, match=r"online/loop\.py"):
        shared_inputs("adapt_online")


def _files(path: Path) -> Iterator[Path]:
    yield from [path] if path.is_file() else sorted(path.rglob("*.py"))

"""What loads models runs no code of theirs, and text of users reaches Git as no option."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from packaging.requirements import Requirement

from pessimism.commands import verify
from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.models.loading import load_policy_base
from support.repository import CHECKOUT, python_files

LOADS = {"from_pretrained", "from_config"}
OTHERS = {"PeftModel", "PeftConfig", "AutoHfQuantizer"}
"""PEFT runs no code of an adapter, and unpickles tensors at most; the last reads no file."""
UNPICKLING = {"pickle", "joblib", "dill", "cloudpickle", "shelve"}


def calls(path: Path) -> Iterator[ast.Call]:
    return (node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Call))


def loads() -> list[tuple[str, str, dict[str, Any]]]:
    """Every load of a model, a configuration or a tokenizer: its file, what it is called on, and its constants."""
    found = []
    for path in [*python_files("src"), *python_files("stages")]:
        for call in calls(path):
            if isinstance(call.func, ast.Attribute) and call.func.attr in LOADS:
                options = {word.arg: getattr(word.value, "value", None) for word in call.keywords if word.arg}
                found.append((path.name, ast.unparse(call.func.value), options))
    return found


def test_no_load_runs_a_models_code_and_weights_are_safetensors() -> None:
    found = loads()
    assert len(found) >= 5
    for file, of, options in found:
        if of not in OTHERS:
            assert options["trust_remote_code"] is False, (file, of)
        if of == "kind":
            assert options["use_safetensors"] is True, (file, of)


def test_nothing_is_unpickled() -> None:
    for path in [*python_files("src"), *python_files("stages")]:
        tree = ast.parse(path.read_text())
        imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
        imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not imported & UNPICKLING, path
        assert not [call for call in calls(path) if ast.unparse(call.func) in ("torch.load", "np.load")], path


def test_weights_that_are_pickled_are_refused(tiny_world: Params) -> None:
    weights = load_policy_base(tiny_world).state_dict()
    (layout.BASE_WEIGHTS / "model.safetensors").unlink()
    torch.save(weights, layout.BASE_WEIGHTS / "pytorch_model.bin")
    with pytest.raises(OSError, match="no file named model.safetensors"):
        load_policy_base(tiny_world)


def test_a_revision_is_no_option_of_git(project: Path) -> None:
    """As one, it would have Git write the last commit into a file of the user's choice."""
    who = ["-c", "user.name=test", "-c", "user.email=test@example.invalid"]
    for command in (["init", "-q"], ["add", "params.yaml"], [*who, "commit", "-q", "-m", "design"]):
        subprocess.run(["git", *command], check=True)
    (project / "stolen:.").mkdir()
    with pytest.raises(DataError, match="in Git revision '--output=stolen'; expected a committed one"):
        verify.committed_text(layout.PARAMS, "--output=stolen")
    assert not list((project / "stolen:.").iterdir())


def test_every_library_has_an_upper_bound() -> None:
    import tomllib

    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    extras = [name for extra in project["optional-dependencies"].values() for name in extra]
    for requirement in map(Requirement, [*project["dependencies"], *extras]):
        bounds = {bound.operator for bound in requirement.specifier}
        assert bounds & {"<", "=="} or requirement.name == "pessimism", requirement

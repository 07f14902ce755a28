"""Every command that a page shows in a block is one that this version takes, with every option and parameter in it.

Those that need no run and no other machine are run to their end.
"""

from __future__ import annotations

import importlib.util
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.utils.cli_parse import to_path_overrides
from dvc.utils.hydra import apply_overrides, get_hydra_sweeps

from pessimism import cli
from pessimism.checks import preflight
from pessimism.errors import ResourceError, SourceError
from pessimism.experiment.params import load_params
from support.repository import CHECKOUT

PAGES = sorted({*CHECKOUT.glob("*.md"), *(CHECKOUT / "docs").rglob("*.md")})
BLOCK = re.compile(r"^```(?:sh|bash)?\n(.*?)^```", re.MULTILINE | re.DOTALL)
RUN_HERE = {
    "pessimism plan --scale paper",
    "pessimism score docs/examples/grpo/run.csv --prompt prompt --kl kl --arm arm --placebo placebo",
}


def shown() -> Iterator[str]:
    """Commands of all pages, without comments, each once; those of one line joined by `&&` by themselves."""
    every = (block for page in PAGES for block in BLOCK.findall(page.read_text(encoding="utf-8")))
    blocks = (block for block in every if not block.startswith("git checkout "))  # of an earlier version
    lines = (line.removeprefix("$ ") for block in blocks for line in block.replace("\\\n", " ").splitlines())
    commands = (" ".join(part.split()) for line in lines for part in line.split(" #")[0].split(" && "))
    yield from dict.fromkeys(commands)


def beginning(*words: str) -> list[str]:
    return [command for command in shown() if command.startswith(words)]


@pytest.mark.parametrize("command", beginning("pessimism "))
def test_a_command_takes_its_arguments(command: str) -> None:
    arguments = shlex.split(command)[1:]
    cli.make_parser(arguments[:1]).parse_args(arguments)


@pytest.mark.parametrize("command", sorted(RUN_HERE))
def test_a_command_that_needs_nothing_runs(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command in beginning("pessimism "), "it is no longer shown"
    monkeypatch.chdir(CHECKOUT)
    cli.main(shlex.split(command)[1:])


@pytest.mark.parametrize("command", beginning("dvc exp run "))
def test_an_experiment_sets_parameters_that_a_run_takes(command: str, project: Path) -> None:
    given = shlex.split(command)
    settings = [value for flag, value in zip(given, given[1:], strict=False) if flag == "-S"]
    for overrides in get_hydra_sweeps(to_path_overrides(settings)):
        for path, values in overrides.items():
            apply_overrides(path, values)
        try:
            preflight.check(load_params())
        except ResourceError as error:
            assert "found no CUDA device" in str(error)  # all that this machine lacks
        except SourceError as error:
            problems = re.findall(r"^\s*- .*", str(error), re.MULTILINE)
            assert problems and all(": found no " in problem for problem in problems), error  # the reader's own files


@pytest.mark.parametrize("command", beginning("make "))
def test_a_target_of_make_is_there(command: str) -> None:
    targets = [word for word in shlex.split(command)[1:] if "=" not in word]
    makefile = (CHECKOUT / "Makefile").read_text()
    assert all(target == "help" or re.search(rf"^{target}: .*## ", makefile, re.MULTILINE) for target in targets)


@pytest.mark.parametrize("command", beginning("python -m "))
def test_a_module_that_is_run_is_there(command: str) -> None:
    assert importlib.util.find_spec(shlex.split(command)[2])


def test_blocks_are_found() -> None:
    assert len(beginning("pessimism ")) > 10 and len(beginning("dvc exp run ")) > 20 and len(beginning("make ")) > 2

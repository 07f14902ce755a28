"""docs/examples/skypilot: what can be checked without a cloud, which is the syntax of the task and of its commands."""

from __future__ import annotations

import re
import shlex

import pytest
import yaml
from dvc.cli.parser import get_main_parser

from pessimism.experiment.params import load_params
from pessimism.experiment.pipeline import load_stages, lock_names
from support.repository import CHECKOUT

EXAMPLE = CHECKOUT / "docs/examples/skypilot"
TASK = yaml.safe_load((EXAMPLE / "cell.yaml").read_text())
BLOCKS = re.findall(r"```\n(.*?)```", (EXAMPLE / "README.md").read_text(), re.DOTALL)
COMMANDS = re.findall(r"dvc ([a-z][^\n&|;]*)", "\n".join([TASK["run"], *BLOCKS]))


@pytest.mark.parametrize("command", COMMANDS)
def test_dvc_knows_every_command_and_option(command: str) -> None:
    get_main_parser().parse_args(shlex.split(command))


def test_the_task_names_a_cell_of_the_pipeline() -> None:
    assert len(COMMANDS) == 7
    params = load_params(CHECKOUT)
    lists = {"beta_percentiles": params.beta_percentiles, "seeds": params.seeds}
    stages = [stage for stage in load_stages(CHECKOUT / "dvc.yaml") if stage.name == "train_dpo"]
    names = lock_names(stages, {key: list(values) for key, values in lists.items()})
    assert TASK["envs"]["CELL"] in names
    assert set(re.findall(r"train_dpo@[\d-]+", BLOCKS[1])) <= set(names)


def test_a_job_is_told_everything_that_it_uses() -> None:
    given = {*TASK["envs"], *TASK["secrets"]}
    assert set(re.findall(r"\$([A-Z]+)\b", TASK["setup"] + TASK["run"])) - {"PATH", "PWD"} <= given

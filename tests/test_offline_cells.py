"""Offline cells that are named by no percentile: what suits an objective is found out before anything runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pessimism.checks import preflight
from pessimism.errors import ParamsError
from pessimism.experiment.params import load_params
from support.repository import Edit

DESIGN = "params.yaml"


def design(edit: Edit, **values: Any) -> None:
    for key, value in values.items():
        edit(DESIGN, key.replace("__", "."), value)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"offline__objective": "dop"}, r"offline\.objective: found 'dop'; expected one of \['dpo'"),
        ({"online__objective": "ppo"}, r"online\.objective: found 'ppo'; expected one of \['adaptive', 'grpo', 'rein"),
        ({"offline_cells": ["b0.05", "likelihood"]}, r"cells \['likelihood'\]; expected labels such as b0\.05"),
        ({"offline__objective": "likelihood"}, r"cells \['p20', 'p50', 'p80'\]; expected beta_percentiles: \[\]"),
        (
            {"offline__objective": "likelihood", "beta_percentiles": [], "offline_cells": ["likelihood"]},
            r"arms: found \['proxy', 'placebo'\], whose penalty is coupled",
        ),
        (
            {"offline__objective": "ipo"},
            r"arms: found \['proxy'\], whose penalty is coupled to the strength, which for ipo is not the price of a",
        ),
    ],
)
def test_what_does_not_suit_is_refused(
    project: Path, edit: Edit, more_objectives: None, values: dict[str, Any], message: str
) -> None:
    design(edit, **values)
    with pytest.raises(ParamsError, match=message):
        preflight.check(load_params())


def test_what_suits_is_not(project: Path, edit: Edit, more_objectives: None) -> None:
    design(edit, offline_cells=["b0.05"])
    preflight.check(load_params())
    design(edit, offline__objective="ipo", arms=["uncoupled", "placebo"])
    preflight.check(load_params())
    design(edit, offline__objective="likelihood", beta_percentiles=[], offline_cells=["likelihood"], arms=["uncoupled"])
    preflight.check(load_params())

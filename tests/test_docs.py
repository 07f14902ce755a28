"""The documents name what the code writes."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pandas as pd
import pytest

from conftest import CHECKOUT
from pessimism.experiment import layout, records
from synthetic_project import Invented, write_project

METRICS = (CHECKOUT / "docs/metrics.md").read_text()
NAMED = set(re.findall(r"`([a-z0-9_]+)`", METRICS))


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project of invented runs after every scoring stage."""
    root = tmp_path_factory.mktemp("scored")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project(root, Invented(percentiles=(20, 80), seeds=(0, 1)))
        for stage in ("score_hacking", "fit_power_law", "trace_mechanism", "check_claims"):
            runpy.run_path(str(CHECKOUT / "stages" / f"{stage}.py"), run_name="__main__")
    return root


@pytest.mark.parametrize(
    "table",
    [
        layout.CELL_SCORES,
        layout.GOODHART_GAP,
        layout.HELDOUT_REWARDS,
        layout.DISAGREEMENT,
        layout.MEMBER_PROBES,
        layout.POWER_LAW_CURVE,
    ],
)
def test_every_column_is_explained(scored: Path, table: Path) -> None:
    assert sorted(set(pd.read_csv(scored / table).columns) - NAMED) == []


@pytest.mark.parametrize(
    "file",
    [layout.HACKING, layout.VARIANCE, layout.POWER_LAW, layout.BETA_STAR, layout.CLAIMS, layout.MECHANISM],
)
def test_every_key_is_explained(scored: Path, file: Path) -> None:
    keys = {
        part
        for name, _ in records._leaves(records.read_json(scored / file))
        for part in re.split(r"[.\[]", name)
        if re.fullmatch(r"[a-z][a-z0-9_]+", part) and not re.fullmatch(r"p\d+", part)
    }
    structure = {
        "paper",
        "controlled",
        "claims",
        "proxy",
        "placebo",
        "statement",
        "predicted",
        "note",
        "quantity",
        "unit",
    }
    plain = {"test", "beta", "beta_percentile", "seed", "value", "arm", "alpha", "runs", "refused"}
    assert sorted(keys - NAMED - structure - plain) == []

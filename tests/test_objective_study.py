"""The study of objectives: each pair is run once with its own parameters, and its contrast stands in the table."""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from benchmarks import objectives
from pessimism.checks import preflight
from pessimism.errors import DataError
from pessimism.experiment import extensions
from pessimism.experiment.params import load_params
from pessimism.offline.objective import OBJECTIVES
from support.project_copy import Project, commit, new_project
from support.repository import CHECKOUT

STUDY = {
    "settings": ["beta_percentiles=[]", "offline_cells=[b0.2,b2.0]", "seeds=[0,1]", "arms=[uncoupled,placebo]"],
    "offline": {"dpo": []},
    "online": {
        "grpo": ["online.objective=grpo"],
        "none": ["protocols/paper.yaml:arms.uncoupled.kappa=none"],
    },
}


def study_of(project: Project) -> str:
    return project.succeed(sys.executable, "-m", "benchmarks.objectives", "study.yaml")


@pytest.mark.slow
def test_every_pair_is_run_once_by_its_own_parameters(tmp_path: Path) -> None:
    project = new_project(tmp_path / "project")
    (project.root / "study.yaml").write_text(yaml.safe_dump(STUDY))
    commit(project, "study")
    printed = study_of(project)
    cells, effects = (pd.read_csv(project.root / f"{name}.csv") for name in ("cells", "effects"))
    assert effects[["offline", "online", "question", "seeds"]].to_numpy().tolist() == [
        ["dpo", "grpo", "total", 2],
        ["dpo", "none", "total", 2],
    ]
    assert (effects[["lowest", "highest"]] == [0.2, 2.0]).all(axis=None)
    for name, runs in cells[cells["arm"] == "uncoupled"].groupby("online"):
        means = runs.groupby("beta")[objectives.QUANTITY.name].mean()
        found = effects.set_index("online").loc[name]
        assert found["estimate"] == pytest.approx(means[2.0] - means[0.2])
    # The last pair's run is what lies there; the parameters are those of the commit again.
    kappa = pd.read_csv(project.root / "data/online/b0.2-s0-uncoupled/trajectory.csv")["kappa"].dropna()
    assert (kappa == 0).all()
    assert not project.succeed("git", "status", "--porcelain", "--", "params.yaml", "scales", "protocols")
    assert "| dpo | " in printed

    # What stands there is not run again: what is missing is all that is.
    (project.root / "effects.csv").write_text(effects[:1].to_csv(index=False))
    again = study_of(project)
    assert "dpo x none" in again and "dpo x grpo" not in again
    pd.testing.assert_frame_equal(pd.read_csv(project.root / "cells.csv"), cells)
    pd.testing.assert_frame_equal(pd.read_csv(project.root / "effects.csv"), effects)


def test_a_study_that_is_cut_short_has_whole_columns() -> None:
    study = objectives.Study(["seeds=[0]"], {"dpo": ["a=1"], "ipo": ["a=2"]}, {"grpo": ["b=1"], "rloo": ["b=2"]})
    assert list(study.pairs()) == [("dpo", "grpo"), ("ipo", "grpo"), ("dpo", "rloo"), ("ipo", "rloo")]
    assert study.pairs()["ipo", "rloo"] == ["seeds=[0]", "a=2", "b=2"]


def test_a_pair_that_was_cut_short_is_replaced(tmp_path: Path) -> None:
    for value in (1, 2):
        for pair in (("dpo", "grpo"), ("dpo", "rloo")):
            objectives.append(tmp_path / "cells.csv", pair, pd.DataFrame({"value": [value, 10 * value]}))
    found = pd.read_csv(tmp_path / "cells.csv")
    assert found["value"].tolist() == [2, 20, 2, 20]
    assert found["online"].tolist() == ["grpo", "grpo", "rloo", "rloo"]


def test_parameters_that_are_not_committed_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "git", lambda *_: " M params.yaml\n")
    refused = pytest.raises(DataError, match="found parameters that are not committed: M params.yaml")
    with refused, objectives.parameters(["seeds=[0]"]):
        pass


def test_the_table_by_hand() -> None:
    row = {"offline": "dpo", "question": "total", "low": -2.0, "high": 1.0, "p_rises": 0.9, "p_falls": 0.2}
    effects = pd.DataFrame([row | {"online": "grpo", "estimate": -0.5}, row | {"online": "rloo", "estimate": 0.5}])
    assert objectives.table(effects, "total").splitlines() == [
        "| offline | grpo | rloo |",
        "| --- | --- | --- |",
        "| dpo | -0.5 [-2,\N{NO-BREAK SPACE}1], p 0.2 | +0.5 [-2,\N{NO-BREAK SPACE}1], p 0.9 |",
    ]


def test_the_study_sets_parameters_that_a_run_takes(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objectives, "git", lambda *_: "")
    study = objectives.Study.read(CHECKOUT / "docs/runs/objectives/study.yaml")
    before, named = load_params(), set()
    assert sorted(study.offline) == extensions.names(OBJECTIVES)
    for (offline, online), settings in study.pairs().items():
        if offline != "dpo" and online != "grpo":  # a row and a column of the pairs hold each line of the study
            continue
        with objectives.parameters(settings):
            params = load_params()
        preflight.check(params)
        assert len(params.labels) == 2 and len(params.seeds) == 3
        assert params.arms == ("uncoupled", "placebo") and params.root_seed == before.root_seed
        assert params.arm("uncoupled").kappa == ("none" if online == "none" else "fixed")
        named.add(params.online.objective)
    assert named == {"adaptive", "grpo", "reinforce", "rloo"}
    assert load_params() == before

"""docs/extend.md holds: each of its examples, written into a copy, runs and is seen, and no other file is touched."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from pessimism.experiment import extensions
from support.project_copy import Project, new_project
from support.repository import CHECKOUT

pytestmark = pytest.mark.slow

PAGE = (CHECKOUT / "docs/extend.md").read_text(encoding="utf-8")
EXAMPLES = dict(re.findall(r"```\w+\n# ([^\n]+)\n(.*?)```", PAGE, re.DOTALL))
"""Each block of code by its first line: a file, or a file and the list or section that the entry goes to."""
ROOMS = {
    "offline objective": "pessimism.offline.objectives",
    "online objective": "pessimism.online.objectives",
    "task": "pessimism.tasks",
    "probe": "pessimism.probes",
}


def add(root: Path, place: str, text: str) -> None:
    """Write an example where its first line says: as a file, or at the end of a list or a section."""
    name, _, section = place.partition(", ")
    file = root / name
    if not section:
        file.write_text(text, encoding="utf-8")
        return
    content = file.read_text(encoding="utf-8")
    opening = re.search(rf"^{section}(:| = [\[(])\n", content, re.M)
    assert opening, f"{name} has no {section}"
    end = re.compile(r"^(?=\S)", re.M).search(content, opening.end())
    assert end
    file.write_text(content[: end.start()] + text + content[end.start() :], encoding="utf-8")


def touched(project: Project) -> set[str]:
    return {line[3:] for line in project.succeed("git", "status", "--porcelain", "-uall").splitlines()}


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project with every example of the page, chosen by parameters, and run."""
    project = new_project(tmp_path_factory.mktemp("extended") / "project")
    for place, text in EXAMPLES.items():
        add(project.root, place, text)
    assert touched(project) == {place.partition(",")[0] for place in EXAMPLES}
    scale = project.root / "scales/micro.yaml"
    content = yaml.safe_load(scale.read_text())
    content["tasks"]["kind"] = "mentioned"
    scale.write_text(yaml.safe_dump(content))
    project.design(
        offline={"objective": "sppo"},
        online={"objective": "raft"},
        beta_percentiles=[20],
        offline_cells=["b0.5"],
        arms=["proxy", "placebo", "noise", "uncoupled"],
    )
    project.dvc("repro")
    return project


def table(project: Project) -> pd.DataFrame:
    return pd.read_csv(project.root / "plots/cells.csv")


def report(project: Project) -> str:
    return (project.root / "plots/report/index.html").read_text(encoding="utf-8")


def test_every_kind_has_an_example() -> None:
    files = {place for place in EXAMPLES if "," not in place}
    assert {Path(file).parent.as_posix() for file in files} == {
        f"src/{room.replace('.', '/')}" for room in ROOMS.values()
    }
    assert {place for place in EXAMPLES if "," in place} == {
        "protocols/paper.yaml, arms",
        "src/pessimism/scoring/run_columns.py, _CONTROLLED",
        "src/pessimism/claims/statements.py, CLAIMS",
    }


@pytest.mark.parametrize(("kind", "room"), ROOMS.items())
def test_the_page_lists_every_file_that_there_is(kind: str, room: str) -> None:
    assert re.findall(rf"^\| {kind} \| `(\w+)` \|", PAGE, re.M) == extensions.names(room)


def test_dvc_knows_what_the_examples_import(extended: Project) -> None:
    """The guards of dvc.yaml hold in the copy, which no line of dvc.yaml was written for."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/test_pipeline.py", "-k", "not lock"],
        cwd=extended.root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout[-3000:]


def test_the_offline_objective_trained(extended: Project) -> None:
    for label in ("p20", "b0.5"):
        record = json.loads((extended.root / f"models/dpo/{label}-s0/training.json").read_text())
        strength = record["hyperparameters"]["beta"]
        assert record["losses"][0] == pytest.approx(0.5 / strength**2, rel=1e-3)
    assert strength == 0.5


def test_the_online_objective_draws_its_samples(extended: Project) -> None:
    rows = pd.read_csv(extended.root / "data/online/p20-s0-proxy/trajectory.csv")
    assert set(rows.loc[rows["prompt_set"] == "batch", "prompts"]) == {8}
    assert "offline objective sppo, online objective raft" in report(extended)


def test_the_arm_and_the_cell_by_value_stand_in_tables_and_report(extended: Project) -> None:
    cells = table(extended)
    assert set(cells["arm"]) == {"proxy", "placebo", "noise", "uncoupled"}
    assert cells.loc[cells["label"] == "b0.5", "beta"].unique().tolist() == [0.5]
    kappa = pd.read_csv(extended.root / "data/online/p20-s0-noise/trajectory.csv")["kappa"].dropna()
    assert (kappa == 0).all()
    html = report(extended)
    assert "noise: trained on noise, without a penalty" in html
    assert "<tr><td>0.5</td>" in html and "(b0.5)" not in html, "a label that spells its beta is not said twice"


def test_the_task_judges(extended: Project) -> None:
    rows = pd.read_csv(extended.root / "data/online/p20-s0-proxy/trajectory.csv")
    assert (rows["true_reward_mentioned"] >= rows["true_reward"]).all()
    assert rows["true_reward_mentioned"].max() > 0
    assert "heldout_true_reward_mentioned_start" in table(extended)


def test_the_probe_and_the_measure_stand_in_tables_and_report(extended: Project) -> None:
    cells, html = table(extended), report(extended)
    primary = cells[cells["arm"] == "proxy"]
    assert (primary[["response_words", "response_words_online"]] > 0).all(axis=None)
    assert "words per response" in html
    assert cells["lowest_true_reward"].between(0, 1).all()
    assert "lowest true reward" in html and "Lowest true reward: its minimum" in html


def test_the_claim_is_judged_and_simulated(extended: Project) -> None:
    claims = json.loads((extended.root / "metrics/claims.json").read_text())
    assert claims["claims"]["C11"]["controlled"]["quantity"] == "lowest_true_reward"
    assert claims["design"]["claims_in_family"] == 10
    assert "The lowest true reward falls with beta" in report(extended)
    code = "from pessimism.claims import invented; print(*invented.family())"
    assert "C11" in extended.succeed(sys.executable, "-c", code).split()

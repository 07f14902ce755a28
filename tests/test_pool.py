"""Several runs judged by their worlds: which runs are found, what is refused, and what is said of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from pessimism import cli
from pessimism.claims.arm_contrasts import Contrast
from pessimism.claims.verdicts import DIRECTIONS, FALLS, RISES, UNDECIDED, direction
from pessimism.claims.worlds import Effect, contrasts, effect, judge
from pessimism.experiment.params import load_params
from support.endings import failure
from support.repository import Edit
from support.worlds import cells, commit_world, git, tag_as_experiment

ARMS = ["proxy", "uncoupled", "placebo"]
FALLING = ([-4.0, -6.0, -8.0], [-5.0, -5.0, -8.0], [-1.0, -2.0, -3.0], [-9.0, -9.0, -9.3], [-3.0, -4.0, -8.0])
SEEDS = [0, 1, 2]


def commit_worlds(project: Path, count: int) -> list[str]:
    """Branches of worlds in which the coupled arm falls with beta, and the uncoupled one by 1 in every seed."""
    for index in range(count):
        effects = {"proxy": FALLING[index], "uncoupled": [-1.0, -1.0, -1.0]}
        commit_world(project, f"world-{index}", effects, root_seed=40 + index, arms=ARMS, seeds=SEEDS)
    return [f"world-{index}" for index in range(count)]


def output(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    cli.main(["pool", *arguments])
    return capsys.readouterr().out


def test_every_arm_that_learns_and_what_the_coupling_adds(project: Path, edit: Edit) -> None:
    edit("params.yaml", "arms", ["proxy", "placebo", "oracle", "uncoupled"])
    names = [contrast.name for contrast in contrasts(load_params())]
    assert names == ["proxy", "uncoupled", "proxy - uncoupled", "oracle"]
    edit("protocols/paper.yaml", "arms.uncoupled.learning_rate_factor", 0.5)
    assert "proxy - uncoupled" not in [contrast.name for contrast in contrasts(load_params())]


@pytest.mark.parametrize("paired", [True, False])
def test_the_difference_of_two_arms_is_within_runs(project: Path, edit: Edit, paired: bool) -> None:
    """Noise that both arms share leaves no error in their difference."""
    edit("params.yaml", "arms", ARMS)
    edit("params.yaml", "seeds", SEEDS)
    params = load_params()
    table = cells(params, {"proxy": [3.0, 5.0, 10.0], "uncoupled": [1.0, 3.0, 8.0]})
    found = effect(table, Contrast("proxy", "uncoupled"), paired)
    assert (found.estimate, found.error) == (2.0, 0.0)
    own = effect(table, Contrast("proxy"), paired)
    assert own.estimate == pytest.approx(6.0) and own.error == pytest.approx(np.std([3, 5, 10], ddof=1) / np.sqrt(3))


def test_a_direction_takes_five_worlds() -> None:
    def of(*estimates: float) -> str:
        found = [Effect(estimate, None, None, np.zeros((1, 2))) for estimate in estimates]
        pooled = judge(Contrast("proxy"), found).pooled
        return direction(pooled.p_rises, pooled.p_falls)

    assert of(-1, -2, -3, -4) == UNDECIDED
    assert of(-1, -2, -3, -4, -5) == DIRECTIONS[FALLS]
    assert of(1, 2, 3, 4, 5) == DIRECTIONS[RISES]
    assert of(1, 2, 3, 4, -5) == UNDECIDED


def test_branches_commits_and_experiments_are_worlds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = commit_worlds(project, 3)
    tag_as_experiment(git("rev-parse", names[2]), "tried")
    tag_as_experiment(git("rev-parse", names[0]), "tried-not")
    git("checkout", "-q", names[0])
    git("branch", "-q", "-D", names[2])
    found = json.loads(output(capsys, names[0], git("rev-parse", names[1]), "tried", "--json"))
    assert [world["world"] for world in found["worlds"]] == ["root seed 40", "root seed 41", "root seed 42"]
    assert found["worlds"][0]["betas"] == {"p20": 0.4, "p50": 0.9, "p80": 1.4}
    assert found["worlds"][1]["commit"] == git("rev-parse", names[1]) and found["worlds"][2]["revision"] == "tried"


def test_the_numbers_are_those_of_the_worlds(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Means -6, -6, -2, -9.1 and -5 of the coupled arm; -1 of the other, in every world and seed."""
    found = json.loads(output(capsys, *commit_worlds(project, 5), "--json"))["contrasts"]
    assert {name: one["question"] for name, one in found.items()} == {
        "proxy": "total",
        "uncoupled": "offline",
        "proxy - uncoupled": "coupling",
    }
    means = [-6.0, -6.0, -2.0, -9.1, -5.0]
    assert [one["estimate"] for one in found["proxy"]["effects"]] == pytest.approx(means)
    assert found["proxy"]["estimate"] == pytest.approx(np.mean(means))
    assert found["proxy"]["error"] == pytest.approx(np.std(means, ddof=1) / np.sqrt(5))
    assert (found["proxy"]["p_falls"], found["proxy"]["direction"]) == (1 / 32, "falls with beta")
    assert found["uncoupled"]["share_between_worlds"] == 0.0 and found["uncoupled"]["tau"] == 0.0
    assert found["proxy - uncoupled"]["estimate"] == pytest.approx(np.mean(means) + 1)
    assert found["proxy"]["effects"][2]["lowest_and_highest_by_seed"] == [[10.0, 9.0], [10.0, 8.0], [10.0, 7.0]]


def test_the_table_says_it_in_words(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, *commit_worlds(project, 5))
    assert "5 worlds, each of 3 seeds: scale tiny, protocol paper." in text and "at p80 minus that at p20" in text
    rows = [line.split("  ") for line in text.splitlines()]
    assert ["root seed 42", "-2 ± 0.577"] in [[part.strip() for part in row if part][:2] for row in rows]
    assert "All that beta does (proxy): falls with beta, -5.62 [-8.78, -2.46], above 0 in 0 of 5 worlds." in text
    assert "Through the penalty that grows with beta (proxy - uncoupled): falls with beta" in text
    assert "Through the checkpoint alone (uncoupled): falls with beta, -1 [-1, -1], above 0 in 0 of 5 worlds." in text
    assert "So few worlds" not in text


def test_too_few_worlds_say_so(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = output(capsys, *commit_worlds(project, 2))
    assert "no p is below 0.25. It takes 5 worlds or more." in text and "(proxy): undecided" in text


def test_worlds_of_one_seed_have_an_effect_and_no_share(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for root_seed, change in ((1, -2.0), (2, -4.0)):
        commit_world(project, f"w{root_seed}", {"proxy": [change]}, root_seed=root_seed, seeds=[0])
    found = json.loads(output(capsys, "w1", "w2", "--json"))["contrasts"]["proxy"]
    assert (found["estimate"], found["tau"], found["share_between_worlds"]) == (pytest.approx(-3.0), None, None)
    assert "–" in output(capsys, "w1", "w2", "--figure", "plot.png") and Path("plot.png").exists()


def test_models_and_data_are_worlds_whatever_the_root_seed(
    project: Path, edit: Edit, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, model in enumerate(("someone/small", "someone/large", "someone/large")):
        edit("scales/paper.yaml", "policy.name", model)
        effects = {"proxy": [number, 2.0, 3.0]}
        commit_world(project, f"w{number}", effects, scale="paper", root_seed=number, seeds=SEEDS)
    found = json.loads(output(capsys, "w0", "w1", "--json"))
    assert [world["world"] for world in found["worlds"]] == ["someone/small", "someone/large"]
    assert "found one world twice, in w1 and w2 (the same models and data)" in failure("pool", "w0", "w1", "w2")


def test_a_project_may_lie_below_the_root_of_its_repository(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = commit_worlds(project, 2)
    for name in names:
        git("checkout", "-q", name)
        (project / "below").mkdir(exist_ok=True)
        for part in ("params.yaml", "scales", "protocols", "plots"):
            git("mv", part, f"below/{part}")
        git("commit", "-q", "-m", "move")
    monkeypatch.chdir(project / "below")
    assert "2 worlds" in output(capsys, *names)


def test_the_forest_plot_shows_every_contrast_and_is_repeatable(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    names = commit_worlds(project, 3)
    for file in ("a.png", "b.png"):
        output(capsys, *names, "--figure", file)
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
    assert Path("a.png").read_bytes().startswith(b"\x89PNG")


def test_what_differs_between_designs_is_named(project: Path) -> None:
    commit_world(project, "w1", {}, root_seed=1, seeds=SEEDS)
    commit_world(project, "w2", {"proxy": [1.0, 2.0]}, root_seed=2, seeds=[0, 1], aggregation="min")
    said = failure("pool", "w1", "w2")
    assert "found two designs in w1 and w2: seeds (0, 1, 2) and (0, 1); aggregation mean and min; expected" in said


def test_a_machine_may_differ(project: Path, edit: Edit, capsys: pytest.CaptureFixture[str]) -> None:
    commit_world(project, "w1", {}, root_seed=1, seeds=SEEDS)
    edit("scales/tiny.yaml", "device", "cuda")
    commit_world(project, "w2", {"proxy": [1.0, 2.0, 3.0]}, root_seed=2, launcher="python -u")
    assert "2 worlds" in output(capsys, "w1", "w2")


def test_two_experiments_of_one_name_are_refused(project: Path) -> None:
    commit_worlds(project, 2)
    for baseline, commit in (("ab/" + 38 * "0", "world-0"), ("cd/" + 38 * "1", "world-1")):
        tag_as_experiment(git("rev-parse", commit), "tried", baseline)
    assert "found 2 experiments of DVC and no revision of Git named 'tried'" in failure("pool", "world-0", "tried")

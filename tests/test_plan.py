"""``pessimism plan``: what it prints of the embedded world's scale, and as JSON of the paper's."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType

import pytest

from conftest import Edit
from pessimism import cli, layout, preflight
from pessimism.commands import plan
from pessimism.planning.hardware import like_known

STAGES = (
    "prepare_base",
    "measure_reference",
    "train_reward_model",
    "assess_ensemble",
    "measure_base",
    "train_dpo",
    "adapt_online",
    "probe_policy",
)


def test_the_text_names_every_stage_and_is_no_wider_than_a_screen(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["plan", "--gpus", "2"])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert all(text.count(f"\n  {stage} ") >= 2 for stage in STAGES)
    for word in (
        "estimates",
        "Assumptions",
        "on 2 GPUs",
        "H100 80GB",
        "product_utilisation",
        "in TF32",
        "longest_response",
        "KV cache",
        "to download",
    ):
        assert word in text


def test_a_price_replaces_the_assumed_one(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["plan", "--gpu", "a100", "--price", "7.5", "--json"])
    plan = json.loads(capsys.readouterr().out)
    assert plan["gpu"]["name"] == "A100 80GB"
    assert plan["total_cost_usd"] == pytest.approx(7.5 * plan["total_hours"])
    assert plan["total_hours"] == pytest.approx(sum(stage["hours"] * stage["cells"] for stage in plan["stages"]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--gpus", "0"], "--gpus: found 0; expected a number above 0"),
        (["--price", "-1"], "--price: found -1.0; expected a number above 0"),
        (["--gpu", "abacus"], "--gpu: found 'abacus'; expected one of"),
        (["--scale", "huge"], "params.yaml: scale: found 'huge'; expected one of"),
    ],
)
def test_what_cannot_be_planned_is_refused(project: Path, arguments: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        cli.main(["plan", *arguments])
    assert message in str(stopped.value)


def brief(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    cli.main(["plan", "--brief", *arguments])
    return capsys.readouterr().out


def device(monkeypatch: pytest.MonkeyPatch, name: str | None, memory: float = 0) -> None:
    """Give this machine one CUDA device, or none, as far as the brief plan can see: libraries look for themselves."""
    monkeypatch.setattr(plan, "gpu_here", lambda: None if name is None else like_known(name, memory))


def test_the_brief_plan_is_for_the_gpu_of_this_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device(monkeypatch, "NVIDIA GeForce RTX 3090", 25.3e9)
    text = brief(capsys)
    assert text.startswith("planned on one NVIDIA GeForce RTX 3090 (taken for RTX 4090 24GB): ")
    assert "every stage fits" in text and "reward models" in text and "online" in text and "pessimism plan" in text


def test_the_brief_plan_says_which_stage_is_too_large_for_this_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device(monkeypatch, "NVIDIA GeForce RTX 4090", 1.05e9)
    text = brief(capsys)
    assert "train_dpo needs 1." in text and "more than the 1.1 GB of this GPU" in text
    assert "every stage fits" not in text


def test_without_a_device_the_brief_plan_says_so(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device(monkeypatch, None)
    assert brief(capsys).startswith("no CUDA device here; planned on one H100 80GB: ")


def test_a_named_gpu_goes_before_the_one_of_this_machine(
    project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    device(monkeypatch, "NVIDIA GeForce RTX 3090", 25.3e9)
    text = brief(capsys, "--gpu", "l40s", "--gpus", "2")
    assert text.startswith("planned on one L40S 48GB: ") and " on 2 such, about $" in text


@pytest.fixture
def first_stage(checkout: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """stages/check_params.py where everything that it checks is in order."""
    monkeypatch.setenv("PYTHONPATH", str(checkout / "src"))
    monkeypatch.setattr(preflight, "check", lambda params: None)
    spec = importlib.util.spec_from_file_location("check_params", checkout / "stages" / "check_params.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_first_stage_goes_on_without_a_plan(
    first_stage: ModuleType, edit: Edit, capfd: pytest.CaptureFixture[str]
) -> None:
    edit("params.yaml", "scale", "paper")
    edit("scales/paper.yaml", "preferences.name", "someone/pairs")
    first_stage.main()
    printed = capfd.readouterr()
    assert printed.out.startswith("no plan of the hours, and the run goes on without one: error: scales/paper.yaml: ")
    assert "the number of rows of 'someone/pairs' is not known" in printed.out
    assert printed.out.count("\n") == 1 and printed.err == ""
    assert layout.PARAMS_CHECKED.is_file()


@pytest.mark.slow
def test_the_first_stage_of_the_paper_scale_prints_the_hours(
    first_stage: ModuleType, edit: Edit, capfd: pytest.CaptureFixture[str]
) -> None:
    edit("params.yaml", "scale", "paper")
    first_stage.main()
    assert re.search(r"planned on one .*: \d+ hours \(reward models \d", capfd.readouterr().out)
    assert layout.PARAMS_CHECKED.is_file()


def test_the_first_stage_of_a_small_scale_plans_nothing(
    first_stage: ModuleType, capfd: pytest.CaptureFixture[str]
) -> None:
    first_stage.main()
    assert capfd.readouterr().out == ""
    assert layout.PARAMS_CHECKED.is_file()


@pytest.fixture(scope="module")
def paper_plan(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Stages of the paper's scale as ``--json`` prints them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        printed = json.loads(plan.plan("paper", "H100 80GB", 1, None, as_json=True))
    return {stage["name"]: stage for stage in printed["stages"]}


@pytest.mark.slow
def test_json_holds_the_values_of_the_paper(paper_plan: dict[str, dict[str, object]]) -> None:
    dpo, reward, online = (
        paper_plan[name]["hyperparameters"] for name in ("train_dpo", "train_reward_model", "adapt_online")
    )
    exact = {
        "lora_rank": (64, 32),
        "lora_alpha": (128, 64),
        "lora_dropout": (0.1, 0.1),
        "batch_size": (8, 64),
        "steps": (217, 1516),
        "warmup_steps": (14, 38),
        "trainable_parameters": (83_886_080, 12_847_104),
    }
    assert {name: (dpo[name], reward[name]) for name in exact} == exact
    assert dpo["accumulation"] == 28
    assert paper_plan["measure_reference"]["hyperparameters"]["evaluation_batch_size"] == 16
    close = {
        "learning_rate": (6.905e-5, 1.7645e-4, 3.4527e-6),
        "clip_norm": (1.1320, 1.0155, 1.1320),
        "weight_decay": (0.004541, 0.004541, 1.0918e-4),
    }
    for name, expected in close.items():
        found = [values[name] for values in (dpo, reward, online)]
        assert found == pytest.approx(expected, rel=1e-4), name


@pytest.mark.slow
def test_every_stage_of_the_paper_fits_its_gpu(paper_plan: dict[str, dict[str, object]]) -> None:
    assert tuple(paper_plan) == STAGES
    assert all(stage["fits"] for stage in paper_plan.values())
    for stage in paper_plan.values():
        assert sum(stage["memory"].values()) == stage["peak_bytes"] < stage["needed_bytes"]


@pytest.mark.slow
def test_generation_takes_the_steps_of_each_batch_that_there_is(paper_plan: dict[str, dict[str, object]]) -> None:
    online, values = paper_plan["adapt_online"], paper_plan["adapt_online"]["hyperparameters"]
    steps, held_out = (entry for entry in online["passes"] if entry["name"] == "generation, one token")
    assert (steps["rows"], held_out["rows"]) == (4, 256)
    assert 165 * 126 < steps["calls"] < 165 * 300
    assert values["evaluations"] * 200 < held_out["calls"] < values["evaluations"] * 448
    assert steps["tokens"] == pytest.approx(4 * steps["calls"])


PAPER_GRID = {"train_reward_model": 3, "train_dpo": 3, "adapt_online": 3, "probe_policy": 3}
"""Cells of 3 betas, 1 seed and the proxy arm; 1 of every other stage."""


@pytest.mark.slow
def test_the_papers_own_grid_takes_what_the_documents_say(paper_plan: dict[str, dict[str, object]]) -> None:
    hours = sum(stage["hours"] * PAPER_GRID.get(name, 1) for name, stage in paper_plan.items())
    assert hours == pytest.approx(15.0, abs=0.05)


@pytest.mark.slow
def test_every_stage_of_the_small_scale_needs_less_than_24_gb(checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    printed = json.loads(plan.plan("24gb", "RTX 4090", 1, None, as_json=True))
    assert {stage["name"]: stage["needed_bytes"] for stage in printed["stages"] if stage["needed_bytes"] >= 24e9} == {}

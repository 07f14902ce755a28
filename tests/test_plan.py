"""``pessimism plan``: what it prints of the embedded world's scale, and as JSON of the paper's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pessimism import cli
from pessimism.commands.selfcheck import params_of
from pessimism.planning.plan import summary

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
        "bfloat16_utilisation",
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


def test_the_summary_says_hours_cost_and_where_they_come_from(project: Path) -> None:
    text = summary(params_of("tiny"))
    assert text.startswith("planned on one H100 80GB: ") and "pessimism plan" in text
    assert "reward models" in text and "online" in text and "more than" not in text


@pytest.fixture(scope="module")
def paper_plan(checkout: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, object]]:
    """Stages of the paper's scale as ``--json`` prints them."""
    from pessimism.commands import plan

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

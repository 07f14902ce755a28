"""``pessimism plan``: what it prints, and that the documents say the same."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from pessimism import cli
from pessimism.commands import plan
from pessimism.planning.hardware import like_known
from support.repository import CHECKOUT

Printed = dict[str, Any]
STAGES = ["prepare_base", "measure_reference", "train_reward_model", "assess_ensemble", "measure_base", "train_dpo"]
STAGES += ["adapt_online", "probe_policy"]


@pytest.mark.parametrize("scale", ["paper", "24gb", "laptop", "tiny"])
def test_the_text_names_every_stage_and_is_no_wider_than_a_screen(
    project: Path, capsys: pytest.CaptureFixture[str], scale: str
) -> None:
    cli.main(["plan", "--gpus", "2", "--scale", scale])
    text = capsys.readouterr().out
    assert max(map(len, text.splitlines())) <= 120
    assert all(text.count(f"\n  {stage} ") >= 2 for stage in STAGES)
    words = ("estimates", "Assumptions", "on 2 GPUs", "product_utilisation", "KV cache", "to download")
    assert [word for word in words if word not in text] == []


def test_a_price_replaces_the_assumed_one_and_gpus_share_the_cells(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cli.main(["plan", "--gpu", "a100", "--price", "7.5", "--gpus", "5", "--json"])
    found = json.loads(capsys.readouterr().out)
    assert found["gpu"]["name"] == "A100 80GB" and found["total_cost_usd"] == pytest.approx(7.5 * found["total_hours"])
    assert found["total_hours"] == pytest.approx(sum(stage["hours"] * stage["cells"] for stage in found["stages"]))
    waves = {"train_dpo": 2, "probe_policy": 2, "adapt_online": 4}
    hours = sum(stage["hours"] * waves.get(stage["name"], 1) for stage in found["stages"])
    assert found["wall_hours"] == pytest.approx(hours + 8 * 0.02)  # and the stages that run no model


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


@pytest.mark.parametrize(
    ("device", "memory", "expected"),
    [
        ("RTX 3090", 25.3e9, r"planned on one RTX 3090 \(taken for RTX 4090 24GB\): .*every stage fits"),
        ("RTX 4090", 1.05e9, r"train_dpo needs 1\.1 GB in .*: more than the 1\.1 GB of this GPU$"),
        (None, 0, "no CUDA device here; planned on one H100 80GB: .* online .*`pessimism plan`"),
    ],
)
def test_the_brief_plan_says_whether_the_memory_is_enough(
    project: Path, monkeypatch: pytest.MonkeyPatch, device: str | None, memory: float, expected: str
) -> None:
    monkeypatch.setattr(plan, "gpu_here", lambda: None if device is None else like_known(device, memory))
    text = plan.brief(None)
    assert re.search(expected, text, re.DOTALL | re.MULTILINE) and ("fits" in text) != ("more than" in text)


def planned(scale: str, gpu: str) -> Printed:
    """A scale of the checkout as ``--json`` prints it, for eight GPUs and the design of params.yaml."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(CHECKOUT)
        return json.loads(plan.plan(scale, gpu, 8, None, as_json=True))


@pytest.fixture(scope="module")
def paper() -> Printed:
    return planned("paper", "H100 80GB")


@pytest.fixture(scope="module")
def small() -> Printed:
    return planned("24gb", "RTX 4090")


def test_json_holds_the_values_of_the_paper(paper: Printed) -> None:
    stages = {stage["name"]: stage["hyperparameters"] for stage in paper["stages"]}
    trained = [stages[name] for name in ("train_dpo", "train_reward_model", "adapt_online")]
    expected = {
        "lora_rank": [64, 32],
        "lora_alpha": [128, 64],
        "lora_dropout": [0.1, 0.1],
        "batch_size": [8, 64, 4],
        "steps": [217, 1516, 165],
        "warmup_steps": [14, 38],
        "trainable_parameters": [83_886_080, 12_847_104],
        "learning_rate": [6.905e-5, 1.7645e-4, 3.4527e-6],
        "clip_norm": [1.1320, 1.0155, 1.1320],
        "weight_decay": [0.004541, 0.004541, 1.0918e-4],
    }
    for name, values in expected.items():
        assert [found[name] for found in trained[: len(values)]] == pytest.approx(values, rel=1e-4), name
    assert stages["train_dpo"]["accumulation"] == 28
    assert [paper["models"][role]["evaluation_batch_size"] for role in ("policy", "reward")] == [16, 64]
    assert list(paper["rows"].values()) == [256, 1_319, 48_504, 1_319, 6_063]  # by name


def test_every_stage_fits_the_gpu_of_its_scale(paper: Printed, small: Printed) -> None:
    for found in (paper, small):
        assert [stage["name"] for stage in found["stages"] if stage["fits"]] == STAGES
    assert max(stage["needed_bytes"] for stage in small["stages"]) < 24e9
    assert "NO" in plan.plan("paper", "RTX 4090", 1, None, as_json=False)


def test_generation_takes_the_steps_of_each_batch_that_there_is(paper: Printed) -> None:
    (online,) = (stage for stage in paper["stages"] if stage["name"] == "adapt_online")
    steps, held_out = (entry for entry in online["passes"] if entry["name"] == "generation, one token")
    assert steps["tokens"] == pytest.approx(4 * steps["calls"]) and 165 * 126 < steps["calls"] < 165 * 300
    evaluations = online["hyperparameters"]["evaluations"]
    assert held_out["tokens"] == pytest.approx(256 * held_out["calls"])
    assert evaluations * 200 < held_out["calls"] < evaluations * 448

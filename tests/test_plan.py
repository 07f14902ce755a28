"""``pessimism plan``: what it prints of the embedded world's scale, and as JSON of the paper's."""

from __future__ import annotations

import itertools
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
        "format_tokens",
        "fewest_prompt_tokens",
        "fused_4bit_rows",
        "SmolLM2's tokenizer",
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


@pytest.fixture(scope="module")
def paper_plan(checkout: Path) -> Printed:
    """The paper's scale as ``--json`` prints it, for eight GPUs and the design of params.yaml."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        return json.loads(plan.plan("paper", "H100 80GB", 8, None, as_json=True))


@pytest.fixture(scope="module")
def paper_stages(paper_plan: Printed) -> dict[str, Printed]:
    return {stage["name"]: stage for stage in paper_plan["stages"]}


@pytest.fixture(scope="module")
def small_plan(checkout: Path) -> Printed:
    """The same of the scale for 24 GB."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(checkout)
        return json.loads(plan.plan("24gb", "RTX 4090", 1, None, as_json=True))


@pytest.mark.slow
def test_json_holds_the_values_of_the_paper(paper_stages: dict[str, Printed]) -> None:
    dpo, reward, online = (
        paper_stages[name]["hyperparameters"] for name in ("train_dpo", "train_reward_model", "adapt_online")
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
    assert paper_stages["measure_reference"]["hyperparameters"]["evaluation_batch_size"] == 16
    close = {
        "learning_rate": (6.905e-5, 1.7645e-4, 3.4527e-6),
        "clip_norm": (1.1320, 1.0155, 1.1320),
        "weight_decay": (0.004541, 0.004541, 1.0918e-4),
    }
    for name, expected in close.items():
        found = [values[name] for values in (dpo, reward, online)]
        assert found == pytest.approx(expected, rel=1e-4), name


@pytest.mark.slow
def test_every_stage_of_the_paper_fits_its_gpu(paper_stages: dict[str, Printed]) -> None:
    assert tuple(paper_stages) == STAGES
    assert all(stage["fits"] for stage in paper_stages.values())
    for stage in paper_stages.values():
        assert sum(stage["memory"].values()) == stage["peak_bytes"] < stage["needed_bytes"]


@pytest.mark.slow
def test_generation_takes_the_steps_of_each_batch_that_there_is(paper_stages: dict[str, Printed]) -> None:
    online, values = paper_stages["adapt_online"], paper_stages["adapt_online"]["hyperparameters"]
    steps, held_out = (entry for entry in online["passes"] if entry["name"] == "generation, one token")
    assert (steps["rows"], held_out["rows"]) == (4, 256)
    assert 165 * 126 < steps["calls"] < 165 * 300
    assert values["evaluations"] * 200 < held_out["calls"] < values["evaluations"] * 448
    assert steps["tokens"] == pytest.approx(4 * steps["calls"])


PAPER_GRID = {"train_reward_model": 3, "train_dpo": 3, "adapt_online": 3, "probe_policy": 3}
"""Cells of 3 betas, 1 seed and the proxy arm; 1 of every other stage."""


def grid_hours(plan: Printed) -> float:
    return sum(stage["hours"] * PAPER_GRID.get(stage["name"], 1) for stage in plan["stages"])


def rows_below(header: str) -> list[list[str]]:
    """Cells of the table in docs/paper-scale.md whose first line starts with ``header``."""
    lines = (CHECKOUT / "docs/paper-scale.md").read_text().splitlines()
    (start,) = [number for number, line in enumerate(lines) if line.startswith(header)]
    rows = itertools.takewhile(lambda line: line.startswith("|"), lines[start + 2 :])
    return [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]


def rounded_like(written: str, value: float) -> str:
    """``value`` with as many decimals as the number in ``written``, and what stands around that."""
    before, number, after = re.fullmatch(r"(\D*)([\d.]+)(.*)", written).groups()
    return f"{before}{value:.{len(number.partition('.')[2])}f}{after}"


@pytest.mark.slow
def test_the_documents_say_what_each_stage_takes(paper_plan: Printed, small_plan: Printed) -> None:
    rows = rows_below("| stage | memory needed, H100 80GB |")
    assert [re.match(r"`(\w+)`", name).group(1) for name, *_ in rows] == list(STAGES)
    for (name, *written), large, small in zip(rows, paper_plan["stages"], small_plan["stages"], strict=True):
        values = [number for stage in (large, small) for number in (stage["needed_bytes"] / 1e9, stage["hours"])]
        assert written == [rounded_like(*pair) for pair in zip(written, values, strict=True)], name


@pytest.mark.slow
def test_the_documents_say_what_whole_runs_take(paper_plan: Printed, small_plan: Printed) -> None:
    rows = rows_below("| design | DPO + online cells |")
    chain, price = paper_plan["critical_path_hours"], paper_plan["gpu"]["usd_per_hour"]
    own, ours = grid_hours(paper_plan), paper_plan["total_hours"]
    expected = [
        [own, own * price, chain, grid_hours(small_plan)],
        [ours, ours * price, paper_plan["wall_hours"]["8"], small_plan["total_hours"]],
    ]
    for (name, _, *written), values in zip(rows, expected, strict=True):
        assert written == [rounded_like(*pair) for pair in zip(written, values, strict=True)], name
    name, written = rows_below("| switched back | hours |")[0]
    assert (name, written) == ("nothing", rounded_like(written, own))


@pytest.mark.slow
def test_the_papers_own_grid_takes_less_than_seven_hours(paper_plan: Printed) -> None:
    assert grid_hours(paper_plan) < 7


@pytest.mark.slow
def test_every_stage_of_the_small_scale_needs_less_than_24_gb(small_plan: Printed) -> None:
    assert [stage["name"] for stage in small_plan["stages"] if stage["needed_bytes"] >= 24e9] == []

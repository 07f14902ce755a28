"""The plan: its parts by hand, what is printed of them; tests/test_stage_models.py has real models."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from pessimism import cli
from pessimism.commands import plan
from pessimism.commands.plan import Printed
from pessimism.errors import ParamsError, SourceError
from pessimism.experiment.params import LengthParams, load_params
from pessimism.models.compute.logprobs import CHUNK
from pessimism.planning import hardware, passes
from pessimism.planning.hardware import ATTENTION, BACKWARD, FLASH, PRODUCT, RECORDED, Kernel, find_gpu, moving, seconds
from pessimism.planning.layer import Batch, Layer
from pessimism.planning.lengths import TextLengths
from pessimism.planning.role import PUBLISHED, Role, find_role, read
from pessimism.planning.setting import Setting
from pessimism.planning.stages import PLACEBO, train_dpo
from support.repository import CHECKOUT, Edit

SMALL = {"hidden": 4, "intermediate": 8, "layers": 1, "heads": 2, "key_heads": 1, "head_width": 2, "vocabulary": 10}
SMALL |= {"tied": False, "head_norms": False, "biases": False}
ADAPTED = {"rank": 1, "dropout": 0.1, "targets": ("q_proj", "v_proj")}
LINEAR, ADAPTER = 4 * 4 + 2 * (4 * 2) + 4 * 4 + 3 * (4 * 8), (4 + 4) + (4 + 2)
"""Weights of its linear layers, and of an adapter of rank 1 on those of queries and values."""


def role(block: int = 4, packed: bool = False, name: str = "policy") -> Role:
    return Role(name, "small", False, block, 4, packed, **ADAPTED, **SMALL)


def flops(kernels: list[Kernel], kind: str) -> float:
    return sum(kernel.flops for kernel in kernels if kernel.kind == kind)


def test_flops_of_one_layer() -> None:
    batch, pairs = Batch(6, causal=3 * 2**2), Batch(6, causal=4**2, masked=2 * 6, unmasked=4)
    ahead = passes.forward(role(), batch._replace(scored=3), adapted=True)
    assert flops(ahead, PRODUCT) == 2 * 6 * (LINEAR + ADAPTER) + 2 * 3 * 10 * 4
    assert flops(ahead, ATTENTION) == 4 * 4 * (3 * 2**2) / 2  # float32 has no faster kernel; half lies ahead
    in_bfloat16 = Layer(role(block=2), pairs, adapted=False).forward()
    assert (flops(in_bfloat16, FLASH), flops(in_bfloat16, ATTENTION)) == (4 * 4 * 4**2 / 2, 4 * 4 * 2 * 6)
    step = passes.training_step(role(), batch, dropout=True, checkpointing=False)
    assert flops(step, ATTENTION) == 3.5 * flops(ahead, ATTENTION)


@pytest.mark.parametrize(("rows", "kernels", "read"), [(4, 7, 4 * 4 * (1 / 2 + 1 / 64)), (64, 4 * 7, 2 * 4 * 4)])
def test_few_rows_are_multiplied_by_packed_weights(rows: int, kernels: int, read: float) -> None:
    layer = Layer(role(block=2, packed=True), Batch(rows), adapted=False)
    found = layer._products()
    assert sum(kernel.kernels for kernel in found) == kernels
    assert next(kernel.moved for kernel in found if kernel.flops) == 2 * rows * (4 + 4) + read
    assert layer.largest_product == (0 if rows == 4 else (2 + 4 / 64) * 4 * 8)


def test_memory_of_one_layer() -> None:
    # Three streams and the norm of 4, and in the MLP the operands and the result of the gate's product.
    assert passes.reading_memory(role(), Batch(6)) == 6 * 4 * (3 * 4 + 4 + 3 * 8)
    # Inputs of both norms; queries, copied keys and values, attention; gates; what adapters read, and their masks.
    kept = 4 * (2 * 4 + 4 + 2 * 4 + 4 + 3 * 8) + (4 + 1) * (4 + 4) + 4 * 2 + 2 * 8 + 4 * 2
    assert Layer(role(), Batch(6, causal=12), adapted=True, dropout=True).kept() == 6 * kept
    assert role().optimiser_bytes == 3 * 4 * ADAPTER
    decoding = passes.decode_memory(role(), rows=3, length=5, sampling="full")
    assert decoding == {"logits": 6 * 4 * 3 * 10, "KV cache": 3 * 5 * 2 * 4 * 2}
    (attention,) = Layer(role(block=2), Batch(3, masked=3 * 7), adapted=False, cached=7)._attention()
    assert attention.moved == 2 * 2 * 2 * 3 * 7  # keys and values alone


def test_shipped_sizes_are_those_of_the_models() -> None:
    counts = {"Qwen/Qwen3-14B": 14_768_307_200, "Qwen/Qwen3-1.7B": 1_720_574_976}
    counts["HuggingFaceTB/SmolLM2-135M-Instruct"] = 134_515_008
    found = {name: read(sizes, "policy.name") for name, sizes in PUBLISHED.items()}
    assert {name: dataclasses.replace(role(), **sizes).parameters for name, sizes in found.items()} == counts
    assert passes.TILE_COLUMNS == CHUNK


def test_a_gpt2_is_counted_by_its_own_names() -> None:
    """The parameters of the smallest published one (Radford et al. 2019, 124M), whose file leaves out what is usual."""
    config: dict[str, Any] = {"model_type": "gpt2", "n_embd": 768, "n_layer": 12, "n_head": 12, "vocab_size": 50257}
    config["n_positions"] = 1024
    sizes = read(config, "policy.name")
    assert (sizes["intermediate"], sizes["key_heads"], sizes["tied"]) == (3072, 12, True)
    assert dataclasses.replace(role(), **sizes).parameters == 124_439_808
    with pytest.raises(SourceError, match="hidden_act 'relu'; expected one of .*gpt2"):
        read(config | {"activation_function": "relu"}, "policy.name")


@pytest.mark.parametrize(
    ("config", "model", "message"),
    [
        ({"model_type": "qwen3_moe"}, {}, "found a config.json with model_type 'qwen3_moe'; expected one of llama, "),
        ({"hidden_act": "gelu"}, {}, "hidden_act 'gelu'"),
        ({"use_sliding_window": True, "sliding_window": 512}, {}, "sliding_window 512"),
        ({"model_type": "mistral", "sliding_window": 4096}, {}, "sliding_window 4096"),
        ({"attention_bias": True}, {}, "attention_bias true"),
        ({"vocab_size": ...}, {}, "no vocab_size"),
        ({}, {"name": "nowhere"}, "policy.name: found no .*nowhere/config.json"),
        ({}, {"source": "hub", "name": "a/b"}, "policy.name: found no sizes of 'a/b'; expected one of"),
        ({}, {"lora_targets": ("lm_head",)}, r"policy.lora_targets: found \['lm_head'\]; expected some of"),
    ],
)
def test_what_is_not_counted_is_refused(
    project: Path, config: dict[str, Any], model: dict[str, Any], message: str
) -> None:
    changed = PUBLISHED["Qwen/Qwen3-1.7B"] | config
    Path("config.json").write_text(json.dumps({key: value for key, value in changed.items() if value is not ...}))
    params = load_params(scale="paper")
    policy = dataclasses.replace(params.scale.policy, **{"source": "path", "name": "."} | model)
    params = dataclasses.replace(params, scale=dataclasses.replace(params.scale, policy=policy))
    with pytest.raises(SourceError, match=message):
        find_role(params, "policy", 48)


def test_texts_fill_batches_as_the_stages_make_them() -> None:
    texts = TextLengths(LengthParams(prompt=192, response=448, sequence=640))
    alone, rows = (kind.under_budget(16 * 640) for kind in (texts.sides, texts.pairs))
    trained, forwards = texts.trained_pairs(224, 8)
    assert all(1 <= load.padding <= 1.08 for load in (alone, rows, trained)) and trained.share == forwards / 8
    # A pair in one row computes its prompt once, 36 % of both texts' tokens; its longer text needs no mask.
    tokens = [load.share * load.batch.positions / load.padding for load in (alone, rows)]
    assert tokens[1] == pytest.approx(2 * tokens[0] * (1 - 0.36 / 2), rel=0.02)
    assert 0 < rows.batch.positions - rows.batch.unmasked < rows.batch.unmasked
    assert texts.longest_response(4) < texts.longest_response(256) < 448


def test_time_is_the_slower_of_arithmetic_memory_and_launching() -> None:
    gpu, computing, copying = find_gpu("h100"), Kernel(1e15, 1, PRODUCT, 2), moving(1e13)
    assert seconds([computing], gpu, "high") == pytest.approx(1e15 / (989e12 * 0.7))
    assert seconds([computing, copying], gpu, "high") == pytest.approx(1e15 / (989e12 * 0.7) + 1e13 / (3.35e12 * 0.8))
    waiting = [moving(1, 1e6), moving(1, 1e5)._replace(start=RECORDED), moving(1, 1e4)._replace(start=BACKWARD)]
    assert seconds(waiting, gpu, "high") == pytest.approx(1e6 * 2e-5 + 1e5 * 3.5e-5 + 1e4 * 1.3e-5)
    for kind, ratio in ((PRODUCT, 494.7 / 67), (ATTENTION, 1)):
        exact, allowed = (seconds([Kernel(1e15, 1, kind, 4)], gpu, mode) for mode in ("highest", "high"))
        assert exact / allowed == pytest.approx(ratio)


def test_gpus_are_known_by_name_or_else_by_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"NVIDIA A100-SXM4-40GB": "a100", "NVIDIA GeForce RTX 3090": "4090", "NVIDIA H200": "H100 80GB"}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    for (name, like), memory in zip(known.items(), (42e9, 25e9, 150e9), strict=True):
        device, expected = SimpleNamespace(name=name, total_memory=memory), find_gpu(like)
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index, device=device: device)
        renamed = {"name": f"{name} (taken for {expected.name})", "memory_bytes": memory}
        assert hardware.gpu_here() == dataclasses.replace(expected, **renamed)
    for name in ("80GB", "B200"):
        with pytest.raises(ParamsError, match=f"--gpu: found '{name}'; expected one of"):
            find_gpu(name)


STAGES = ["prepare_base", "measure_reference", "train_reward_model", "assess_ensemble", "measure_base", "train_dpo"]
STAGES += ["adapt_online", PLACEBO, "probe_policy", "select_best_of_n"]


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
    waves = {"train_reward_model": 3, "train_dpo": 3, "probe_policy": 3, "adapt_online": 6, PLACEBO: 3}
    waves["select_best_of_n"] = 3
    hours = sum(stage["hours"] * waves.get(stage["name"], 1) for stage in found["stages"])
    assert found["wall_hours"] == pytest.approx(hours + 10 * 0.02)  # and the stages that run no model


@pytest.mark.parametrize(
    ("hours", "text"),
    [(0.0, "0 s"), (0.0001, "0.36 s"), (1 / 61, "59 s"), (1 / 60, "1 min"), (0.579, "34.7 min"), (1.309, "1.31 h")]
    + [(11.4, "11.4 h"), (1234.5, "1,234 h")],
)
def test_times_are_printed_in_a_unit_that_shows_them(hours: float, text: str) -> None:
    assert plan._duration(hours) == text


def test_no_stage_of_the_default_design_takes_no_time(project: Path) -> None:
    """They take seconds: in hours, all of them would be 0.00."""
    printed = plan.plan("tiny", "H100 80GB", 1, None, as_json=False)
    rows = [line for line in plan._stages(planned("tiny", "H100 80GB")).splitlines() if " yes " in line]
    assert len(rows) == len(STAGES) and all(row in printed for row in rows)
    for row in rows:
        times = re.findall(r"([\d.]+) (?:s|min|h)\b", row)
        assert len(times) == 2 and all(float(time) > 0 for time in times)


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
    monkeypatch.setattr(plan, "gpu_here", lambda: None if device is None else hardware.like_known(device, memory))
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


def test_json_holds_the_values_of_the_paper(paper: Printed) -> None:
    """Those of adaptation; tests/test_stage_models.py compares those of both trainings with the stages' own."""
    stages = {stage["name"]: stage["hyperparameters"] for stage in paper["stages"]}
    assert stages[PLACEBO] == stages["adapt_online"] | {"learning_rate": 0}
    online = [stages["adapt_online"][name] for name in ("learning_rate", "weight_decay", "clip_norm")]
    assert online == pytest.approx([3.4527e-6, 1.0918e-4, 1.1320], rel=1e-4)
    assert (stages["adapt_online"]["batch_size"], stages["adapt_online"]["steps"]) == (4, 165)
    trained = [stages[name]["trainable_parameters"] for name in ("train_dpo", "train_reward_model")]
    assert trained == [83_886_080, 12_847_104]
    assert [paper["models"][role]["evaluation_batch_size"] for role in ("policy", "reward")] == [16, 64]
    assert list(paper["rows"].values()) == [256, 1_319, 48_504, 1_319, 6_063]  # by name


def test_every_stage_fits_the_gpu_of_its_scale(paper: Printed) -> None:
    small = planned("24gb", "RTX 4090")
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


def test_a_placebo_takes_generation_and_scoring_alone(paper: Printed) -> None:
    """256 problems at four evaluations, and batches of 4 at steps 0, 3, ..., 162 and 164, 256 drawn at once."""
    online, placebo = (stage for stage in paper["stages"] if stage["name"].startswith("adapt_online"))
    assert (online["cells"], placebo["cells"]) == (30, 15)
    batches = 1 + len(range(0, 165, 3))
    made: dict[str, list[tuple[float, float]]] = {}
    for entry in placebo["passes"]:
        made.setdefault(entry["name"], []).append((entry["calls"], entry["tokens"]))
    prompts = dict(made.pop("generation, prompts"))
    assert list(prompts) == [4, 1] and prompts[4] / prompts[1] == pytest.approx(4 * 256 / (4 * batches))
    assert [calls for calls, _ in made["log-probabilities"]] == [batches]
    assert set(made) == {"generation, one token", "reward scores", "log-probabilities", "held-out log-probabilities"}
    assert "optimiser" not in placebo["memory"] and placebo["hours"] < online["hours"] / 4


def test_a_design_without_a_placebo_plans_none(project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "gpu_here", lambda: None)
    assert "online 11.4 h," in plan.brief("paper")
    with_one = json.loads(plan.plan("tiny", "H100 80GB", 1, None, as_json=True))
    edit("params.yaml", "arms", ["proxy", "uncoupled"])
    found = json.loads(plan.plan("tiny", "H100 80GB", 1, None, as_json=True))
    assert [stage for stage in found["stages"] if stage["name"] == PLACEBO] == []
    (left,) = (stage for stage in with_one["stages"] if stage["name"] == PLACEBO)
    assert with_one["total_hours"] - found["total_hours"] == pytest.approx(left["hours"] * left["cells"])
    adapters = 15 * 4 * found["models"]["policy"]["trainable_parameters"]
    assert with_one["output_bytes"] - found["output_bytes"] == adapters
    assert "online 10.6 h," in plan.brief("paper")


@pytest.mark.parametrize(("objective", "validated"), [("dpo", None), ("epsilon_dpo", 0), ("kto", 1)])
def test_passes_of_the_objective_itself_are_counted(
    project: Path, edit: Edit, objective: str, validated: int | None
) -> None:
    """Two over every training pair; KTO's reference point is measured on validation pairs, too."""
    edit("params.yaml", "offline.objective", objective)
    setting = Setting(load_params())
    _, validation, *own = train_dpo(setting).passes
    assert len(own) == (validated is not None)
    for reading in own:
        pairs = setting.scale.dpo.epochs * setting.rows.train_pairs + (validated or 0) * setting.rows.val_pairs
        assert reading.calls == pytest.approx(validation.calls * pairs / setting.rows.val_pairs)
        assert sum(kernel.flops for kernel in reading.kernels) == 2 * sum(kernel.flops for kernel in validation.kernels)


def test_shots_are_read_by_the_policy_and_not_by_reward_models() -> None:
    lengths = LengthParams(prompt=2000, response=448, sequence=2448)
    bare, shown = TextLengths(lengths), TextLengths(lengths, shots=3)
    problem, solution = float(bare.problems.mean()), float(bare.solutions.mean())
    assert float(shown.problems.mean()) == pytest.approx(problem + 3 * (problem + solution), rel=0.02)
    assert np.array_equal(shown.judged.whole, bare.answered.whole)
    assert (shown.answered.whole > bare.answered.whole).all()
    assert TextLengths(dataclasses.replace(lengths, prompt=500), shots=9).problems.max() == 500

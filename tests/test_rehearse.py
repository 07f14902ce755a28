"""The rehearsal: its bases are those that a loader gives, its lines judge what they say, and no step ends the others.

Times and bytes on a GPU are what it measures there; nothing here has any.
"""

from __future__ import annotations

import gc
import json
import math
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import bitsandbytes
import numpy as np
import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from benchmarks.rehearse import __main__ as rehearse
from benchmarks.rehearse import offline, step
from benchmarks.rehearse.bases import MICRO, SCALES, project
from benchmarks.rehearse.measuring import problems
from benchmarks.rehearse.texts import Drawn
from pessimism.data.hashing import content_hash
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.models import loading
from pessimism.offline.reference import pair_logps
from pessimism.planning.setting import Setting, longest_pairs
from pessimism.planning.stages import every_stage
from support.repository import CHECKOUT

NUMBERS = ("seconds", "planned_seconds", "seconds_ratio", "host_peak_bytes", "planned_bytes")
GPU_NUMBERS = ("device_peak_bytes", "device_reserved_bytes", "bytes_ratio")
PASSES = {
    "measure_reference": ["log-probabilities", "beta grid"],
    "train_dpo": ["training step"],
    "adapt_online": ["training step", "generation", "generation", "reward scores", "log-probabilities"],
    "train_reward_model": ["training step"],
    "probe_policy": ["representations", "divergence"],
}


@pytest.fixture
def micro() -> Iterator[Params]:
    with project(MICRO) as params:
        yield params


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_is_rehearsed_with_the_plans_own_models_and_batches(scale: str) -> None:
    with project(scale) as params:
        parameters = [records.read_json(layout.base_record(role))["parameters"] for role in ("policy", "reward")]
        found = {work.name: work for work in every_stage(Setting(params))}
    assert parameters == [14_768_307_200, 1_720_574_976 + 2_048]  # with a score head
    for work in every_stage(Setting(load_params(CHECKOUT, scale=scale))):
        # One epoch is enough to tell what a step takes.
        epochs = {"epochs", "steps", "warmup_steps"} if work.name == "train_reward_model" else set()
        assert found[work.name].resident == work.resident
        assert {name: value for name, value in found[work.name].values.items() if name not in epochs} == {
            name: value for name, value in work.values.items() if name not in epochs
        }


def test_texts_are_as_long_as_the_plan_has_them() -> None:
    with project("paper") as params:
        real, greatest = Drawn.every(params)
        pairs, rollouts = greatest.pairs(3), greatest.rollouts(2)
        mean = np.mean([len(pair.chosen_ids) + len(pair.rejected_ids) for pair in real.pairs(4096)])
        planned = greatest.setting.texts.pairs.load([np.zeros(4, int)]).batch
    assert {tuple(map(len, (p.prompt_ids, p.chosen_ids, p.rejected_ids))) for p in pairs} == {(8, 632, 632)}
    assert {len(ids) for ids in rollouts.prompt_ids} == {192} and {len(ids) for ids in rollouts.response_ids} == {448}
    assert mean == pytest.approx(real.setting.texts.pairs.scored.mean(), rel=0.02)
    assert planned._replace(scored=0.0) == longest_pairs(4, 640)
    assert (real.longest_response(256), greatest.longest_response(256)) == (336, 448)


def tensors(model: PreTrainedModel) -> dict[str, Any]:
    """Shape, dtype and, where packed, the settings of every tensor."""
    found: dict[str, Any] = {}
    for name, parameter in [*model.named_parameters(), *model.named_buffers()]:
        state = getattr(parameter, "quant_state", None)
        packed = None if state is None else (state.quant_type, state.nested, state.dtype, state.shape, state.blocksize)
        found[name] = (tuple(parameter.shape), parameter.dtype, parameter.requires_grad, packed)
    return found


def test_a_drawn_base_is_what_a_loader_gives(micro: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same configuration, once drawn and once read from files that hold all weights."""
    drawn, place = loading.load_policy_base(micro), Path(micro.scale.policy.name)
    AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(place)).save_pretrained(place)
    record = records.read_json(layout.base_record("policy")) | {"content_sha256": content_hash(place)}
    records.write_json(layout.base_record("policy"), record)
    with monkeypatch.context() as patch:
        patch.setattr(loading, "AutoModelForCausalLM", AutoModelForCausalLM)
        loading.hash_once.cache_clear()
        read = loading.load_policy_base(micro)
    assert tensors(drawn) == tensors(read) and sum(entry[3] is not None for entry in tensors(read).values()) == 14
    assert [type(module) for module in drawn.modules()] == [type(module) for module in read.modules()]
    assert (drawn.is_loaded_in_4bit, drawn.quantization_method) == (True, read.quantization_method)
    assert drawn.num_parameters() == read.num_parameters() == record["parameters"]
    layer = drawn.model.layers[0].mlp.up_proj
    weight = bitsandbytes.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
    assert weight.float().std() == pytest.approx(drawn.config.initializer_range, rel=0.05)


def test_one_weight_at_a_time_is_not_in_4_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    quantize, alive = bitsandbytes.functional.quantize_4bit, []

    def noting(weight: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        gc.collect()
        held = {
            tensor.untyped_storage().data_ptr()
            for tensor in gc.get_objects()
            if type(tensor) in (torch.Tensor, bitsandbytes.nn.Params4bit)
            and tensor.dtype == torch.float32
            and tensor.device.type == "cpu"
            and tuple(tensor.shape) in shapes
        }
        alive.append(len(held))
        return quantize(weight, *arguments, **options)

    with project(MICRO) as params:
        shapes = {(256, 128), (128, 128), (128, 256)}  # of linear layers; the embedding is (512, 128)
        monkeypatch.setattr(bitsandbytes.functional, "quantize_4bit", noting)
        loading.load_policy_base(params)
    assert alive == [1] * 14


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.slow) for name in step.STEPS])
def test_every_step_runs_at_micro_size(name: str) -> None:
    found = list(step.lines(MICRO, name))
    assert [(line["lengths"], line["pass"]) for line in found] == [
        (kind, made) for kind in ("real", "greatest") for made in PASSES[name]
    ]
    for line in found:
        assert line["step"] == name and line["ok"] is True and line["reason"] is None
        assert all(line[key] > 0 for key in NUMBERS) and all(line[key] is None for key in GPU_NUMBERS)
        assert line["attention"] and all(kernel.split(": ")[1] == "flash_attention" for kernel in line["attention"])
        assert json.loads(json.dumps(line)) == line
    if name.startswith("train_"):
        assert [line["expected_loss"] for line in found] == [pytest.approx(math.log(2))] * 2
        assert [line["first_loss"] for line in found] == [pytest.approx(math.log(2), abs=1e-3)] * 2
    if name == "measure_reference":
        assert 0 < found[0]["largest_difference_nats"] < found[0]["granted_nats"]


def test_a_policy_that_is_not_its_reference_ends_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def shifted(*arguments: Any) -> Any:
        chosen, rejected = pair_logps(*arguments)
        return chosen + 5, rejected

    monkeypatch.setattr(offline, "pair_logps", shifted)
    with pytest.raises(ValueError, match="the first loss is 5.0"):
        next(step.lines(MICRO, "train_dpo"))


def test_scores_that_are_not_0_at_first_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def with_head(params: Params) -> PreTrainedModel:
        base = loading.load_reward_base(params)
        base.score.weight.data.normal_(generator=torch.Generator().manual_seed(0))
        return base

    monkeypatch.setattr(offline, "load_reward_base", with_head)
    line = next(step.lines(MICRO, "train_reward_model"))
    assert not line["ok"] and line["reason"] == f"the first loss is {line['first_loss']:.6f}; expected 0.693147"


def test_noise_of_layouts_by_hand() -> None:
    together, alone = np.array([[-10.0, -20.0], [-30.0, -40.0]]), np.array([[-10.5, -20.0], [-30.0, -40.25]])
    found = offline.layout_noise(together, alone)
    assert found == {"largest_difference_nats": 0.5, "log_ratio_sd_nats": pytest.approx(0.75 / math.sqrt(2))}


GOOD = {
    "device_peak_bytes": 10,
    "seconds_ratio": 2.0,
    "bytes_ratio": 1.05,
    "attention": ["masked: efficient_attention"],
}
GOOD |= {"first_loss": 0.7, "expected_loss": 0.6, "tolerance": 0.2, "log_ratio_sd_nats": 0.3, "granted_nats": 0.3}


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"seconds_ratio": 2.1}, "takes 2.1 times the planned seconds; expected at most 2"),
        ({"bytes_ratio": 1.06}, "takes 1.06 times the planned bytes; expected at most 1.05"),
        ({"attention": ["masked: math"]}, "attention runs masked: math; expected a kernel that keeps no (T, T) scores"),
        ({"first_loss": math.nan}, "the first loss is nan; expected 0.600000"),
        ({"log_ratio_sd_nats": 0.31}, "log-ratios of two batch layouts differ by 0.31 nats; expected at most 0.3"),
    ],
)
def test_what_is_wrong_is_said(changed: dict[str, Any], reason: str) -> None:
    assert problems(GOOD) == [] and problems(GOOD | changed) == [reason]
    on_cpu = {"device_peak_bytes": None, "bytes_ratio": None, "seconds_ratio": 20.0}
    planned = "planned" in reason or "attention" in reason
    assert problems(GOOD | changed | on_cpu) == ([] if planned else [reason])


def python(code: str, limit: float = 60) -> list[Any]:
    command = [sys.executable, "-c", f"print('{{\"ok\": true}}', flush=True)\n{code}"]
    return list(rehearse.run_process("train_dpo", command, limit))


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise MemoryError('CUDA out of memory')", "ended with status 1: MemoryError: CUDA out of memory"),
        ("import os; os.kill(os.getpid(), 9)", "ended by SIGKILL: nothing was printed"),
    ],
)
def test_a_step_that_dies_says_how_and_keeps_its_lines(code: str, reason: str) -> None:
    assert python(code) == [{"ok": True}, {"step": "train_dpo", "ok": False, "reason": reason}]
    assert python("") == [{"ok": True}]


def test_a_step_is_stopped_at_the_end_of_the_time() -> None:
    kept, last = python("import time; time.sleep(600)", limit=5)
    assert (
        kept == {"ok": True}
        and last["reason"].startswith("stopped after 5 s")
        and last["reason"].endswith("--steps train_dpo")
    )


def test_the_others_go_on_after_a_step_that_died(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    program = tmp_path / "python"
    line = {"step": "probe_policy", "ok": True, "reason": None, "seconds_ratio": 3.0, "bytes_ratio": None}
    program.write_text(f"#!/bin/sh\n[ $4 = train_dpo ] && kill -9 $$\necho '{json.dumps(line)}'\n")
    program.chmod(0o755)
    monkeypatch.setattr(rehearse.sys, "executable", str(program))
    monkeypatch.setattr(rehearse.sys, "argv", ["rehearse", "--steps", "train_dpo,probe_policy"])
    monkeypatch.setattr(os, "environ", dict(os.environ))
    with pytest.raises(SystemExit) as ended:
        rehearse.main()
    died, kept, last = map(json.loads, capsys.readouterr().out.splitlines())
    assert ended.value.code == 1 and kept == line and not died["ok"]
    assert last["reason"] == "train_dpo, whole step: ended by SIGKILL: nothing was printed"
    assert (last["step"], last["lines"], last["ok"], last["largest_seconds_ratio"]) == ("summary", 2, False, 3.0)


@pytest.mark.parametrize("scale", SCALES)
def test_a_scale_that_needs_a_gpu_is_refused_without_one(scale: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(
        SystemExit, match=f"error: --scale {scale}: found no CUDA device; expected one: .*--scale micro"
    ):
        rehearse.check_device(scale)
    rehearse.check_device(MICRO)

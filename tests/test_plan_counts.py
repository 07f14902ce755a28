"""The planner's parts by hand: sizes, kernels, bytes, seconds, values; tests/test_stage_models.py has real models."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from pessimism.errors import ParamsError, SourceError
from pessimism.experiment.params import LengthParams, load_params
from pessimism.models.compute.logprobs import CHUNK
from pessimism.planning import architecture, hardware, passes
from pessimism.planning.hardware import ATTENTION, BACKWARD, FLASH, PRODUCT, RECORDED, Kernel, find_gpu, moving, seconds
from pessimism.planning.layer import Batch, Layer
from pessimism.planning.lengths import TextLengths
from pessimism.planning.role import Role, find_role

HEADS = {"heads": 2, "key_heads": 1, "head_width": 2, "head_norms": False, "biases": False}
SMALL = architecture.Architecture(hidden=4, intermediate=8, layers=1, vocabulary=10, tied=False, **HEADS)
LINEAR, ADAPTER = 4 * 4 + 2 * (4 * 2) + 4 * 4 + 3 * (4 * 8), (4 + 4) + (4 + 2)
"""Weights of its linear layers, and of an adapter of rank 1 on those of queries and values."""


def role(block: int = 4, packed: bool = False, name: str = "policy") -> Role:
    return Role(name, "small", False, SMALL, block, 4, packed, rank=1, dropout=0.1, targets=("q_proj", "v_proj"))


def flops(kernels: list[Kernel], kind: str) -> float:
    return sum(kernel.flops for kernel in kernels if kernel.kind == kind)


def test_parameters_of_one_layer() -> None:
    assert role().parameters == LINEAR + 2 * 4 + 10 * 4 + 10 * 4 + 4
    assert role(name="reward").parameters == LINEAR + 2 * 4 + 10 * 4 + 4 + 4
    assert (role().trainable, role(name="reward").trainable) == (ADAPTER, ADAPTER + 4)
    assert role().weight_bytes == 4 * role().parameters
    assert (role().optimiser_bytes, role(block=2).cache_bytes) == (3 * 4 * ADAPTER, 2 * 2 * 2)


def test_flops_of_one_layer() -> None:
    batch, pairs = Batch(6, causal=3 * 2**2), Batch(6, causal=4**2, masked=2 * 6, unmasked=4)
    ahead = passes.forward(role(), dataclasses.replace(batch, scored=3), adapted=True)
    assert flops(ahead, PRODUCT) == 2 * 6 * (LINEAR + ADAPTER) + 2 * 3 * 10 * 4
    assert flops(ahead, ATTENTION) == 4 * 4 * (3 * 2**2) / 2  # float32 has no faster kernel; half lies ahead
    in_bfloat16 = Layer(role(block=2), pairs, adapted=False).forward()
    assert (flops(in_bfloat16, FLASH), flops(in_bfloat16, ATTENTION)) == (4 * 4 * 4**2 / 2, 4 * 4 * 2 * 6)
    step = passes.training_step(role(), batch, dropout=True, checkpointing=False)
    # Backward through all but what reads the embedding; of an adapter, to its input and to its weights.
    assert flops(step, PRODUCT) == 2 * 6 * (2 * LINEAR + 3 * ADAPTER - (4 * 4 + 2 * (4 * 2)))
    assert flops(step, ATTENTION) == 3.5 * flops(ahead, ATTENTION)
    again = passes.training_step(role(), batch, dropout=True, checkpointing=True)
    assert flops(again, PRODUCT) == 2 * 6 * (3 * LINEAR + 4 * ADAPTER - 4 * 8)


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
    decoding = passes.decode_memory(role(), rows=3, length=5, sampling="full")
    assert decoding == {"logits": 6 * 4 * 3 * 10, "KV cache": 3 * 5 * 2 * 4 * 2}
    (attention,) = Layer(role(block=2), Batch(3, masked=3 * 7), adapted=False, cached=7)._attention()
    assert attention.moved == 2 * 2 * 2 * 3 * 7  # keys and values alone


def test_shipped_sizes_are_those_of_the_models() -> None:
    counts = {"Qwen/Qwen3-14B": 14_768_307_200, "Qwen/Qwen3-1.7B": 1_720_574_976}
    counts["HuggingFaceTB/SmolLM2-135M-Instruct"] = 134_515_008
    read = {name: architecture.read(sizes, "policy.name") for name, sizes in architecture.PUBLISHED.items()}
    assert {name: dataclasses.replace(role(), architecture=sizes).parameters for name, sizes in read.items()} == counts
    assert passes.TILE_COLUMNS == CHUNK


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
    changed = architecture.PUBLISHED["Qwen/Qwen3-1.7B"] | config
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

"""The models that stages compute with, beside what the planner counts of them: sizes, kernels, FLOPs and bytes."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from torch.utils.weak import WeakIdKeyDictionary
from transformers import DynamicCache, Trainer

from benchmarks.launches import Kernels, as_on_a_gpu
from pessimism.data.hashing import content_hash
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.models import loading, training
from pessimism.models.adapters import DEFAULT, attach, lora_config, rounded_adapters, trainable_parameters
from pessimism.models.compute.length_groups import group_by_length
from pessimism.models.compute.logprobs import hidden_states
from pessimism.models.precision import BLOCK_DTYPES
from pessimism.models.resolving import LOADERS
from pessimism.models.training import batch_parts
from pessimism.offline.training import offline_hyperparameters
from pessimism.online.update import POLICY, REFERENCE
from pessimism.planning import passes, stages
from pessimism.planning.hardware import BACKWARD, PLAIN, PRODUCT, RECORDED, Kernel
from pessimism.planning.layer import READS, Batch
from pessimism.planning.role import Role, find_role
from pessimism.planning.setting import FEWEST_PROMPT_TOKENS, Setting, longest_pairs
from pessimism.reward.bradley_terry import reward_hyperparameters
from pessimism.reward.ensemble import member_name
from support.pair_training import policy_trainer, reward_trainer
from support.random_models import ATTENTION_LAYERS, save_model, save_random_adapter, small_config


def with_models(params: Params, **changes: Any) -> Params:
    roles = {role: dataclasses.replace(params.scale.model(role), **changes) for role in ("policy", "reward")}
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, **roles))


class Memory(TorchDispatchMode):
    """Bytes of a model that is ready to run, and the most bytes that are alive at once besides while it does.

    A model holds its parameters with their gradients, and the scales of 4-bit weights.
    """

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        held = [tensor for parameter in model.parameters() for tensor in (parameter, parameter.grad)]
        for module in model.modules():
            if isinstance(module, bitsandbytes.nn.Linear4bit):
                state = module.weight.quant_state
                held += [state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code]
        self.alive: WeakIdKeyDictionary = WeakIdKeyDictionary()
        self.resident, self.peak = self._bytes(held), 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.peak = max(self.peak, self._bytes(tree_leaves(result)) - self.resident)
        return result

    def _bytes(self, found: list[Any]) -> int:
        """Bytes alive, those of what was found included."""
        self.alive.update({leaf.untyped_storage(): None for leaf in found if isinstance(leaf, torch.Tensor)})
        return sum(storage.nbytes() for storage in self.alive)


@pytest.mark.parametrize("scale", ["paper", "24gb", "laptop", "tiny"])
def test_values_are_those_that_the_stages_train_with(project: Path, scale: str) -> None:
    params = load_params(scale=scale)
    setting = Setting(params)
    pairs, cell = setting.rows.train_pairs, params.dpo_cells()[0]
    for sizes, trained in ((setting.policy, setting.scale.dpo), (setting.reward, setting.scale.reward_training)):
        lora = lora_config(params.scale.model(sizes.name), sizes.hidden, pairs, "CAUSAL_LM")
        given = (pairs, sizes.parameters, lora, sizes.trainable)
        derive = {"policy": (offline_hyperparameters, cell, 1.0), "reward": (reward_hyperparameters, (0, 0))}
        function, *own = derive[sizes.name]
        chosen = dataclasses.asdict(function(params, *own, *given)) | {"lora_alpha": lora.lora_alpha}
        values = stages.training_values(setting, sizes, trained)
        assert values == {name: value for name, value in chosen.items() if name not in ("beta", "seed")}
        batch, accumulation = values["batch_size"], values.get("accumulation", 1)
        for given_part in (trained.micro_batch_size, 3):
            part, _ = batch_parts(batch, accumulation, given_part, pairs)
            changed = dataclasses.replace(trained, micro_batch_size=given_part)
            assert stages.micro_batch_size(changed, batch, batch * accumulation) == part


def prepared(trainer: Trainer) -> PeftModel:
    training.prepare(trainer, "")
    return trainer.model


def attached(params: Params, role: str, names: Sequence[str], trainable: str | None) -> PeftModel:
    save_random_adapter(params, Path("adapter"), seed=1, role=role)
    return attach(LOADERS[role](params), dict.fromkeys(names, Path("adapter")), trainable)


MODELS = {
    "DPO": ("policy", lambda params, *_: prepared(policy_trainer(params)), [DEFAULT], DEFAULT),
    "online": ("policy", attached, [POLICY, REFERENCE], POLICY),
    "reward training": ("reward", lambda params, *_: prepared(reward_trainer(params)), [DEFAULT], DEFAULT),
    "ensemble": ("reward", attached, [member_name(0), member_name(1)], None),
}
"""Role, what makes the model that is computed with, and its adapters and that which is trained, by name."""


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("stage", MODELS)
def test_stages_compute_with_the_layers_and_adapters_that_the_planner_counts(
    referenced_world: Params, quantization: str, stage: str
) -> None:
    role, make, names, trainable = MODELS[stage]
    params = with_models(referenced_world, dtype="mixed", quantization=quantization)
    model, planned = make(params, role, names, trainable), find_role(params, role, train_pairs=48)
    assert model.get_base_model().num_parameters() == planned.parameters + len(names) * planned.trainable
    assert Memory(model).resident == planned.weight_bytes + len(names) * planned.adapter_bytes
    trained = trainable_parameters(model)
    assert sum(parameter.numel() for parameter in trained) == (planned.trainable if trainable else 0)
    assert all(parameter.dtype == torch.float32 for parameter in trained)
    layers = model.get_base_model().get_decoder().layers
    modules = dict(layers[0].named_modules())
    adapted = {path.rpartition(".")[2]: module for path, module in modules.items() if hasattr(module, "lora_A")}
    assert adapted.keys() == set(planned.targets)
    assert {module.forward.__func__.__name__ for module in adapted.values()} == {"_fused_forward"}
    linear = {"none": torch.nn.Linear, "nf4": bitsandbytes.nn.Linear4bit}[quantization]
    shapes = {
        path.removesuffix(".base_layer").rpartition(".")[2]: (module.in_features, module.out_features)
        for path, module in modules.items()
        if isinstance(module, linear) and "lora_" not in path
    }
    assert shapes == planned.linear
    assert {type(module) for path, module in modules.items() if path.endswith("norm")} == {torch.nn.RMSNorm}


PAIRS, SEQUENCE, LAYERS = 4, 64, 4
TEXTS = Batch(2 * PAIRS * SEQUENCE, causal=2 * PAIRS * SEQUENCE**2)
IDS = torch.arange(2 * PAIRS * SEQUENCE).view(2 * PAIRS, SEQUENCE) % 150 + 20
IDS[PAIRS:, :FEWEST_PROMPT_TOKENS] = IDS[:PAIRS, :FEWEST_PROMPT_TOKENS]
"""Texts of the greatest length, both of a pair with the fewest tokens in common."""


@pytest.fixture
def params(project: Path) -> Params:
    return load_params()


def small_model(params: Params, kind: str, **changes: Any) -> tuple[PeftModel, Role]:
    """A random model of four layers with an adapter that is trained, and what the planner takes it for."""
    inner = {"n_inner" if kind == "gpt2" else "intermediate_size": 448}
    save_model(small_config(kind, hidden_size=128, num_hidden_layers=LAYERS, **inner), Path("small"))
    changes = {"lora_targets": ATTENTION_LAYERS[kind]} | changes
    params = with_models(params, source="path", name="small", lora_rank=8, **changes)
    loading.hash_once.cache_clear()
    identity = {"source": "path", "name": "small", "content_sha256": content_hash(Path("small"))}
    records.write_json(layout.base_record("policy"), identity)
    model = attached(params, "policy", [POLICY], POLICY)
    for parameter in trainable_parameters(model):
        parameter.grad = torch.zeros_like(parameter)
    return model, find_role(params, "policy", 48)


def measure(model: PeftModel, call: Callable[[], object]) -> tuple[int, Counter[str], int]:
    """Bytes that a call takes, its kernels by who starts them, norms and dropout as one as on a GPU, and its FLOPs."""
    with as_on_a_gpu():
        with Memory(model) as memory, Kernels() as kernels:
            call()
        with FlopCounterMode(display=False) as flops:
            call()
    return memory.peak, kernels.started, flops.get_total_flops()


def count(kernels: list[Kernel], start: str) -> float:
    return sum(kernel.kernels for kernel in kernels if kernel.start == start)


def product_flops(kernels: list[Kernel]) -> float:
    """FLOPs but those of attention, which torch does not count on a CPU."""
    return sum(kernel.flops for kernel in kernels if kernel.kind == PRODUCT)


@pytest.mark.parametrize("texts", ["pairs", "checkpointed pairs", "single texts"])
@pytest.mark.parametrize("dropout", [0.1, 0.0])
@pytest.mark.parametrize(
    ("kind", "changes"),
    [
        ("qwen3", {"dtype": "mixed", "quantization": "nf4"}),
        ("qwen3", {"dtype": "mixed"}),
        ("qwen3", {"dtype": "float32", "quantization": "nf4"}),
        ("qwen3", {"dtype": "bfloat16"}),
        ("llama", {"dtype": "float32"}),
        ("llama", {"dtype": "mixed"}),
        ("gpt2", {"dtype": "float32"}),
        ("gpt2", {"dtype": "mixed"}),
        ("gpt2", {"dtype": "mixed", "quantization": "nf4"}),
        ("gpt2", {"dtype": "mixed", "lora_targets": ("c_attn", "attn.c_proj", "c_fc", "mlp.c_proj")}),
        ("qwen3", {"dtype": "mixed", "lora_targets": ("q_proj", "up_proj", "down_proj")}),
        ("qwen3", {"dtype": "mixed", "lora_targets": tuple(READS)[:7]}),
    ],
)
def test_a_training_step_takes_the_memory_the_kernels_and_the_flops_that_are_counted(
    params: Params, kind: str, changes: dict[str, Any], dropout: float, texts: str
) -> None:
    model, role = small_model(params, kind, lora_dropout=dropout, **changes)
    assert Memory(model).resident == role.weight_bytes + 2 * role.adapter_bytes
    base, batch, mask = model.train().get_base_model(), TEXTS, None
    if texts != "single texts":
        group_by_length(base)
        batch, mask = longest_pairs(PAIRS, SEQUENCE), torch.ones_like(IDS)
    if texts == "checkpointed pairs":
        model.activation_checkpointing_enable()
        model.enable_input_require_grads()

    def step() -> None:
        base.base_model(IDS, attention_mask=mask, use_cache=False).last_hidden_state.sum().backward()

    peak, kernels, flops = measure(model, step)
    modes = {"dropout": dropout > 0, "checkpointing": texts == "checkpointed pairs"}
    planned = passes.training_step(role, batch, **modes)
    tolerance = 0.07 if "lora_targets" in changes else 0.035  # the plan is the larger there
    assert passes.training_memory(role, batch, **modes) == pytest.approx(peak, rel=tolerance)
    if "quantization" not in changes:  # else products are bitsandbytes' own, by other kernels on a CPU
        assert product_flops(planned) == pytest.approx(flops, rel=0.002)
        if mask is not None:
            assert count(planned, RECORDED) == pytest.approx(kernels[RECORDED], rel=0.075)
        assert count(planned, BACKWARD) == pytest.approx(kernels[BACKWARD], rel=0.075)


@pytest.mark.parametrize("kind", ["qwen3", "llama", "gpt2"])
def test_a_pass_without_a_gradient_takes_what_is_counted(params: Params, kind: str) -> None:
    model, role = small_model(params, kind, dtype="mixed")
    with torch.no_grad():
        peak, kernels, flops = measure(model, lambda: hidden_states(model.get_base_model(), IDS))
    planned = passes.forward(role, TEXTS, adapted=True)
    assert product_flops(planned) == flops
    assert count(planned, PLAIN) == pytest.approx(kernels[PLAIN], abs=30)
    assert passes.reading_memory(role, TEXTS) == pytest.approx(peak, rel=0.03)


@pytest.mark.parametrize(("kind", "rows"), [("qwen3", 4), ("llama", 32), ("gpt2", 4)])
def test_a_drawn_token_takes_what_is_counted(params: Params, kind: str, rows: int) -> None:
    (model, role), dtype, cached = small_model(params, kind, dtype="mixed"), BLOCK_DTYPES["mixed"], 40
    ids, mask = torch.ones(rows, 1, dtype=torch.long), torch.ones(rows, cached, dtype=torch.long)
    mask[0, 0] = 0  # a prompt that is padded on the left

    def draw() -> None:
        model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)
        cache.crop(-1)

    cache, keys = DynamicCache(config=model.config), (rows, role.key_heads, cached - 1, role.head_width)
    for layer in range(LAYERS):
        cache.update(*torch.zeros(2, *keys, dtype=dtype), layer)
    with rounded_adapters(model, dtype), torch.no_grad():
        _, kernels, flops = measure(model, draw)
    planned = passes.decode(role, rows, cached, "truncated", adapted=True)
    assert product_flops(planned) == flops
    assert count(planned, PLAIN) - rows == pytest.approx(kernels[PLAIN], abs=25)

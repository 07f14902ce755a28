"""The models that stages compute with, beside what the planner counts of them: sizes, kernels, FLOPs and bytes."""

from __future__ import annotations

import dataclasses
import weakref
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import torch
from peft import PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoModelForCausalLM, DynamicCache, PreTrainedModel, Trainer

from benchmarks.launches import as_on_a_gpu, is_view
from pessimism.experiment.params import Params, load_params
from pessimism.models import loading, training
from pessimism.models.adapters import (
    DEFAULT,
    attach,
    fuse_adapters,
    lora_config,
    rounded_adapters,
    trainable_parameters,
)
from pessimism.models.compute.generation import sample_responses
from pessimism.models.compute.length_groups import group_by_length
from pessimism.models.compute.logprobs import hidden_states
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.precision import BLOCK_DTYPES, LOADED_DTYPES
from pessimism.models.training import batch_parts
from pessimism.offline.training import offline_hyperparameters
from pessimism.online.update import POLICY, REFERENCE
from pessimism.planning import passes, stages
from pessimism.planning.hardware import BACKWARD, PLAIN, PRODUCT, RECORDED, Kernel
from pessimism.planning.layer import READS, Batch
from pessimism.planning.role import Role, find_role
from pessimism.planning.rows import row_counts
from pessimism.planning.setting import FEWEST_PROMPT_TOKENS, Setting, longest_pairs
from pessimism.reward.bradley_terry import reward_hyperparameters
from pessimism.reward.ensemble import member_name
from support.pair_training import policy_trainer, reward_trainer
from support.random_models import save_random_adapter, small_config

MEMBERS = [member_name(0), member_name(1)]


def with_models(params: Params, **changes: Any) -> Params:
    roles = {role: dataclasses.replace(params.scale.model(role), **changes) for role in ("policy", "reward")}
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, **roles))


def as_planned(params: Params, quantization: str) -> Params:
    """Mixed precision, as the paper's scale."""
    return with_models(params, dtype="mixed", quantization=quantization)


def resident_tensors(model: torch.nn.Module) -> Iterable[torch.Tensor]:
    """What stays in memory: parameters with their gradients, and the scales of 4-bit weights."""
    for parameter in model.parameters():
        yield from (tensor for tensor in (parameter, parameter.grad) if tensor is not None)
    for module in model.modules():
        if isinstance(module, bitsandbytes.nn.Linear4bit):
            state = module.weight.quant_state
            yield from (state.absmax, state.code, state.offset, state.state2.absmax, state.state2.code)


def resident_bytes(model: torch.nn.Module) -> int:
    storages = [tensor.untyped_storage() for tensor in resident_tensors(model)]
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(("role", "load"), [("policy", load_policy_base), ("reward", load_reward_base)])
def test_the_planner_counts_the_parameters_and_bytes_of_a_loaded_base(
    referenced_world: Params,
    quantization: str,
    role: str,
    load: Callable[[Params], PreTrainedModel],
) -> None:
    params = as_planned(referenced_world, quantization)
    base, planned = load(params), find_role(params, role, train_pairs=48)
    assert planned.parameters == base.num_parameters()
    assert planned.weight_bytes == resident_bytes(base)


@pytest.mark.parametrize("scale", ["paper", "24gb", "laptop", "tiny"])
def test_values_are_those_that_the_stages_train_with(project: Path, scale: str) -> None:
    params = load_params(scale=scale)
    setting = Setting(params, row_counts(params))
    pairs, cell = setting.rows.train_pairs, params.dpo_cells()[0]
    for sizes, trained in ((setting.policy, setting.scale.dpo), (setting.reward, setting.scale.reward_training)):
        lora = lora_config(params.scale.model(sizes.name), sizes.architecture.hidden, pairs, "CAUSAL_LM")
        given = (pairs, sizes.parameters, lora, sizes.trainable)
        derive = {"policy": (offline_hyperparameters, cell, 1.0), "reward": (reward_hyperparameters, 0)}[sizes.name]
        chosen = dataclasses.asdict(derive[0](params, *derive[1:], *given)) | {"lora_alpha": lora.lora_alpha}
        values = stages.training_values(setting, sizes, trained)
        assert values == {name: value for name, value in chosen.items() if name not in ("beta", "seed")}
        batch, accumulation = values["batch_size"], values.get("accumulation", 1)
        part, _ = batch_parts(batch, accumulation, trained.micro_batch_size, pairs)
        assert stages.micro_batch_size(trained, batch, batch * accumulation) == part
        uneven = dataclasses.replace(trained, micro_batch_size=3)
        part, _ = batch_parts(batch, accumulation, 3, pairs)
        assert stages.micro_batch_size(uneven, batch, batch * accumulation) == part


def prepared(trainer: Trainer) -> PeftModel:
    training.prepare(trainer, "")
    return trainer.model


def attached(params: Params, role: str, names: Sequence[str], trainable: str | None) -> PeftModel:
    save_random_adapter(params, Path("adapter"), seed=1, role=role)
    base = {"policy": load_policy_base, "reward": load_reward_base}[role](params)
    return attach(base, dict.fromkeys(names, Path("adapter")), trainable)


@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize(
    ("role", "make", "names", "trainable"),
    [
        ("policy", lambda params, *_: prepared(policy_trainer(params)), [DEFAULT], DEFAULT),
        ("policy", attached, [POLICY, REFERENCE], POLICY),
        ("reward", lambda params, *_: prepared(reward_trainer(params)), [DEFAULT], DEFAULT),
        ("reward", attached, MEMBERS, None),
    ],
    ids=["DPO", "online", "reward training", "ensemble"],
)
def test_stages_compute_with_the_layers_and_adapters_that_the_planner_counts(
    referenced_world: Params,
    quantization: str,
    role: str,
    make: Callable[..., PeftModel],
    names: list[str],
    trainable: str | None,
) -> None:
    params = as_planned(referenced_world, quantization)
    model, planned = make(params, role, names, trainable), find_role(params, role, train_pairs=48)
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
    assert shapes == planned.architecture.linear
    assert {type(module) for path, module in modules.items() if path.endswith("norm")} == {torch.nn.RMSNorm}


class Measured(TorchDispatchMode):
    """Counts kernels by who starts them, and the most bytes that are alive at once beside ``resident`` tensors."""

    def __init__(self, resident: Iterable[torch.Tensor]) -> None:
        super().__init__()
        self.kernels: Counter[str] = Counter()
        self.live = self.peak = 0
        self.known: dict[int, object] = {tensor.untyped_storage()._cdata: None for tensor in resident}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if not is_view(func):
            by_autograd = BACKWARD if torch._C._current_autograd_node() is not None else PLAIN
            self.kernels[RECORDED if torch.is_grad_enabled() else by_autograd] += 1
        for tensor in tree_leaves(result):
            if isinstance(tensor, torch.Tensor):
                self._add(tensor.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key in self.known:
            return

        def forget(reference: object) -> None:
            del self.known[key]
            self.live -= size

        self.known[key] = weakref.ref(storage, forget)
        self.live += size
        self.peak = max(self.peak, self.live)


PAIRS, SEQUENCE, LAYERS = 4, 64, 4


@dataclasses.dataclass
class Small:
    """A random model of four layers with an adapter as the stages train it, and what the planner takes it for."""

    model: PeftModel
    role: Role
    base_bytes: int

    @classmethod
    def make(cls, params: Params, kind: str, **changes: Any) -> Small:
        config = small_config(kind, hidden_size=128, intermediate_size=448, num_hidden_layers=LAYERS)
        AutoModelForCausalLM.from_config(config).save_pretrained("small")
        params = with_models(params, source="path", name="small", lora_rank=8, **changes)
        chosen = params.scale.policy
        base = AutoModelForCausalLM.from_pretrained(
            "small",
            dtype=LOADED_DTYPES[chosen.dtype],
            quantization_config=loading.quantization_config(chosen),
            device_map={"": "cpu"},
        )
        loading.repeat_shared_heads()
        loading._keep_gradients_on_cpu(base)
        loading.unpack_into_compute_dtype(base)
        loading.set_precision(base, chosen)
        base_bytes = resident_bytes(base)
        model = get_peft_model(base.requires_grad_(False).eval(), lora_config(chosen, 128, 48, "CAUSAL_LM"))
        for parameter in trainable_parameters(model):
            parameter.data = parameter.data.float()
            parameter.grad = torch.zeros_like(parameter)
        fuse_adapters(model)
        return cls(model, find_role(params, "policy", 48), base_bytes)

    @property
    def ids(self) -> torch.Tensor:
        """Texts of the greatest length, both of a pair with the fewest tokens in common."""
        ids = torch.arange(2 * PAIRS * SEQUENCE).view(2 * PAIRS, SEQUENCE) % 150 + 20
        ids[PAIRS:, :FEWEST_PROMPT_TOKENS] = ids[:PAIRS, :FEWEST_PROMPT_TOKENS]
        return ids

    def measured(self, call: Callable[[], object]) -> tuple[Measured, int]:
        """Kernels and memory of a call, norms and dropout as one kernel as on a GPU, and its FLOPs."""
        with as_on_a_gpu():
            with Measured(resident_tensors(self.model)) as found:
                call()
            with FlopCounterMode(display=False) as flops:
                call()
        return found, flops.get_total_flops()

    def train(self, checkpointing: bool) -> Callable[[], None]:
        """A training step on pairs, but for the head."""
        self.model.train()
        if checkpointing:
            self.model.activation_checkpointing_enable()
            self.model.enable_input_require_grads()
        group_by_length(self.model.get_base_model())
        backbone, ids = self.model.get_base_model().base_model, self.ids
        return lambda: backbone(ids, attention_mask=torch.ones_like(ids)).last_hidden_state.sum().backward()


def count(kernels: list[Kernel], start: str) -> float:
    return sum(kernel.kernels for kernel in kernels if kernel.start == start)


def product_flops(kernels: list[Kernel]) -> float:
    """FLOPs but those of attention, which torch does not count on a CPU."""
    return sum(kernel.flops for kernel in kernels if kernel.kind == PRODUCT)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("dropout", [0.1, 0.0])
@pytest.mark.parametrize(
    ("kind", "dtype", "quantization"),
    [
        ("qwen3", "mixed", "nf4"),
        ("qwen3", "mixed", "none"),
        ("qwen3", "float32", "nf4"),
        ("qwen3", "bfloat16", "none"),
        ("llama", "float32", "none"),
        ("llama", "mixed", "none"),
    ],
)
def test_a_training_step_takes_the_memory_the_kernels_and_the_flops_that_are_counted(
    project: Path, params: Params, kind: str, dtype: str, quantization: str, dropout: float, checkpointing: bool
) -> None:
    small = Small.make(params, kind, dtype=dtype, quantization=quantization, lora_dropout=dropout)
    found, flops = small.measured(small.train(checkpointing))
    batch, modes = longest_pairs(PAIRS, SEQUENCE), {"dropout": dropout > 0, "checkpointing": checkpointing}
    planned = passes.training_step(small.role, batch, **modes)
    assert small.role.weight_bytes == small.base_bytes
    assert passes.training_memory(small.role, batch, **modes) == pytest.approx(found.peak, rel=0.035)
    if quantization == "none":  # else products are bitsandbytes' own, by other kernels on a CPU
        assert product_flops(planned) == pytest.approx(flops, rel=0.002)
        assert count(planned, RECORDED) == pytest.approx(found.kernels[RECORDED], rel=0.05)
        assert count(planned, BACKWARD) == pytest.approx(found.kernels[BACKWARD], rel=0.05)


@pytest.mark.parametrize("targets", [("q_proj", "up_proj", "down_proj"), tuple(READS)])
def test_adapters_on_other_layers_are_counted_too(project: Path, params: Params, targets: tuple[str, ...]) -> None:
    for dropout in (0.1, 0.0):
        small = Small.make(params, "qwen3", dtype="mixed", lora_targets=targets, lora_dropout=dropout)
        found, flops = small.measured(small.train(checkpointing=False))
        batch = longest_pairs(PAIRS, SEQUENCE)
        planned = passes.training_step(small.role, batch, dropout > 0, checkpointing=False)
        memory = passes.training_memory(small.role, batch, dropout > 0, checkpointing=False)
        assert memory == pytest.approx(found.peak, rel=0.04)
        assert product_flops(planned) == pytest.approx(flops, rel=0.002)


@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_a_step_on_single_texts_takes_what_is_counted(project: Path, params: Params, dropout: float) -> None:
    small = Small.make(params, "qwen3", dtype="bfloat16", lora_dropout=dropout)
    small.model.train()
    found, flops = small.measured(lambda: hidden_states(small.model.get_base_model(), small.ids).sum().backward())
    batch, modes = Batch(2 * PAIRS * SEQUENCE, causal=2 * PAIRS * SEQUENCE**2), (dropout > 0, False)
    assert product_flops(passes.training_step(small.role, batch, *modes)) == pytest.approx(flops, rel=0.002)
    assert passes.training_memory(small.role, batch, *modes) == pytest.approx(found.peak, rel=0.035)


@pytest.mark.parametrize("kind", ["qwen3", "llama"])
def test_a_pass_without_a_gradient_takes_what_is_counted(project: Path, params: Params, kind: str) -> None:
    small = Small.make(params, kind, dtype="mixed", lora_dropout=0.1)

    def call() -> None:
        with torch.no_grad():
            hidden_states(small.model.get_base_model(), small.ids)

    found, flops = small.measured(call)
    batch = Batch(2 * PAIRS * SEQUENCE, causal=2 * PAIRS * SEQUENCE**2)
    planned = passes.forward(small.role, batch, adapted=True)
    assert product_flops(planned) == flops
    assert count(planned, PLAIN) == pytest.approx(found.kernels[PLAIN], abs=25)
    assert passes.reading_memory(small.role, batch) == pytest.approx(found.peak, rel=0.03)


@pytest.mark.parametrize(("kind", "rows"), [("qwen3", 4), ("llama", 32)])
def test_a_drawn_token_takes_what_is_counted(project: Path, params: Params, kind: str, rows: int) -> None:
    small, cached = Small.make(params, kind, dtype="mixed"), 40
    model, sizes = small.model.eval(), small.role.architecture
    ids, mask = torch.ones(rows, 1, dtype=torch.long), torch.ones(rows, cached, dtype=torch.long)
    mask[0, 0] = 0  # a prompt that is padded on the left

    def filled() -> DynamicCache:
        cache = DynamicCache(config=model.config)
        for layer in range(LAYERS):
            keys = torch.zeros(rows, sizes.key_heads, cached - 1, sizes.head_width, dtype=BLOCK_DTYPES["mixed"])
            cache.update(keys, keys.clone(), layer)
        return cache

    caches = iter([filled(), filled()])

    def call() -> None:
        with torch.no_grad():
            cache = next(caches)
            model(input_ids=ids, attention_mask=mask, past_key_values=cache, use_cache=True, logits_to_keep=1)

    with rounded_adapters(model, BLOCK_DTYPES["mixed"]):
        found, flops = small.measured(call)
    planned = passes.decode(small.role, rows, cached, "truncated", adapted=True)
    assert product_flops(planned) == flops
    assert count(planned, PLAIN) - rows == pytest.approx(found.kernels[PLAIN], abs=25)


@pytest.fixture
def params(project: Path) -> Params:

    return load_params()


def test_responses_are_drawn_with_adapters_that_are_rounded_once(
    referenced_world: Params,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    params = as_planned(referenced_world, "none")
    model, seen = attached(params, "policy", [POLICY, REFERENCE], POLICY), set()
    generate = model.generate

    def dtypes() -> set[torch.dtype]:
        return {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name}

    def watched(**options: object) -> object:
        seen.update(dtypes())
        return generate(**options)

    monkeypatch.setattr(model, "generate", watched)
    sample_responses(model, load_tokenizer(params, "policy"), ["1 + 1 ="], params, [0])
    assert seen == {torch.bfloat16}
    assert dtypes() == {torch.float32}

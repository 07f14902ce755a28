"""Seconds of Python per kernel that a pass starts: what the planner assumes of launching, on this machine's CPU.

    python -m benchmarks.launches

A Qwen3 too narrow to compute anything, with the adapters and norms of the stages, decodes one token of 4 rows and
computes a training step of 2 rows. Kernels are counted as a GPU runs them, a norm and a dropout as one. Then the same
forward pass with 4-bit weights, as bitsandbytes computes it on a CPU: by other code than on a GPU.
"""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable
from typing import Any
from unittest import mock

import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, PeftModel, get_peft_model
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import DynamicCache, Qwen3Config, Qwen3ForCausalLM

from pessimism.models.adapters import fuse_adapters
from pessimism.models.precision import fuse_norms
from pessimism.planning.hardware import BACKWARD, PLAIN, RECORDED

LAYERS, ROWS, WARM, REPEATS = 12, 4, 20, 300
CONFIG = Qwen3Config(
    vocab_size=64,
    hidden_size=64,
    intermediate_size=64,
    num_hidden_layers=LAYERS,
    num_attention_heads=2,
    num_key_value_heads=1,
    head_dim=32,
    pad_token_id=0,
)


RESHAPED = torch.ops.aten._unsafe_view.default


def is_view(operation: Any) -> bool:
    """Whether what comes out shares memory with an argument that is not written to: nothing is computed then."""
    aliases = [result.alias_info for result in operation._schema.returns]
    return operation is RESHAPED or any(alias is not None and not alias.is_write for alias in aliases)


class Kernels(TorchDispatchMode):
    """Counts operations that compute, by what the planner says of who starts them."""

    def __init__(self) -> None:
        super().__init__()
        self.started: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if not is_view(func):
            by_autograd = BACKWARD if torch._C._current_autograd_node() is not None else PLAIN
            self.started[RECORDED if torch.is_grad_enabled() else by_autograd] += 1
        return func(*args, **(kwargs or {}))


def seconds(call: Callable[[], object]) -> float:
    """The least of many calls."""
    taken = []
    for _ in range(WARM + REPEATS):
        start = time.perf_counter()
        call()
        taken.append(time.perf_counter() - start)
    return min(taken[WARM:])


def as_on_a_gpu() -> contextlib.AbstractContextManager:
    """Norms and dropout as one operation each."""
    functional, stack = torch.nn.functional, contextlib.ExitStack()

    def norm(values: torch.Tensor, shape: Any, weight: torch.Tensor | None = None, eps: float = 1e-6) -> torch.Tensor:
        return functional.layer_norm(values, shape, weight, None, eps)

    def dropout(values: torch.Tensor, p: float, training: bool, inplace: bool = False) -> torch.Tensor:
        return torch.native_dropout(values, p, True)[0] if training and p else values

    stack.enter_context(mock.patch.object(functional, "rms_norm", norm))
    stack.enter_context(mock.patch.object(functional, "dropout", dropout))
    return stack


def with_adapters(base: Qwen3ForCausalLM) -> PeftModel:
    fuse_norms(base)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    lora = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.1, target_modules=targets, task_type="CAUSAL_LM")
    model = get_peft_model(base, lora)
    fuse_adapters(model)
    return model


def in_4_bits(base: Qwen3ForCausalLM) -> Qwen3ForCausalLM:
    """The same with the products of its layers in NF4."""
    for path, module in list(base.get_decoder().named_modules()):
        if isinstance(module, torch.nn.Linear):
            layer = Linear4bit(module.in_features, module.out_features, bias=False, compute_dtype=torch.float32)
            layer.weight = Params4bit(module.weight.data, requires_grad=False, quant_type="nf4")
            parent, _, name = path.rpartition(".")
            setattr(base.get_decoder().get_submodule(parent), name, layer.to("cpu"))
    return base


def main() -> None:
    torch.set_num_threads(1)
    bases = [Qwen3ForCausalLM(CONFIG).requires_grad_(False) for _ in range(2)]
    model, packed = with_adapters(bases[0]), with_adapters(in_4_bits(bases[1]))
    token, mask, text = torch.ones(ROWS, 1, dtype=torch.long), torch.ones(ROWS, 21), torch.ones(2, 6, dtype=torch.long)

    def filled() -> DynamicCache:
        cache = DynamicCache(config=CONFIG)
        for layer in range(LAYERS):
            cache.update(torch.zeros(ROWS, 1, 20, 32), torch.zeros(ROWS, 1, 20, 32), layer)
        return cache

    caches = iter([filled() for _ in range(WARM + REPEATS + 1)])

    def decode() -> None:
        with torch.inference_mode():
            model(input_ids=token, attention_mask=mask, past_key_values=next(caches), use_cache=True, logits_to_keep=1)

    def forward(computed: PeftModel = model) -> torch.Tensor:
        return computed.get_decoder()(input_ids=text, use_cache=False).last_hidden_state.sum()

    with as_on_a_gpu():
        model.eval()
        with Kernels() as kernels:
            decode()
        count = kernels.started[PLAIN]
        print(f"decoding: {count} kernels, {1e6 * seconds(decode) / count:.1f} microseconds each")
        model.train()
        with Kernels() as kernels:
            forward().backward()
        both, alone = seconds(lambda: forward().backward()), seconds(forward)
        packed.train()
        with_4_bits = seconds(lambda: forward(packed))
        with torch.no_grad():
            unrecorded = seconds(lambda: forward(packed)) - seconds(forward)
    ahead, back = kernels.started[RECORDED] + kernels.started[PLAIN], kernels.started[BACKWARD]
    print(f"training: {ahead} kernels, {1e6 * alone / ahead:.1f} microseconds each")
    print(f"autograd: {back} kernels, {1e6 * (both - alone) / back:.1f} microseconds each")
    products = sum(isinstance(module, Linear4bit) for module in packed.modules())
    recorded, unrecorded = (1e6 * more / products for more in (with_4_bits - alone, unrecorded))
    print(f"a 4-bit product: {recorded:.0f} microseconds more than another, {unrecorded:.0f} without gradients")


if __name__ == "__main__":
    main()

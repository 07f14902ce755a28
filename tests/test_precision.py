"""Mixed precision, fused norms and fused adapters: what computes in which dtype, and that results stay."""

from __future__ import annotations

import importlib
from functools import partial

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora import LoraLayer
from transformers import (
    AutoModelForCausalLM,
    FalconConfig,
    GPTNeoXConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
)

from pessimism.models.adapters import fuse_adapters, rounded_adapters, trainable_parameters
from pessimism.models.architecture import decoder_layers, linear_layers
from pessimism.models.compute.logprobs import token_logps
from pessimism.models.precision import PLAIN_NORMS, compute_blocks_in_bfloat16, fuse_norms, has_blocks
from support.random_models import ARCHITECTURES, small_config

IDS = torch.tensor([[5, 9, 17, 4, 8, 21, 6, 13], [7, 7, 30, 11, 5, 6, 9, 12]])
SCORED = torch.arange(8).expand(2, 8) > 2
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj"]


def random_model(architecture: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """Weights drawn in bfloat16, as published models have them, so that all dtypes hold the same numbers."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(small_config(architecture), dtype=torch.bfloat16).to(dtype)
    for name, parameter in model.named_parameters():
        if "norm" in name:
            parameter.data += 0.25 * torch.arange(len(parameter)).remainder(3).to(dtype)
    return model.requires_grad_(False).eval()


def with_adapters(model: PreTrainedModel, dropout: float = 0.0) -> PeftModel:
    """Two adapters with weights as in the middle of a training."""
    config = LoraConfig(r=8, lora_alpha=16, lora_dropout=dropout, target_modules=TARGETS, task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config, adapter_name="policy")
    adapted.add_adapter("reference", config)
    generator = torch.Generator().manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return adapted


# Norms


@pytest.mark.parametrize("name", PLAIN_NORMS)
def test_a_fused_norm_is_that_of_transformers(name: str) -> None:
    family = name.removesuffix("RMSNorm").lower()
    module = importlib.import_module(f"transformers.models.{family}.modeling_{family}")
    plain = torch.nn.ModuleDict({"norm": getattr(module, name)(96, eps=1e-5)})
    plain["norm"].weight.data.uniform_(0.5, 2.0, generator=torch.Generator().manual_seed(0))
    fused = torch.nn.ModuleDict({"norm": plain["norm"]})
    fuse_norms(fused)
    assert type(fused["norm"]) is torch.nn.RMSNorm and fused["norm"].weight is plain["norm"].weight
    values = torch.randn(4, 7, 96, generator=torch.Generator().manual_seed(1)) * 3
    found = [(model["norm"], values.clone().requires_grad_()) for model in (plain, fused)]
    outputs = [norm(x) for norm, x in found]
    assert torch.allclose(*outputs, atol=1e-6)
    for output in outputs:
        output.pow(3).sum().backward()
    assert torch.allclose(*(x.grad for _, x in found), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_norms_that_compute_something_else_are_left_alone(architecture: str) -> None:
    model = random_model(architecture)
    expected = token_logps(model, IDS, SCORED).logps_B_T
    fuse_norms(model)
    fused = [module for module in model.modules() if type(module) is torch.nn.RMSNorm]
    assert bool(fused) == (architecture in ("qwen3", "llama"))
    assert torch.allclose(token_logps(model, IDS, SCORED).logps_B_T, expected, atol=1e-5)


# Mixed precision


def watch_dtypes(model: PreTrainedModel) -> dict[str, set[torch.dtype]]:
    """Dtypes that reach the modules and the attention kernel from here on."""
    seen: dict[str, set[torch.dtype]] = {}

    def note(name: str, values: tuple) -> None:
        seen.setdefault(name, set()).update(value.dtype for value in values if isinstance(value, torch.Tensor))

    for path, module in model.named_modules():
        module.register_forward_pre_hook(partial(lambda name, _, args: note(name, args), path.rpartition(".")[2]))
    return seen


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_blocks_compute_in_bfloat16_and_what_is_summed_over_layers_in_float32(
    architecture: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = random_model(architecture)
    fuse_norms(model)
    compute_blocks_in_bfloat16(model)
    seen = watch_dtypes(model)
    attended: set[torch.dtype] = set()
    plain = torch.nn.functional.scaled_dot_product_attention

    def attention(*args: torch.Tensor, **options: object) -> torch.Tensor:
        attended.update(value.dtype for value in args)
        return plain(*args, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", attention)
    model(input_ids=IDS)
    if architecture != "gemma2":  # it caps its scores, which the kernel does not
        assert attended == {torch.bfloat16}
    layer, stack = decoder_layers(model)[0], "h" if architecture == "gpt2" else "layers"
    for name in (*linear_layers(layer), "ln_1" if architecture == "gpt2" else "input_layernorm"):
        assert seen[name.rpartition(".")[2]] == {torch.bfloat16}
    for name in ("1", "ln_f" if architecture == "gpt2" else "norm", "lm_head"):  # layer 1 reads the residual stream
        assert seen[name] == {torch.float32}
    dtypes = {path: parameter.dtype for path, parameter in model.named_parameters()}
    inside = {dtype for path, dtype in dtypes.items() if f".{stack}." in path}
    outside = {dtype for path, dtype in dtypes.items() if f".{stack}." not in path}
    assert (inside, outside) == ({torch.bfloat16}, {torch.float32})


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_rows_padded_on_the_left_are_computed_as_alone(architecture: str, eager: bool) -> None:
    """A mask of eager attention holds the lowest float32 number, which would round to minus infinity."""
    model = random_model(architecture)
    if eager:
        model.set_attn_implementation("eager")
    fuse_norms(model)
    compute_blocks_in_bfloat16(model)
    padded = torch.cat([torch.zeros(2, 3, dtype=torch.long), IDS], dim=1)
    mask = torch.tensor([[0, 0, 0] + [1] * 8, [1] * 11])
    found = model(input_ids=padded, attention_mask=mask, position_ids=(mask.cumsum(dim=1) - 1).clamp(min=0)).logits
    assert torch.allclose(found[0, 3:], model(input_ids=IDS[:1]).logits[0], atol=0.02)


@pytest.mark.parametrize("kind", [FalconConfig, GPTNeoXConfig, OPTConfig])
def test_layers_that_are_not_made_of_blocks_are_seen(kind: type[PreTrainedConfig]) -> None:
    with torch.device("meta"):
        assert not has_blocks(AutoModelForCausalLM.from_config(kind(num_hidden_layers=1)))
        assert has_blocks(AutoModelForCausalLM.from_config(small_config("gemma3")))


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_mixed_precision_changes_log_probs_by_rounding_alone(architecture: str) -> None:
    model = random_model(architecture)
    exact = token_logps(model, IDS, SCORED).logps_B_T
    compute_blocks_in_bfloat16(model)
    error = (token_logps(model, IDS, SCORED).logps_B_T - exact).abs().max()
    assert 0 < error < 0.01


# Adapters


def outputs_and_gradients(model: PeftModel, seed: int) -> tuple[torch.Tensor, list[torch.Tensor]]:
    torch.manual_seed(seed)
    logits = model(input_ids=IDS).logits
    logits.square().mean().backward()
    gradients = [parameter.grad for parameter in trainable_parameters(model)]
    model.zero_grad()
    return logits.detach(), gradients


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("adapter", ["policy", "reference"])
def test_fused_adapters_are_pefts(adapter: str, dropout: float) -> None:
    model = with_adapters(random_model("qwen3"), dropout).train()
    model.set_adapter(adapter)
    plain, plain_gradients = outputs_and_gradients(model, seed=3)
    fuse_adapters(model)
    fused, fused_gradients = outputs_and_gradients(model, seed=3)
    assert torch.allclose(fused, plain, atol=1e-5)
    assert all(
        torch.allclose(*pair, rtol=1e-3, atol=1e-6) for pair in zip(fused_gradients, plain_gradients, strict=True)
    )
    assert min(gradient.abs().max() for gradient in plain_gradients) > 1e-5
    with model.disable_adapter():
        assert torch.equal(model(input_ids=IDS).logits, random_model("qwen3")(input_ids=IDS).logits)


def test_adapters_keep_float32_weights_and_follow_bfloat16_blocks() -> None:
    base = random_model("qwen3")
    compute_blocks_in_bfloat16(base)
    model = with_adapters(base).train()
    fuse_adapters(model)
    seen: set[torch.dtype] = set()
    for module in model.modules():
        if isinstance(module, LoraLayer):
            module.lora_dropout["policy"].register_forward_hook(lambda _, args, output: seen.add(output.dtype))
            module.register_forward_hook(lambda _, args, output: seen.add(output.dtype))
    _, gradients = outputs_and_gradients(model, seed=3)
    assert seen == {torch.bfloat16}
    assert {parameter.dtype for parameter in trainable_parameters(model)} == {torch.float32}
    assert {gradient.dtype for gradient in gradients} == {torch.float32}
    _, exact = outputs_and_gradients(with_adapters(random_model("qwen3")).train(), seed=3)
    for gradient, expected in zip(gradients, exact, strict=True):
        assert 0 < (gradient - expected).norm() < 0.05 * expected.norm()


def test_other_kinds_of_lora_are_left_to_peft() -> None:
    config = LoraConfig(r=8, use_dora=True, target_modules=TARGETS, task_type="CAUSAL_LM")
    model = get_peft_model(random_model("qwen3"), config)
    fuse_adapters(model)
    assert all("forward" not in vars(module) for module in model.modules() if isinstance(module, LoraLayer))


def test_weights_rounded_once_give_what_weights_rounded_in_every_call_give() -> None:
    base = random_model("qwen3")
    compute_blocks_in_bfloat16(base)
    model = with_adapters(base).eval()
    fuse_adapters(model)
    before = {name: parameter.data.clone() for name, parameter in model.named_parameters()}
    with torch.no_grad():
        expected = model(input_ids=IDS).logits
        with rounded_adapters(model, torch.bfloat16):
            dtypes = {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name}
            found = model(input_ids=IDS).logits
    assert dtypes == {torch.bfloat16}
    assert torch.equal(found, expected)
    assert all(torch.equal(parameter, before[name]) for name, parameter in model.named_parameters())


def test_weights_come_back_where_rounding_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    model = with_adapters(random_model("qwen3"))
    calls: list[int] = []
    plain = torch.Tensor.to

    def full(tensor: torch.Tensor, *args: object) -> torch.Tensor:
        calls.append(1)
        if len(calls) == 5:
            raise torch.OutOfMemoryError("no memory")
        return plain(tensor, *args)

    with monkeypatch.context() as patch, pytest.raises(torch.OutOfMemoryError):
        patch.setattr(torch.Tensor, "to", full)
        with rounded_adapters(model, torch.bfloat16):
            pass
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}

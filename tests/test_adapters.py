"""Adapters: what is trainable, what switching changes and what it must not, what is written to disk."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel, TaskType, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, Qwen3Config

from pessimism.errors import SourceError
from pessimism.experiment import layout
from pessimism.experiment.params import ModelParams, Params, load_params
from pessimism.models import adapters
from pessimism.models.adapters import attach, lora_config, save_adapter, trainable_parameters, use_adapter
from pessimism.models.compute.generation import sample_responses
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from support.random_models import save_random_adapter

IDS = torch.tensor([[5, 9, 11, 7, 8]])


@pytest.fixture
def two_adapters(tiny_world: Params) -> PeftModel:
    """A base with ``policy`` (trainable and active) and ``reference``."""
    for name, seed in (("policy", 1), ("reference", 2)):
        save_random_adapter(tiny_world, Path("adapters") / name, seed)
    directories = {name: Path("adapters") / name for name in ("reference", "policy")}
    return attach(load_policy_base(tiny_world), directories, trainable="policy")


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


def gradient_names(model: torch.nn.Module) -> list[str]:
    return [name for name, parameter in model.named_parameters() if parameter.requires_grad]


def test_only_the_trainable_adapter_has_gradients(two_adapters: PeftModel) -> None:
    names = gradient_names(two_adapters)
    assert len(names) == 2 * 4 * 2  # layers x projections x (A, B)
    assert all(".policy." in name for name in names)
    assert not two_adapters.training


def test_without_a_trainable_adapter_nothing_has_gradients(tiny_world: Params) -> None:
    save_random_adapter(tiny_world, Path("a"), 1)
    model = attach(load_policy_base(tiny_world), {"a": Path("a"), "b": Path("a")}, trainable=None)
    assert gradient_names(model) == []
    assert adapters.active_adapter(model) == "a"


def test_switching_changes_the_output_and_no_gradient_flag(two_adapters: PeftModel, tiny_world: Params) -> None:
    flags = gradient_names(two_adapters)
    policy, base = logits(two_adapters), logits(load_policy_base(tiny_world))
    with use_adapter(two_adapters, "reference"):
        reference = logits(two_adapters)
        assert gradient_names(two_adapters) == flags
        with use_adapter(two_adapters, None):
            assert torch.equal(logits(two_adapters), base)
            assert gradient_names(two_adapters) == flags
            with use_adapter(two_adapters, "policy"):
                assert torch.equal(logits(two_adapters), policy)
            assert torch.equal(logits(two_adapters), base)
        assert torch.equal(logits(two_adapters), reference)
    assert torch.equal(logits(two_adapters), policy)
    assert gradient_names(two_adapters) == flags
    assert not torch.allclose(policy, reference)
    assert not torch.allclose(policy, base)


def test_an_error_inside_restores_the_adapter(two_adapters: PeftModel) -> None:
    with pytest.raises(RuntimeError, match="inside"), use_adapter(two_adapters, None):
        raise RuntimeError("inside")
    assert adapters.active_adapter(two_adapters) == "policy"
    assert gradient_names(two_adapters)


def test_an_unknown_adapter_is_refused_and_nothing_is_switched(two_adapters: PeftModel) -> None:
    # PEFT's layers leave out an adapter that they do not have: the base would answer in its name.
    expected = logits(two_adapters)
    refused = pytest.raises(ValueError, match=r"no adapter 'polciy'; expected one of \['policy', 'reference'\]")
    with refused, use_adapter(two_adapters, "polciy"):
        pass
    assert adapters.active_adapter(two_adapters) == "policy"
    assert torch.equal(logits(two_adapters), expected)


def test_switching_between_forward_and_backward_leaves_the_gradients(two_adapters: PeftModel) -> None:
    def gradients(switch: bool) -> list[torch.Tensor]:
        two_adapters.zero_grad()
        loss = two_adapters(input_ids=IDS, labels=IDS).loss
        if switch:
            with use_adapter(two_adapters, "reference"):
                logits(two_adapters)
        loss.backward()
        return [parameter.grad.clone() for parameter in trainable_parameters(two_adapters)]

    plain, switched = gradients(False), gradients(True)
    assert all(torch.equal(a, b) for a, b in zip(plain, switched, strict=True))
    assert all(gradient.abs().sum() > 0 for gradient in plain)


def test_why_pefts_own_switching_is_not_used(two_adapters: PeftModel) -> None:
    two_adapters.set_adapter("reference", inference_mode=True)
    two_adapters.set_adapter("policy", inference_mode=True)
    assert gradient_names(two_adapters) == []


def test_responses_are_drawn_with_adapters_that_are_rounded_once(
    two_adapters: PeftModel, tiny_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = replace(tiny_world.scale.policy, dtype="mixed")
    params = replace(tiny_world, scale=replace(tiny_world.scale, policy=policy))
    directories = {name: Path("adapters") / name for name in ("reference", "policy")}
    model, seen = attach(load_policy_base(params), directories, trainable="policy"), []
    generate = model.generate

    def dtypes() -> set[torch.dtype]:
        return {parameter.dtype for name, parameter in model.named_parameters() if "lora_" in name}

    def watched(**options: object) -> object:
        seen.append(dtypes())
        return generate(**options)

    monkeypatch.setattr(model, "generate", watched)
    sample_responses(model, load_tokenizer(params, "policy"), ["1 + 1 ="], params, [0])
    assert seen == [{torch.bfloat16}]
    assert dtypes() == {torch.float32}


def test_heads_switch_with_their_adapters(tiny_world: Params) -> None:
    # Two names of which one begins with the other.
    directories = {name: Path(name) for name in ("member-1", "member-10")}
    for seed, directory in enumerate(directories.values()):
        save_random_adapter(tiny_world, directory, seed, role="reward")
    together = attach(load_reward_base(tiny_world), directories, trainable=None)
    for name, directory in directories.items():
        alone = attach(load_reward_base(tiny_world), {name: directory}, trainable=None)
        with use_adapter(together, name):
            assert torch.equal(logits(together), logits(alone))
            assert gradient_names(together) == []
    with use_adapter(together, None):
        assert torch.equal(logits(together), torch.zeros(1, 1))


def test_what_is_written_depends_on_weights_and_configuration_alone(tiny_world: Params) -> None:
    for directory in ("first", "second"):
        save_random_adapter(tiny_world, Path(directory), 3, role="reward")
    files = sorted(path.name for path in Path("first").iterdir())
    assert files == ["adapter_config.json", "adapter_model.safetensors"]
    for name in files:
        assert (Path("first") / name).read_bytes() == (Path("second") / name).read_bytes()
    config = json.loads((Path("first") / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] is None
    # PEFT keeps these in a set, whose order differs from process to process.
    assert config["target_modules"] == ["k_proj", "o_proj", "q_proj", "v_proj"]


def test_a_directory_without_an_adapter_is_refused_before_any_hub_is_asked(tiny_world: Params) -> None:
    with pytest.raises(SourceError, match="found no adapter_config.json in nowhere"):
        attach(load_policy_base(tiny_world), {"a": Path("nowhere")}, trainable=None)


def test_lora_config_follows_the_scale_file_and_else_the_formulas(tiny_world: Params) -> None:
    policy = tiny_world.scale.policy
    given = lora_config(policy, 2048, 48_504, "CAUSAL_LM")
    assert (given.r, given.lora_alpha, given.lora_dropout) == (4, 8, 0.0)
    derived = lora_config(
        ModelParams(**vars(policy) | {"lora_rank": None, "lora_dropout": None}), 2048, 48_504, "SEQ_CLS"
    )
    assert (derived.r, derived.lora_alpha, derived.lora_dropout) == (32, 64, 0.1)
    assert (derived.bias, derived.task_type, derived.use_rslora) == ("none", TaskType.SEQ_CLS, False)


@pytest.mark.parametrize(
    ("kind", "task", "heads", "shape", "published"),
    [
        (AutoModelForCausalLM, "CAUSAL_LM", None, (5120, 40, 40, 17408), 83_886_080),
        (AutoModelForSequenceClassification, "SEQ_CLS", ["score"], (2048, 28, 16, 6144), 12_847_104),
    ],
)
def test_trainable_parameters_of_the_papers_models(kind, task, heads, shape, published: int, checkout: Path) -> None:
    hidden_size, layers, attention_heads, intermediate_size = shape
    config = Qwen3Config(
        hidden_size=hidden_size,
        num_hidden_layers=layers,
        num_attention_heads=attention_heads,
        num_key_value_heads=8,
        head_dim=128,
        intermediate_size=intermediate_size,
        vocab_size=151_936,
        num_labels=1,
    )
    params = load_params(checkout).scale.policy
    with torch.device("meta"):
        base = kind.from_config(config).requires_grad_(False)
        lora = lora_config(params, hidden_size, 48_504, task, heads)
        counted = adapters.count_trainable(base, lora)
        model = get_peft_model(base, lora)
    assert counted == published
    assert sum(parameter.numel() for parameter in trainable_parameters(model)) == published


def test_a_target_that_matches_nothing_is_refused(tiny_world: Params) -> None:
    params = ModelParams(**vars(tiny_world.scale.policy) | {"lora_targets": ("q_proj", "query")})
    with pytest.raises(SourceError, match=r"no linear layers called \['query'\]"):
        adapters.count_trainable(load_policy_base(tiny_world), lora_config(params, 32, 100, "CAUSAL_LM"))


def test_saved_and_loaded_adapter_is_the_one_that_was_trained(two_adapters: PeftModel, tiny_world: Params) -> None:
    with torch.no_grad():
        for parameter in trainable_parameters(two_adapters):
            parameter += 0.01
    save_adapter(two_adapters, "policy", layout.MODELS / "saved")
    loaded = attach(load_policy_base(tiny_world), {"again": layout.MODELS / "saved"}, trainable=None)
    assert torch.equal(logits(loaded), logits(two_adapters))

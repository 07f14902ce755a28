"""4 bits on a CPU, end to end, for every architecture: train, sample, save, load again, score."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from bitsandbytes.nn import Linear4bit, Params4bit
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForSequenceClassification,
    PreTrainedModel,
    Trainer,
)

from pessimism.data.prompts import encode_reward_text
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, RewardCell
from pessimism.experiment.params import Params
from pessimism.models import loading
from pessimism.models.adapters import DEFAULT, attach, lora_config, save_adapter, trainable_parameters
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.models.compute.logprobs import pad_pairs, response_logps
from pessimism.models.resolving import record_base
from pessimism.offline.reference import dpo_reference
from pessimism.offline.training import ReferencedPairs, train_offline
from pessimism.reward import bradley_terry
from pessimism.reward.ensemble import RewardEnsemble
from support.random_models import ARCHITECTURES, ATTENTION_LAYERS, save_model, small_config

CELL = DpoCell("p50", 0)
MODEL = Path("model")
PROMPTS = ["Mia had 5 apples.", "Tom had 3 boxes with 4 pens each. How many pens does he have now?"]
LAYERS = {"gpt2": 2 * 4}  # linear layers of two blocks; of all others: 2 * 7


@pytest.fixture(params=[*((name, "float32") for name in ARCHITECTURES), ("qwen3", "mixed")], ids="-".join)
def world(request: pytest.FixtureRequest, tiny_world: Params) -> Params:
    """The tiny world with a random base of the architecture in 4 bits, recorded as prepare_base does."""
    architecture, dtype = request.param
    save_model(small_config(architecture), MODEL)
    local = {"source": "path", "name": str(MODEL), "dtype": dtype, "quantization": "nf4", "lora_dropout": 0.1}
    local["lora_targets"] = ATTENTION_LAYERS[architecture]
    scale = tiny_world.scale
    scale = dataclasses.replace(
        scale,
        policy=dataclasses.replace(scale.policy, **local),
        reward=dataclasses.replace(scale.reward, **local),
        dpo=dataclasses.replace(scale.dpo, gradient_checkpointing=True),
        reward_training=dataclasses.replace(scale.reward_training, gradient_checkpointing=True),
    )
    loading.hash_once.cache_clear()
    params = dataclasses.replace(tiny_world, scale=scale)
    for role in ("policy", "reward"):
        record_base(params, role)
    return params


def sample(model: PreTrainedModel, params: Params) -> Rollouts:
    return sample_responses(model, loading.load_tokenizer(params, "policy"), PROMPTS, params, seeds=[7, 8])


def weights(model: PreTrainedModel, skip: Sequence[str] = ()) -> dict[str, torch.Tensor]:
    """Copies of every tensor that makes the base: packed 4-bit weights, their scales, and what is not quantised."""
    return {
        name.replace(".base_layer", ""): tensor.clone()
        for name, tensor in model.state_dict().items()
        if not any(part in name for part in ("lora_", *skip))
    }


def check_trained(model: PeftModel, start: dict[str, torch.Tensor], heads: int = 0) -> None:
    """Every trainable tensor is float32 and was changed almost everywhere."""
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert len(trained) == 2 * len(model.peft_config[DEFAULT].target_modules) * 2 + heads
    for name, parameter in trained.items():
        assert parameter.dtype == torch.float32, name
        assert (parameter.detach() != start[name]).float().mean() > 0.9, name


def check_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    layers = LAYERS.get("gpt2" if any("c_attn" in name for name in found) else "", 2 * 7)
    assert sum("absmax" in name for name in found) == 2 * layers, "the weights are not in 4 bits"
    assert all(torch.equal(tensor, expected[name]) for name, tensor in found.items())


@pytest.fixture
def starts(monkeypatch: pytest.MonkeyPatch) -> dict[str, torch.Tensor]:
    """Filled with what a trainer is about to train, when it starts."""
    found: dict[str, torch.Tensor] = {}
    train = Trainer.train

    def noting(trainer: Trainer, **options: object) -> object:
        found.update({name: parameter.detach().clone() for name, parameter in trainer.model.named_parameters()})
        return train(trainer, **options)

    monkeypatch.setattr(Trainer, "train", noting)
    return found


def referenced(params: Params, base: PreTrainedModel, split: str) -> ReferencedPairs:
    tokenizer, pairs = loading.load_tokenizer(params, "policy"), records.read_table(layout.preferences(split))
    return ReferencedPairs.of(dpo_reference(base, tokenizer, {split: pairs}, params), split)


def train_policy(params: Params, base: PreTrainedModel) -> tuple[PeftModel, dict[str, Any]]:
    train, validation = referenced(params, base, "train"), referenced(params, base, "val")
    tokenizer = loading.load_tokenizer(params, "policy")
    model, record = train_offline(params, CELL, 0.7, base, tokenizer, train, validation, Path("out"))
    save_adapter(model, DEFAULT, layout.dpo_adapter(CELL))
    return model, record


def train_member(params: Params, cell: RewardCell, base: PreTrainedModel) -> PeftModel:
    tokenizer, pairs = loading.load_tokenizer(params, "reward"), records.read_table(layout.preferences("train"))
    model, _ = bradley_terry.train_member(params, cell, base, tokenizer, pairs, Path("out"))
    save_adapter(model, DEFAULT, layout.reward_member(cell))
    return model


def test_linear_layers_are_quantised_and_heads_norms_and_embeddings_are_not(world: Params) -> None:
    policy, reward = loading.load_policy_base(world), loading.load_reward_base(world)
    for model, head in ((policy, policy.lm_head), (reward, reward.score)):
        layers = [module for module in model.modules() if isinstance(module, Linear4bit)]
        assert len(layers) == LAYERS.get(model.config.model_type, 2 * 7)
        assert {layer.weight.quant_type for layer in layers} == {"nf4"}
        assert {layer.compute_dtype for layer in layers} == {torch.bfloat16}
        assert all(layer.weight.quant_state.nested for layer in layers)
        plain = [parameter for parameter in model.parameters() if not isinstance(parameter, Params4bit)]
        blocks = {torch.bfloat16} if world.scale.policy.dtype == "mixed" else set()  # norms of queries and keys
        assert {parameter.dtype for parameter in plain} == {torch.float32} | blocks
        assert any(parameter is head.weight for parameter in plain)


def test_a_policy_is_trained_and_loaded_again(world: Params, starts: dict[str, torch.Tensor]) -> None:
    base, validation = loading.load_policy_base(world), records.read_table(layout.preferences("val"))
    before, tokenizer = weights(base), loading.load_tokenizer(world, "policy")
    model, record = train_policy(world, base)
    assert record["losses"][0] == pytest.approx(math.log(2), abs=1e-3)
    check_trained(model, starts)
    check_same(weights(model.get_base_model()), before)

    fresh = attach(loading.load_policy_base(world), {"policy": layout.dpo_adapter(CELL)}, trainable=None)
    trained, again, untrained = (
        dpo_reference(each, tokenizer, {"val": validation}, world)["chosen_logps"].to_numpy()
        for each in (model, fresh, loading.load_policy_base(world))
    )
    assert np.array_equal(again, trained)
    moved = np.abs(again - untrained)
    assert moved.min() > 0 and np.median(moved) > 0.1  # one response may by chance stay nearly as likely as it was
    assert sample(fresh, world) == sample(model, world)


def test_reward_members_are_trained_and_loaded_again(world: Params, starts: dict[str, torch.Tensor]) -> None:
    responses = [" 5+3=8", "####"]
    expected = []
    for member in (0, 1):
        base = loading.load_reward_base(world)
        before = weights(base, skip=["score"])
        model = train_member(world, RewardCell(0, member), base)
        check_trained(model, starts, heads=1)
        check_same(weights(model.get_base_model(), skip=["score"]), before)
        expected.append(scores(model, world, responses))

    ensemble = RewardEnsemble.load_raw(dataclasses.replace(world, ensemble_members=(0, 1)), 0)
    heads = ensemble.model.get_base_model().score.modules_to_save
    assert sorted(heads) == ["member-0", "member-1"]
    assert all(type(head) is loading.Float32Linear and head.weight.dtype == torch.float32 for head in heads.values())
    alone = dataclasses.replace(ensemble, token_budget=1)
    assert alone.score(PROMPTS, responses) == pytest.approx(np.array(expected), abs=1e-4)
    assert not np.allclose(*expected, atol=1e-3)


def scores(model: PeftModel, params: Params, responses: Sequence[str]) -> list[float]:
    """Scores of PROMPTS with their responses, one at a time."""
    tokenizer, found = loading.load_tokenizer(params, "reward"), []
    for prompt, response in zip(PROMPTS, responses, strict=True):
        ids = encode_reward_text(tokenizer, prompt, response, params.scale.lengths)
        with torch.no_grad():
            found.append(model(input_ids=torch.tensor([ids])).logits.item())
    return found


@pytest.mark.parametrize("role", ["policy", "reward"])
def test_gradients_are_the_same_after_a_pass_in_eval_mode(world: Params, role: str) -> None:
    """On a CPU with AVX512-BF16, bitsandbytes repacks weights in eval mode for a kernel without a backward."""
    model = get_peft_model(*with_adapter(world, role))
    torch.manual_seed(0)
    for parameter in trainable_parameters(model):
        torch.nn.init.normal_(parameter, std=0.1)

    def gradients(train: bool) -> torch.Tensor:
        model.zero_grad()
        model.train(train)(input_ids=torch.tensor([[5, 6, 7, 8, 9]])).logits.square().sum().backward()
        return torch.cat([parameter.grad.flatten() for parameter in trainable_parameters(model)])

    expected = gradients(train=False)
    assert all(parameter.grad.abs().sum() > 0 for parameter in trainable_parameters(model))
    if role == "policy":
        sample(model, world)
    else:
        with torch.no_grad():
            model.eval()(input_ids=torch.tensor([[5, 6, 7]]))
    assert torch.equal(gradients(train=False), expected)
    assert torch.equal(gradients(train=True), expected), "the adapters of this test have no dropout"


def with_adapter(params: Params, role: str) -> tuple[PreTrainedModel, LoraConfig]:
    chosen = dataclasses.replace(params.scale.model(role), lora_dropout=0.0)
    if role == "policy":
        return loading.load_policy_base(params), lora_config(chosen, 64, 100, "CAUSAL_LM")
    return loading.load_reward_base(params), lora_config(chosen, 64, 100, "SEQ_CLS", ["score"])


def test_rows_of_a_batch_do_not_depend_on_each_other(world: Params) -> None:
    """Padding, sliding windows and 4-bit kernels leave a row's log-probabilities as they are when it is alone."""
    model = loading.load_policy_base(world)
    prompts, responses = [[5, 6, 7], list(range(8, 60))], [list(range(20, 70)), [7, 8, 9]]

    def sums(rows: Sequence[int]) -> torch.Tensor:
        batch = pad_pairs([prompts[row] for row in rows], [responses[row] for row in rows], 0, torch.device("cpu"))
        with torch.no_grad():
            return response_logps(model, batch).sums

    alone = torch.cat([sums([0]), sums([1])])
    assert sums([0, 1]) == pytest.approx(alone, abs=1e-2)


def test_recorded_parameters_are_those_before_quantisation(world: Params) -> None:
    """Two weights share a byte; the batch formula (App. C) needs the number of weights."""
    config = AutoConfig.from_pretrained(MODEL)
    for role, kind in (("policy", AutoModelForCausalLM), ("reward", AutoModelForSequenceClassification)):
        config.num_labels = 1
        with torch.device("meta"):
            plain = kind.from_config(config)
        assert records.read_json(layout.base_record(role))["parameters"] == plain.num_parameters()
        base = loading.load_policy_base(world) if role == "policy" else loading.load_reward_base(world)
        assert sum(parameter.numel() for parameter in base.parameters()) < plain.num_parameters()


def test_a_first_loss_that_is_not_ln_2_is_refused(world: Params) -> None:
    base = loading.load_policy_base(world)
    train = referenced(world, base, "train")
    wrong = dataclasses.replace(train, chosen_logps=train.chosen_logps + 1)
    with pytest.raises(DataError, match="first loss is"):
        train_offline(world, CELL, 0.7, base, loading.load_tokenizer(world, "policy"), wrong, train, Path("out"))


def test_unpacking_into_the_compute_dtype_changes_no_bit(world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = torch.arange(5, 45).reshape(2, 20)
    gradients, unpacked = [], []
    for plain in (False, True):
        if plain:
            monkeypatch.setattr(loading, "unpack_into_compute_dtype", lambda model: None)
        torch.manual_seed(0)
        model = get_peft_model(*with_adapter(world, "policy"))
        for parameter in trainable_parameters(model):
            parameter.data.normal_(std=0.1)
        unpacked.append({layer.weight.quant_state.dtype for layer in model.modules() if isinstance(layer, Linear4bit)})
        model.train()
        torch.manual_seed(1)
        model(input_ids=ids).logits.square().mean().backward()
        gradients.append([parameter.grad for parameter in trainable_parameters(model)])
    assert unpacked == [{torch.bfloat16}, {torch.float32}]
    for ours, theirs in zip(*gradients, strict=True):
        assert theirs.abs().max() > 0 and torch.equal(ours, theirs)

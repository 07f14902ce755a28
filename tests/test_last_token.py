"""The last layer at the token that is read: the scores of the plain pass, with less work."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from transformers import (
    AutoModelForSequenceClassification,
    BloomConfig,
    FalconConfig,
    GPTBigCodeConfig,
    GPTJConfig,
    GPTNeoXConfig,
    MistralConfig,
    Phi3Config,
    PreTrainedConfig,
    PreTrainedModel,
    Qwen2Config,
)

from pessimism.models.architecture import matching
from pessimism.models.compute.last_token import last_layer_where_read
from support.random_models import ARCHITECTURES, SIZE, small_config

OTHERS: dict[str, Callable[..., PreTrainedConfig]] = {
    "qwen2": Qwen2Config,
    "mistral": MistralConfig,
    "phi3": Phi3Config,
    "gpt_neox": GPTNeoXConfig,
    "gpt_bigcode": GPTBigCodeConfig,
    "gptj": partial(GPTJConfig, rotary_dim=16),
    "bloom": BloomConfig,
    "falcon": lambda head_dim, **size: FalconConfig(**size),
}
PAD = 0


def classifier(architecture: str) -> PreTrainedModel:
    config = small_config(architecture) if architecture in ARCHITECTURES else OTHERS[architecture](**SIZE)
    config.num_labels, config.pad_token_id = 1, PAD
    torch.manual_seed(0)
    model = AutoModelForSequenceClassification.from_config(config).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape)  # initial weights hardly tell tokens apart
    return model


def batch() -> torch.Tensor:
    """Rows of different lengths; the second ends with the padding's own token, before which it is read."""
    ids = torch.randint(1, 100, (4, 40), generator=torch.Generator().manual_seed(1))
    for row, length in enumerate((40, 33, 17, 1)):
        ids[row, length:] = PAD
    ids[1, 32] = PAD
    return ids


@pytest.mark.parametrize("architecture", [*ARCHITECTURES, *OTHERS])
def test_scores_are_those_of_the_plain_pass(architecture: str) -> None:
    model, ids = classifier(architecture), batch()
    with torch.no_grad():
        expected = model(input_ids=ids, use_cache=False).logits
        with last_layer_where_read(model, ids):
            found = model(input_ids=ids, use_cache=False).logits
        again = model(input_ids=ids, use_cache=False).logits
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    assert torch.equal(again, expected), "outside, the model is as it was"


@pytest.mark.parametrize(
    ("architecture", "narrow"),
    [
        ("qwen3", ["mlp", "self_attn.o_proj"]),
        ("gpt2", ["mlp", "attn.c_proj"]),
        ("gpt_neox", ["mlp"]),
    ],
)
def test_what_follows_the_last_attention_sees_one_token_of_each_row(architecture: str, narrow: list[str]) -> None:
    model, ids, seen = classifier(architecture), batch(), {}
    for path, module in model.named_modules():
        if matching(path, narrow):
            module.register_forward_hook(lambda _, __, out, path=path: seen.update({path: out.shape[1]}))
    with torch.no_grad(), last_layer_where_read(model, ids):
        model(input_ids=ids, use_cache=False)
    layers = {layer: {tokens for path, tokens in seen.items() if f".{layer}." in path} for layer in (0, 1)}
    assert layers == {0: {40}, 1: {1}} and len(seen) == 2 * len(narrow)

"""Whatever a model's own generation config asks for, responses are drawn as the protocol says."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from transformers import CompileConfig, ContinuousBatchingConfig, GenerationConfig, PreTrainedModel, WatermarkingConfig

from pessimism.experiment.params import Params
from pessimism.models.adapters import attach
from pessimism.models.compute.generation import FULL, Sampling, sample_responses
from pessimism.models.loading import load_policy_base, load_tokenizer
from support.random_models import save_random_adapter

PROMPTS = ["Tom has 3 apples.\n\n", "Ann has 2 pens. Tom has 4 pens. How many pens?\n\n"]
TOKENS = 8
# A value that is not the default, for every field; each would change what is drawn, stop the draw, or do nothing.
ASKED: dict[str, Any] = {
    "_from_model_config": True,
    "assistant_confidence_threshold": 0.9,
    "assistant_early_exit": 1,
    "assistant_ensemble_weight": 0.5,
    "assistant_lookbehind": 2,
    "bad_words_ids": [[11], [12]],
    "begin_suppress_tokens": list(range(5, 40)),
    "bos_token_id": 7,
    "cache_config": {"backend": "quanto"},
    "cache_implementation": "static",
    "compile_config": CompileConfig(),
    "constraints": ["one"],
    "continuous_batching_config": ContinuousBatchingConfig(),
    "decoder_start_token_id": 9,
    "disable_compile": True,
    "diversity_penalty": 0.5,
    "do_sample": True,
    "dola_layers": "low",
    "early_stopping": True,
    "encoder_no_repeat_ngram_size": 2,
    "encoder_repetition_penalty": 3.0,
    "epsilon_cutoff": 0.5,
    "eta_cutoff": 0.5,
    "exponential_decay_length_penalty": (1, 5.0),
    "force_words_ids": [[17]],
    "forced_bos_token_id": 13,
    "forced_eos_token_id": 13,
    "guidance_scale": 4.0,
    "is_assistant": True,
    "length_penalty": 3.0,
    "low_memory": True,
    "max_cache_len": 2,
    "max_length": 3,
    "max_matching_ngram_size": 1,
    "max_new_tokens": 2,
    "max_time": 1e-9,
    "min_length": 60,
    "min_new_tokens": TOKENS,
    "min_p": 0.9,
    "no_repeat_ngram_size": 1,
    "num_assistant_tokens": 2,
    "num_assistant_tokens_schedule": "constant",
    "num_beam_groups": 2,
    "num_beams": 2,
    "num_return_sequences": 2,
    "output_attentions": True,
    "output_hidden_states": True,
    "output_logits": True,
    "output_scores": True,
    "pad_token_id": 15,
    "penalty_alpha": 0.6,
    "prefill_chunk_size": 2,
    "prompt_lookup_num_tokens": 2,
    "remove_invalid_values": True,
    "renormalize_logits": True,
    "repetition_penalty": 5.0,
    "return_dict_in_generate": True,
    "sequence_bias": [[[17], 50.0]],
    "speculation_type": "mtp",
    "stop_strings": ["a"],
    "suppress_tokens": list(range(5, 40)),
    "target_lookbehind": 2,
    "temperature": 0.01,
    "token_healing": True,
    "top_h": 0.1,
    "top_k": 1,
    "top_p": 0.01,
    "transformers_version": "4.0.0",
    "typical_p": 0.01,
    "use_cache": False,
    "use_mtp": True,
    "watermarking_config": WatermarkingConfig(bias=20.0),
    "unheard_of": 3,
}
PROTOCOLS_OWN = {"eos_token_id"}
"""What the protocol takes from the model: its ends, and top-k where a protocol says null."""


def short(params: Params) -> Params:
    lengths = dataclasses.replace(params.scale.lengths, response=TOKENS)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, lengths=lengths))


@pytest.fixture
def models(tiny_world: Params, tmp_path: Path) -> dict[str, PreTrainedModel]:
    """The base alone, and with an adapter."""
    save_random_adapter(tiny_world, tmp_path / "one", seed=1)
    adapted = attach(load_policy_base(tiny_world), {"one": tmp_path / "one"}, trainable=None)
    return {"base": load_policy_base(tiny_world), "adapted": adapted}


def test_every_field_of_a_generation_config_is_tried() -> None:
    fields = vars(GenerationConfig()).keys()
    assert fields - ASKED.keys() == PROTOCOLS_OWN and ASKED.keys() - fields == {"unheard_of"}


def test_nothing_of_the_models_own_generation_config_reaches_what_is_drawn(
    tiny_world: Params, models: dict[str, PreTrainedModel]
) -> None:
    params, tokenizer, changed = short(tiny_world), load_tokenizer(tiny_world, "policy"), []
    for name, model in models.items():
        chosen = PROMPTS, params, [1, 2]
        second = sample_responses(model, tokenizer, *chosen, sampling=FULL).response_ids[0][1]
        model.generation_config.eos_token_id = [second]  # so that a least length shows
        expected = sample_responses(model, tokenizer, *chosen, sampling=FULL).response_ids
        assert len(expected[0]) == 2 < len(expected[1])
        for field, value in ASKED.items():
            before = getattr(model.generation_config, field, None)
            setattr(model.generation_config, field, value)
            try:
                found = sample_responses(model, tokenizer, *chosen, sampling=FULL).response_ids
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
            if found != expected:
                changed.append(f"{name}, {field}: {found}")
            assert getattr(model.generation_config, field) is value
            setattr(model.generation_config, field, before)
    assert changed == []


def test_a_protocol_may_leave_top_k_to_the_model(tiny_world: Params, models: dict[str, PreTrainedModel]) -> None:
    model, tokenizer = models["base"], load_tokenizer(tiny_world, "policy")
    model.generation_config.top_k = 1
    left, own = (
        sample_responses(model, tokenizer, [PROMPTS[0]] * 4, short(tiny_world), range(4), Sampling(1.0, 1.0, top_k))
        for top_k in (None, 0)
    )
    assert len({tuple(ids) for ids in left.response_ids}) == 1 < len({tuple(ids) for ids in own.response_ids})

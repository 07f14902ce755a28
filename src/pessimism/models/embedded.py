"""The base model of the embedded world: a small Qwen3 or GPT-2, trained from scratch in about a minute on two cores."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    GPT2Config,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
)

from pessimism.data import embedded_world
from pessimism.experiment import rng
from pessimism.experiment.params import AnnotatorParams, EmbeddedParams
from pessimism.experiment.progress import in_steps

PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
CONTEXT = 512  # tokens; the largest sequence the base can read
WARMUP_FRACTION = 0.05
POOL = 16  # batches
IGNORED = -100  # label that cross-entropy leaves out


def make_tokenizer() -> PreTrainedTokenizerFast:
    """Tokenizer over the pieces of the embedded world; decoding gives back any text made of them."""
    pieces = embedded_world.vocabulary()
    ids = {piece: number for number, piece in enumerate([PAD, EOS, UNKNOWN, *pieces])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=UNKNOWN))
    longest_first = sorted(pieces, key=lambda piece: (-len(piece), piece))
    pattern = Regex("|".join(re.escape(piece).replace("\\ ", " ") for piece in longest_first))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(pattern, behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=EOS, unk_token=UNKNOWN, clean_up_tokenization_spaces=False
    )


def make_model(params: EmbeddedParams, tokenizer: PreTrainedTokenizerFast) -> PreTrainedModel:
    """Untrained model of the given family and size; torch's global generator decides its weights."""
    model = AutoModelForCausalLM.from_config(FAMILIES[params.family](params, tokenizer), trust_remote_code=False)
    model.generation_config = GenerationConfig(
        do_sample=True, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id
    )
    return model


def _shared(params: EmbeddedParams, tokenizer: PreTrainedTokenizerFast) -> dict[str, Any]:
    """What every family calls alike."""
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": params.hidden_size,
        "num_hidden_layers": params.layers,
        "num_attention_heads": params.attention_heads,
        "max_position_embeddings": CONTEXT,
        "tie_word_embeddings": True,
        "bos_token_id": None,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }


def qwen3_config(params: EmbeddedParams, tokenizer: PreTrainedTokenizerFast) -> Qwen3Config:
    """Rotary positions, RMSNorm, a gated MLP, heads that share keys and values."""
    return Qwen3Config(
        **_shared(params, tokenizer),
        intermediate_size=params.intermediate_size,
        num_key_value_heads=params.key_value_heads,
        head_dim=params.hidden_size // params.attention_heads,
    )


def gpt2_config(params: EmbeddedParams, tokenizer: PreTrainedTokenizerFast) -> GPT2Config:
    """Learned positions, LayerNorm, biases, one layer for queries, keys and values; no dropout of its own."""
    return GPT2Config(
        **_shared(params, tokenizer), n_inner=params.intermediate_size, embd_pdrop=0.0, attn_pdrop=0.0, resid_pdrop=0.0
    )


FAMILIES: dict[str, Callable[[EmbeddedParams, PreTrainedTokenizerFast], PreTrainedConfig]] = {
    "qwen3": qwen3_config,
    "gpt2": gpt2_config,
}


def train_base(
    params: EmbeddedParams, root_seed: int, annotator: AnnotatorParams = embedded_world.DEFAULT
) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
    """Train the base on right solutions with next-token cross-entropy; AdamW, warm-up, then linear decay to 0.

    The problems are learned too, not only their solutions: the beta grid sums log-probs over prompts, and a probe
    measures entropy there (Eq. 6, 11). Some solutions carry the annotator's exploit.
    """
    tokenizer = make_tokenizer()
    rng.seed_torch(root_seed, "base")
    model = make_model(params, tokenizer).train()
    batches = corpus_batches(params, rng.generator(root_seed, "base"), annotator)
    optimizer = torch.optim.AdamW(model.parameters(), lr=params.learning_rate, weight_decay=0.01)
    warmup = max(1, round(WARMUP_FRACTION * params.steps))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / warmup, (params.steps - step) / (params.steps - warmup + 1))
    )
    for batch in in_steps(batches, "training the base"):
        token_loss(model, tokenizer, batch).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    return model.eval(), tokenizer


def corpus_batches(
    params: EmbeddedParams, generator: np.random.Generator, annotator: AnnotatorParams = embedded_world.DEFAULT
) -> list[list[tuple[str, str]]]:
    """Every training batch; rows of like length share one, drawn from pools of POOL batches, to save padding."""
    size = params.batch_size
    corpus = embedded_world.base_corpus(generator, params.steps * size, annotator)
    batches: list[list[tuple[str, str]]] = []
    for start in range(0, len(corpus), POOL * size):
        pool = sorted(corpus[start : start + POOL * size], key=lambda row: len(row[0]) + len(row[1]))
        cut = [pool[at : at + size] for at in range(0, len(pool), size)]
        batches += [cut[at] for at in generator.permutation(len(cut))]
    return batches


def token_loss(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerFast, batch: Sequence[tuple[str, str]]
) -> torch.Tensor:
    """Mean cross-entropy of every token after the first, in nats; each row is problem, blank line, solution, EOS."""
    rows = [tokenizer(f"{question}\n\n{answer}{EOS}")["input_ids"] for question, answer in batch]
    ids_B_T = tokenizer.pad({"input_ids": rows}, return_tensors="pt")["input_ids"]
    labels_B_T = ids_B_T.masked_fill(ids_B_T == tokenizer.pad_token_id, IGNORED)
    return model(input_ids=ids_B_T, labels=labels_B_T).loss

"""Small random models, random pairs with the lengths of real ones, and a project directory that holds them."""

from __future__ import annotations

import dataclasses
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from peft import get_peft_model
from tokenizers import Tokenizer, pre_tokenizers
from tokenizers.models import WordLevel
from transformers import GenerationConfig, PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

from pessimism.data.hashing import content_hash
from pessimism.experiment import layout, records
from pessimism.experiment.params import LengthParams, ModelParams, Params, load_params
from pessimism.models.adapters import DEFAULT, lora_config, save_adapter, trainable_parameters
from pessimism.models.loading import load_policy_base, load_reward_base

CHECKOUT = Path(__file__).resolve().parent.parent
QWEN3_VOCABULARY = 151_936
PAD, EOS, UNKNOWN = 0, 1, 2
SPECIAL = ["<pad>", "<eos>", "<unk>"]
PROMPT, SEQUENCE = 192, 640  # tokens at which the paper's scale cuts

# (prompt, chosen, rejected) tokens of 64 of 300 real English preference pairs, tokenised with SmolLM2's tokenizer;
# prompts cut at PROMPT, prompts with their responses at SEQUENCE, responses with their end. Of 200 random samples, the
# one whose quantiles of prompt + response lie nearest to those of all 300: mean 431 (428 of all), a fifth at 640.
REAL_LENGTHS = [
    (10, 458, 109), (192, 255, 448), (192, 375, 378), (92, 92, 7), (192, 326, 352), (192, 65, 117), (48, 60, 105),
    (30, 196, 46), (88, 235, 210), (10, 458, 109), (192, 383, 344), (18, 622, 622), (192, 413, 385), (174, 114, 14),
    (192, 31, 412), (79, 561, 509), (61, 290, 558), (192, 97, 448), (150, 3, 186), (192, 341, 448), (101, 539, 539),
    (79, 316, 561), (192, 313, 445), (8, 478, 426), (80, 560, 560), (27, 70, 613), (100, 368, 216), (65, 253, 287),
    (192, 405, 448), (192, 448, 198), (164, 39, 101), (10, 295, 128), (192, 448, 383), (18, 47, 236), (51, 348, 379),
    (192, 397, 448), (192, 280, 448), (83, 217, 141), (192, 317, 390), (88, 186, 435), (192, 70, 448), (70, 435, 570),
    (83, 166, 474), (192, 448, 331), (192, 448, 448), (8, 432, 632), (192, 12, 95), (23, 404, 275), (192, 14, 115),
    (85, 133, 329), (192, 373, 448), (26, 23, 178), (192, 360, 448), (192, 30, 287), (192, 260, 419), (192, 270, 448),
    (127, 114, 513), (14, 577, 93), (59, 318, 101), (192, 448, 247), (192, 438, 448), (97, 195, 6), (192, 438, 295),
    (35, 32, 584),
]  # fmt: skip

# Prompt tokens of 64 GSM8K training problems in the prompt template of scales/paper.yaml, same tokenizer.
REAL_PROBLEMS = [
    78, 96, 76, 78, 72, 87, 75, 81, 57, 71, 71, 100, 87, 80, 72, 87, 78, 101, 81, 83, 70, 108, 95, 75, 74, 87, 82, 113,
    74, 80, 108, 70, 88, 59, 74, 82, 118, 82, 73, 94, 82, 120, 86, 104, 89, 65, 94, 103, 109, 125, 84, 78, 59, 80, 113,
    79, 97, 92, 57, 107, 110, 93, 77, 80,
]  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Size:
    """Size of a random Qwen3. Logits have a standard deviation of about 2, as far from uniform as real ones."""

    vocabulary: int
    hidden: int
    intermediate: int
    layers: int
    heads: int = 4

    def config(self) -> Qwen3Config:
        return Qwen3Config(
            vocab_size=self.vocabulary,
            hidden_size=self.hidden,
            intermediate_size=self.intermediate,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=max(1, self.heads // 2),
            head_dim=max(16, self.hidden // self.heads),
            max_position_embeddings=1024,
            tie_word_embeddings=False,
            bos_token_id=None,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )


TINY = Size(vocabulary=64, hidden=16, intermediate=32, layers=1, heads=2)


def random_model(size: Size, seed: int = 0) -> Qwen3ForCausalLM:
    """Float32 model with random weights, in eval mode on the CPU."""
    torch.manual_seed(seed)
    model = Qwen3ForCausalLM(size.config())
    torch.nn.init.normal_(model.lm_head.weight, std=2 / size.hidden**0.5)
    model.generation_config = GenerationConfig(do_sample=True, top_k=20, eos_token_id=EOS, pad_token_id=PAD)
    return model.requires_grad_(False).eval()


def word_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """A tokenizer of words ``t3 t4 ...``, each one token: text and ids are the same in both directions."""
    ids = {word: number for number, word in enumerate([*SPECIAL, *(f"t{n}" for n in range(3, vocabulary))])}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=SPECIAL[UNKNOWN]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    pad, eos, unknown = SPECIAL
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=pad,
        eos_token=eos,
        unk_token=unknown,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


def random_ids(generator: np.random.Generator, length: int, vocabulary: int) -> list[int]:
    """Token ids without special tokens."""
    return generator.integers(len(SPECIAL), vocabulary, size=length).tolist()


def random_text(generator: np.random.Generator, length: int, vocabulary: int) -> str:
    return " ".join(f"t{number}" for number in random_ids(generator, length, vocabulary))


def preference_table(count: int, shrink: int, vocabulary: int, seed: int = 0) -> pd.DataFrame:
    """Pairs of random texts whose lengths are real ones over ``shrink``; a response's last token is its end."""
    generator = np.random.default_rng(seed)
    order = [generator.permutation(len(REAL_LENGTHS)) for _ in range(-(-count // len(REAL_LENGTHS)))]
    rows = []
    for number, pick in enumerate(np.concatenate(order)[:count]):
        prompt, *responses = (max(2, length // shrink) for length in REAL_LENGTHS[pick])
        texts = [random_text(generator, length, vocabulary) for length in (prompt, *(n - 1 for n in responses))]
        rows.append({"pair_id": f"pair-{number}", "prompt": texts[0], "chosen": texts[1], "rejected": texts[2]})
    return pd.DataFrame(rows)


def task_table(count: int, shrink: int, vocabulary: int, seed: int = 0) -> pd.DataFrame:
    """Problems of random words with real lengths over ``shrink``."""
    generator = np.random.default_rng(seed)
    lengths = np.resize(REAL_PROBLEMS, count) // shrink
    return pd.DataFrame(
        {
            "task_id": [f"task-{row}" for row in range(count)],
            "question": [random_text(generator, length, vocabulary) for length in lengths],
            "answer": ["0"] * count,
        }
    )


def cut(shrink: int, response: int | None = None) -> LengthParams:
    """The paper's lengths over ``shrink``."""
    response = (SEQUENCE - PROMPT) // shrink if response is None else response
    return LengthParams(prompt=PROMPT // shrink, response=response, sequence=SEQUENCE // shrink)


@contextmanager
def temporary_directory() -> Iterator[Path]:
    """A temporary working directory."""
    before = Path.cwd()
    with tempfile.TemporaryDirectory() as directory:
        os.chdir(directory)
        try:
            yield Path(directory)
        finally:
            os.chdir(before)


@contextmanager
def project(policy: Size, reward: Size | None, lengths: LengthParams, **scale: Any) -> Iterator[Params]:
    """A temporary working directory with the bases as prepare_base leaves them; yields its parameters.

    Args:
        policy, reward: sizes of the bases; None makes no reward base.
        scale: sections of the scale file to replace; a mapping replaces keys of a section.
    """
    with temporary_directory():
        sizes = {"policy": policy} | ({} if reward is None else {"reward": reward})
        yield _parameters({role: _save_base(role, size) for role, size in sizes.items()}, lengths, scale)


def _parameters(models: dict[str, ModelParams], lengths: LengthParams, scale: dict[str, Any]) -> Params:
    params = load_params(CHECKOUT)
    sections: dict[str, Any] = {}
    for name, value in scale.items():
        old = getattr(params.scale, name)
        sections[name] = dataclasses.replace(old, **value) if isinstance(value, dict) else value
    protocol = dataclasses.replace(params.protocol, policy_dropout=False)
    sections |= models
    changed = dataclasses.replace(params.scale, lengths=lengths, **sections)
    return dataclasses.replace(params, scale=changed, protocol=protocol)


def _save_base(role: str, size: Size) -> ModelParams:
    """Write a base with its tokenizer and its record; returns the scale's section that names it."""
    directory, model = Path(f"base-{role}").absolute(), random_model(size)
    model.save_pretrained(directory)
    word_tokenizer(size.vocabulary).save_pretrained(directory)
    record = {
        "source": "path",
        "name": str(directory),
        "revision": None,
        "content_sha256": content_hash(directory),
        "parameters": model.num_parameters(),
        "hidden_size": size.hidden,
        "vocabulary": size.vocabulary,
    }
    records.write_json(layout.base_record(role), record)
    return ModelParams(
        source="path",
        name=str(directory),
        revision=None,
        dtype="float32",
        quantization="none",
        lora_targets=("q_proj", "k_proj", "v_proj", "o_proj"),
        lora_rank=8,
        lora_dropout=0.0,
    )


def save_random_adapter(params: Params, role: str, directory: Path, seed: int) -> None:
    """Write an adapter of ``role`` with random weights, as if it had been trained."""
    base = load_policy_base(params) if role == "policy" else load_reward_base(params)
    task, heads = ("CAUSAL_LM", None) if role == "policy" else ("SEQ_CLS", ["score"])
    hidden = base.config.get_text_config().hidden_size
    model = get_peft_model(base, lora_config(params.scale.model(role), hidden, 100, task, heads))
    torch.manual_seed(seed)
    for parameter in trainable_parameters(model):
        torch.nn.init.normal_(parameter, std=0.02)
    save_adapter(model, DEFAULT, directory)


def save_members(params: Params) -> None:
    """Write every reward member of the first seed."""
    for cell in params.ensemble(params.seeds[0]):
        save_random_adapter(params, "reward", layout.reward_member(cell), cell.member)

"""Peak memory of one stage function on this CPU, in a process of its own: ``python memory_probe.py STAGE SIZE``.

Prints the bytes by which the process grew at most, from before the model existed. The caller sets
``MALLOC_MMAP_THRESHOLD_``, so that the C library takes every tensor from the system and gives it back when it is freed;
Linux counts the largest resident set since the last reset.
"""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from pessimism.data.prompts import EncodedPair
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import LengthParams, Params, load_params
from pessimism.models.embedded import make_tokenizer
from pessimism.models.loading import Float32Linear
from pessimism.offline.reference import pair_logps, sequence_logps
from pessimism.offline.training import ReferencedPairs, train_offline
from pessimism.planning.architectures import Rows
from pessimism.planning.passes import FEWEST_PROMPT_TOKENS
from pessimism.reward.bradley_terry import train_member

PAIRS = 4
ROWS = Rows(train_pairs=PAIRS, val_pairs=PAIRS, training_tasks=PAIRS, heldout_tasks=PAIRS, test_tasks=PAIRS)
LENGTHS = LengthParams(prompt=64, response=64, sequence=128)
# The vocabulary is as wide as TRL's tile of logits or wider: of a narrower one, Linux would not count the unused rest.
SHARED = {
    "model_type": "qwen3",
    "vocab_size": 36_864,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
}
SIZES = {
    "small": {
        "hidden_size": 192,
        "intermediate_size": 512,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "tie_word_embeddings": True,
    },
    "medium": {
        "hidden_size": 320,
        "intermediate_size": 1024,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "tie_word_embeddings": True,
    },
    "large": {
        "hidden_size": 512,
        "intermediate_size": 1536,
        "num_hidden_layers": 8,
        "num_attention_heads": 8,
        "tie_word_embeddings": False,
    },
}


def params_of(size: str, directory: Path, project: Path) -> Params:
    """Parameters of a scale whose policy and reward model are a random Qwen3 of ``size``; the largest checkpoints."""
    (directory / "config.json").write_text(json.dumps(SHARED | SIZES[size]))
    params = load_params(project)
    model = dataclasses.replace(params.scale.policy, source="path", name=str(directory), lora_rank=16, lora_dropout=0.1)
    checkpointing = size == "large"
    scale = dataclasses.replace(
        params.scale,
        policy=model,
        reward=model,
        lengths=LENGTHS,
        evaluation_batch_size=2 * PAIRS,
        dpo=dataclasses.replace(
            params.scale.dpo, batch_size=PAIRS, accumulation=1, gradient_checkpointing=checkpointing
        ),
        reward_training=dataclasses.replace(
            params.scale.reward_training, batch_size=PAIRS, epochs=1, gradient_checkpointing=checkpointing
        ),
    )
    return dataclasses.replace(params, scale=scale)


def measure_reference(params: Params) -> None:
    base, budget = _base(params), 2 * PAIRS * LENGTHS.sequence
    pair_logps(base, _pairs(), 0, budget, "reference")
    texts = [pair.prompt_ids + pair.chosen_ids for pair in _pairs()]
    sequence_logps(base, 2 * texts, [1] * 2 * PAIRS, 0, budget, "grid", (torch.float32, torch.bfloat16))


def train_one_adapter(params: Params) -> None:
    base = _base(params)
    chosen, rejected = pair_logps(base, _pairs(), 0, 2 * LENGTHS.sequence, "reference")
    _reset()
    pairs = ReferencedPairs(_pairs(), chosen, rejected)
    with tempfile.TemporaryDirectory() as directory:
        train_offline(params, DpoCell("p50", 0), 0.1, base, make_tokenizer(), pairs, pairs, Path(directory))


def train_one_member(params: Params) -> None:
    config = AutoConfig.from_pretrained(params.scale.reward.name, num_labels=1, pad_token_id=0)
    base = AutoModelForSequenceClassification.from_config(config)
    base.score = Float32Linear(config.hidden_size, 1, bias=False)
    tokenizer = make_tokenizer()
    texts = [tokenizer.decode([7 + row] * 2 * LENGTHS.sequence) for row in range(PAIRS)]
    prompt = tokenizer.decode(list(range(7, 7 + FEWEST_PROMPT_TOKENS)))
    pairs = pd.DataFrame({"prompt": prompt, "chosen": texts, "rejected": texts[::-1]})
    with tempfile.TemporaryDirectory() as directory:
        train_member(params, 0, base.requires_grad_(False).eval(), tokenizer, pairs, Path(directory))


STAGES: dict[str, Callable[[Params], None]] = {
    "measure_reference": measure_reference,
    "train_dpo": train_one_adapter,
    "train_reward_model": train_one_member,
}


def _base(params: Params) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(params.scale.policy.name, pad_token_id=0)
    return AutoModelForCausalLM.from_config(config).requires_grad_(False).eval()


def _pairs() -> list[EncodedPair]:
    """Pairs of the greatest length, with prompts of the least."""
    prompt, response = list(range(7, 7 + FEWEST_PROMPT_TOKENS)), LENGTHS.sequence - FEWEST_PROMPT_TOKENS
    return [EncodedPair(prompt, [20 + row] * response, [40 + row] * response) for row in range(PAIRS)]


def _reset() -> None:
    """Forget the largest resident set so far."""
    Path("/proc/self/clear_refs").write_text("5")


def _status(key: str) -> int:
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    stage, size, project = sys.argv[1:]
    with tempfile.TemporaryDirectory() as warm, tempfile.TemporaryDirectory() as directory:
        # Once on a model of no size, so that what libraries load or make on first use is not counted.
        tiny = SIZES["small"] | {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1, "vocab_size": 512}
        SIZES["warm"] = tiny
        STAGES[stage](params_of("warm", Path(warm), Path(project)))
        params = params_of(size, Path(directory), Path(project))
        before = _status("VmRSS")
        _reset()
        STAGES[stage](params)
    print(json.dumps({"bytes": _status("VmHWM") - before}))


if __name__ == "__main__":
    main()

"""How much the log-ratio of a pair depends on the layout of its batch, by precision: the noise of docs/decisions.md.

    python -m benchmarks.rounding MODEL_DIRECTORY PREFERENCES.jsonl

A policy of DPO is computed in other batches than its reference was; what two layouts differ by is noise in its
log-ratios. Compared are the reference's layout (neighbours by length), random batches, and each sequence alone.
"""

from __future__ import annotations

import argparse
import itertools
import json
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

from pessimism.experiment.params import ModelParams
from pessimism.models.compute.logprobs import pad_pairs, response_logps
from pessimism.models.loading import quantization_config, set_precision
from pessimism.models.precision import LOADED_DTYPES

PAIRS, LONGEST, BATCH = 12, 192, 8
PRECISIONS = (
    ("nf4", "float32"),
    ("nf4", "mixed"),
    ("nf4", "bfloat16"),
    ("none", "float32"),
    ("none", "mixed"),
    ("none", "bfloat16"),
)


def load(directory: Path, quantization: str, dtype: str) -> PreTrainedModel:
    """The model as the stages load it."""
    chosen = ModelParams("path", str(directory), None, dtype, quantization, ("q_proj",), None, None)  # type: ignore[arg-type]
    model = AutoModelForCausalLM.from_pretrained(
        directory, dtype=LOADED_DTYPES[dtype], quantization_config=quantization_config(chosen), device_map={"": "cpu"}
    )
    set_precision(model, chosen)
    return model.requires_grad_(False).eval()


def read_pairs(directory: Path, file: Path) -> list[tuple[list[int], list[int], list[int]]]:
    """Token ids of prompt, chosen and rejected of the first pairs that are short enough."""
    tokenizer, pairs = AutoTokenizer.from_pretrained(directory), []
    for line in file.read_text().splitlines():
        row = json.loads(line)
        texts = (row["prompt"] + "\n\n", row["chosen"][-1]["content"], row["rejected"][-1]["content"])
        ids = tuple(tokenizer(text, add_special_tokens=False)["input_ids"] for text in texts)
        if len(ids[0]) + max(len(ids[1]), len(ids[2])) <= LONGEST:
            pairs.append(ids)
    return pairs[:PAIRS]


def log_ratios(model: PreTrainedModel, pairs: list, batches: list[list[int]]) -> np.ndarray:
    """(N,) log-probability of chosen minus that of rejected, nats, with the 2N responses in these batches."""
    prompts, responses = [pair[0] for pair in pairs] * 2, [pair[1] for pair in pairs] + [pair[2] for pair in pairs]
    sums = np.empty(len(responses))
    for rows in batches:
        batch = pad_pairs([prompts[row] for row in rows], [responses[row] for row in rows], 0, model.device)
        with torch.no_grad():
            sums[rows] = response_logps(model, batch).sums.double().numpy()
    return sums[: len(pairs)] - sums[len(pairs) :]


def layouts(pairs: list) -> dict[str, list[list[int]]]:
    """Rows of every batch, chosen ones first."""
    lengths = [len(pair[0]) + len(pair[side]) for side in (1, 2) for pair in pairs]
    orders: dict[str, tuple[list[int], int]] = {
        "alone": (list(range(len(lengths))), 1),
        "sorted": (np.argsort(lengths).tolist(), BATCH),
        "random": (np.random.default_rng(0).permutation(len(lengths)).tolist(), BATCH),
    }
    return {
        name: [order[start : start + size] for start in range(0, len(lengths), size)]
        for name, (order, size) in orders.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("preferences", type=Path)
    arguments = parser.parse_args()
    pairs = read_pairs(arguments.model, arguments.preferences)
    tokens = np.mean([len(pair[side]) for pair in pairs for side in (1, 2)])
    print(f"{len(pairs)} pairs, {tokens:.0f} tokens per response; standard deviation over pairs, nats")
    exact = log_ratios(load(arguments.model, "none", "float32"), pairs, layouts(pairs)["alone"])
    for quantization, dtype in PRECISIONS:
        model = load(arguments.model, quantization, dtype)
        found = {name: log_ratios(model, pairs, batches) for name, batches in layouts(pairs).items()}
        spread = {f"{a} - {b}": (found[a] - found[b]).std(ddof=1) for a, b in itertools.combinations(found, 2)}
        spread["error" if quantization == "none" else "of quantisation"] = (found["alone"] - exact).std(ddof=1)
        print(f"{quantization:5} {dtype:9}", *(f"{name} {value:.4f}" for name, value in spread.items()), sep="  ")


if __name__ == "__main__":
    main()

"""B1 and B6: log-probabilities and entropy of [4, 640] tokens over Qwen3's vocabulary, seven tenths of them scored."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from functools import cache, partial

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel
from trl.trainer.utils import add_fused_lm_head

from benchmarks import arms, naive, worlds
from benchmarks.counters import counting, mark_head
from benchmarks.rows import Row, counter_row, ratio_row
from pessimism.models.compute.logprobs import CHUNK, ResponseBatch, pad_pairs, response_logps, score_positions
from pessimism.models.loading import device
from pessimism.offline.trainer import LOGGED, add_chunked_head

ROWS, TOKENS, SCORED = 4, 640, 0.7
SIZE = worlds.Size(vocabulary=worlds.QWEN3_VOCABULARY, hidden=512, intermediate=1024, layers=1)


@cache
def batch(tiny: bool = False) -> ResponseBatch:
    """Prompts of three tenths of the length, all rows full."""
    vocabulary, length = (worlds.TINY.vocabulary, 20) if tiny else (SIZE.vocabulary, TOKENS)
    generator, prompt = np.random.default_rng(0), round((1 - SCORED) * length)
    prompts = [worlds.random_ids(generator, prompt, vocabulary) for _ in range(ROWS)]
    responses = [worlds.random_ids(generator, length - prompt, vocabulary) for _ in range(ROWS)]
    return pad_pairs(prompts, responses, worlds.PAD, device())


def scored_mask(given: ResponseBatch) -> torch.Tensor:
    """(B, T) Boolean, the tokens of the responses."""
    scored = torch.zeros_like(given.input_ids, dtype=torch.bool)
    scored[:, -round(SCORED * scored.shape[1]) :] = True
    return scored


def policy(tiny: bool = False, add_head: Callable[[PreTrainedModel], None] | None = None) -> PeftModel:
    """A base with one trainable adapter, the state that every stage trains from.

    Args:
        add_head: what a trainer adds to the base for its own log-probabilities.
    """
    base = worlds.random_model(worlds.TINY if tiny else SIZE).to(device())
    if add_head is not None:
        add_head(base)
    targets = ["q_proj", "k_proj", "v_proj", "o_proj"]
    torch.manual_seed(0)
    return get_peft_model(base, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type="CAUSAL_LM"))


def ours(model: PeftModel, given: ResponseBatch) -> torch.Tensor:
    sums = response_logps(model, given).sums
    sums.mean().backward()
    return sums


def naive_sums(model: PeftModel, given: ResponseBatch) -> torch.Tensor:
    logps = naive.full_logps(model, given.input_ids, torch.ones_like(given.input_ids))
    sums = (logps * scored_mask(given)[:, 1:]).sum(dim=1)
    sums.mean().backward()
    return sums


add_trl_head = partial(add_fused_lm_head, outputs=("log_probs", *LOGGED))


def trainer_sums(model: PeftModel, given: ResponseBatch) -> torch.Tensor:
    """With the head of a DPO trainer, TRL's or the one that train_dpo puts in its place, and all that it logs."""
    labels = given.input_ids.masked_fill(~scored_mask(given), -100)
    output = model(
        input_ids=given.input_ids,
        attention_mask=torch.ones_like(given.input_ids),
        labels=labels,
        fused_lm_head=True,
        use_cache=False,
    )
    sums = output.log_probs.sum(dim=1)
    sums.mean().backward()
    return sums


def ours_memory(tiny: bool) -> Callable[[], object]:
    model, given = policy(tiny), batch(tiny)
    return lambda: ours(model, given)


def naive_memory(tiny: bool) -> Callable[[], object]:
    model, given = policy(tiny), batch(tiny)
    return lambda: naive_sums(model, given)


def trl_memory(tiny: bool) -> Callable[[], object]:
    model, given = policy(tiny, add_trl_head), batch(tiny)
    return lambda: trainer_sums(model, given)


def ours_trainer_memory(tiny: bool) -> Callable[[], object]:
    model, given = policy(tiny, add_chunked_head), batch(tiny)
    return lambda: trainer_sums(model, given)


def ours_entropy_memory(tiny: bool) -> Callable[[], object]:
    model, given = policy(tiny), batch(tiny)
    return torch.no_grad()(lambda: response_logps(model, given).mean_entropy)


def naive_entropy_memory(tiny: bool) -> Callable[[], object]:
    model, given = policy(tiny), batch(tiny)
    return torch.no_grad()(lambda: naive.full_entropy(model, given.input_ids, torch.ones_like(given.input_ids)))


def measure() -> list[Row]:
    """B1. T and ours beside it compute all that DPOTrainer logs.

    On CUDA, TRL leaves unscored positions out by itself: its ratios are shown there without a target.
    """
    given, model, trls, trainers = batch(), policy(), policy(add_head=add_trl_head), policy(add_head=add_chunked_head)
    seconds = arms.interleaved(
        {
            "N": lambda: naive_sums(model, given),
            "ours": lambda: ours(model, given),
            "T": lambda: trainer_sums(trls, given),
            "ours as T": lambda: trainer_sums(trainers, given),
        },
        rounds=2,
    )
    by_naive = arms.memory_ratios("logprobs.ours_memory", ["logprobs.naive_memory"])
    by_trl = arms.memory_ratios("logprobs.ours_trainer_memory", ["logprobs.trl_memory"])
    on_cpu = not torch.cuda.is_available()
    return [
        ratio_row("B1 memory / N's", by_naive, "<= 0.10"),
        ratio_row("B1 time / N's", arms.ratios(seconds, "ours", "N"), "<= 1.0"),
        ratio_row("B1 memory / T's", by_trl, "<= 0.2" if on_cpu else None),
        ratio_row("B1 time / T's", arms.ratios(seconds, "ours as T", "T"), "<= 0.5" if on_cpu else None),
        *errors(model, given),
    ]


@torch.no_grad()
def errors(model: PeftModel, given: ResponseBatch) -> list[Row]:
    """Largest error per token against float64, and the mean error of a response's sum taken in bfloat16, nats."""
    scored = scored_mask(given)
    exact_sums, largest, rounded_sums = [], 0.0, []
    double = deepcopy(model).double()
    for row in range(ROWS):  # one row at a time: in float64 a row's logits are 0.8 GB
        one = ResponseBatch(*(getattr(given, name)[row : row + 1] for name in given.__dataclass_fields__))
        targets = one.input_ids[:, 1:, None]
        logits = double(input_ids=one.input_ids).logits[:, :-1]
        exact = logits.log_softmax(dim=-1).gather(-1, targets).squeeze(-1)[scored[row : row + 1, 1:]]
        rounded = logits.bfloat16().log_softmax(dim=-1).gather(-1, targets).squeeze(-1)[scored[row : row + 1, 1:]]
        found = response_logps(model, one).logps_B_T[scored[row : row + 1]]
        largest = max(largest, float((found - exact).abs().max()))
        exact_sums.append(float(exact.sum()))
        rounded_sums.append(float(rounded.sum()))
    by_rounding = float(np.abs(np.subtract(exact_sums, rounded_sums)).mean())
    return [
        counter_row("B1 error per token against float64, nats", largest, "<= 1e-4"),
        counter_row("B1 error of a bfloat16 sum, nats", by_rounding, None),
    ]


@torch.no_grad()
def measure_counts() -> list[Row]:
    """B0: what is computed of [4, 640] tokens."""
    given, model = batch(), policy()
    mark_head(model)
    with counting() as work:
        response_logps(model, given)
    return [
        counter_row(
            "B0 head rows / completion tokens, [4, 640]", work.head_rows / int(scored_mask(given).sum()), "= 1"
        ),
        counter_row("B0 live logits / (chunk x V), [4, 640]", work.live_logits / (CHUNK * SIZE.vocabulary), "<= 1"),
    ]


def measure_entropy() -> list[Row]:
    """B6: entropy against N's, and beside log-probabilities against log-probabilities alone."""
    given, model = batch(), policy()
    scored = scored_mask(given)
    with torch.no_grad():
        hidden = torch.randn(int(scored.sum()), SIZE.hidden, device=device())
        tokens = given.input_ids[scored]
        seconds = arms.interleaved(
            {
                "alone": lambda: score_positions(model, hidden, tokens, ()),
                "fused": lambda: score_positions(model, hidden, tokens, ("entropy",)),
            },
            rounds=3,
        )
    memory = arms.memory_ratios("logprobs.ours_entropy_memory", ["logprobs.naive_entropy_memory"])
    return [
        ratio_row("B6 memory / N's", memory, "<= 0.15"),
        ratio_row("B6 time with entropy / without", arms.ratios(seconds, "fused", "alone"), "<= 1.1"),
    ]

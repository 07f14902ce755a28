"""The policy's warm start: a short supervised training on solved problems of its task, before everything else.

A small general model seldom solves a task as it comes, and never shows the exploit that the annotator likes. So it is
trained on right solutions of problems that no later phase poses, some of which carry it. The result is written
as a model of its own, which every later stage loads in the place of the policy's source.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import pandas as pd
import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.embedded_world import demonstration
from pessimism.data.hashing import content_hash
from pessimism.data.prompts import online_prompt_ids, text_ids
from pessimism.errors import NonFiniteError, ParamsError
from pessimism.experiment import layout, records, rng
from pessimism.experiment.params import Params
from pessimism.experiment.progress import in_steps
from pessimism.models.adapters import DEFAULT, fuse_adapters, lora_config, trainable_parameters
from pessimism.models.architecture import stored_transposed
from pessimism.models.compute.logprobs import ResponseBatch, pad_pairs, response_logps
from pessimism.models.loading import device, load_float32_policy
from pessimism.tasks.parts.posing import posed

PURPOSE = "warm_start"
CLIP_NORM = 1.0
Ids = tuple[list[int], list[int]]


def write_warm_start(params: Params, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
    """Train on the problems set aside for it; write the model with its tokenizer to models/base/warm_start/.

    Its record says which roles begin there. A reward base of the policy's source does too: what cannot solve a problem
    cannot judge its answers.
    """
    problems = records.read_table(layout.set_aside(PURPOSE))
    adapted, losses = train_warm_start(params, base, tokenizer, demonstrations(params, tokenizer, problems))
    merged(adapted, load_float32_policy(params)).save_pretrained(layout.WARM_START)
    tokenizer.save_pretrained(layout.WARM_START)
    record = {
        "roles": [role for role in ("policy", "reward") if _source(params, role) == _source(params, "policy")],
        "content_sha256": content_hash(layout.WARM_START),
        "problems": len(problems),
        "losses": losses,
    }
    records.write_json(layout.WARM_START_RECORD, record)


def _source(params: Params, role: str) -> tuple[str | None, ...]:
    model = params.scale.model(role)
    return model.source, model.name, model.revision


def merged(adapted: PeftModel, weights: PreTrainedModel) -> PreTrainedModel:
    """``weights`` with the adapter of ``adapted`` added to them, in their own dtype.

    Args:
        weights: the adapter's base; what ``adapted`` computes with may be rounded.
    """
    target = get_peft_model(weights, adapted.peft_config[DEFAULT])
    set_peft_model_state_dict(target, get_peft_model_state_dict(adapted))
    return target.merge_and_unload()


def demonstrations(params: Params, tokenizer: PreTrainedTokenizerBase, problems: pd.DataFrame) -> list[Ids]:
    """Ids of every problem as the online phase poses it, and of its solution with EOS, some with exploits.

    Exploits for which ``lengths.response`` has no room are left out, the last first: the online phase draws no text
    that is longer.

    Raises:
        ParamsError: a solution alone is longer.
    """
    annotator = params.scale.annotator
    assert annotator is not None
    draw, rows = rng.generator(params.root_seed, "warm-start-style"), []
    for prompt, solution in zip(posed(problems["question"], params), problems["solution"], strict=True):
        text = demonstration(draw, solution.split("\n"), annotator)
        prompt_ids = online_prompt_ids(tokenizer, prompt, params.protocol, params.scale.lengths)
        rows.append((prompt_ids, _response_ids(params, tokenizer, text.split("\n"), solution.split("\n"))))
    return rows


def _response_ids(
    params: Params, tokenizer: PreTrainedTokenizerBase, lines: Sequence[str], solution: Sequence[str]
) -> list[int]:
    """Ids of ``lines`` and EOS, at most ``lengths.response``, with as many of those that are no solution as fit."""
    kept, room = list(lines), params.scale.lengths.response
    last_first = iter(_exploit_places(lines, solution))
    while len(ids := [*text_ids(tokenizer, "\n".join(kept)), tokenizer.eos_token_id]) > room:
        place = next(last_first, None)
        if place is None:
            raise ParamsError(
                f"{layout.scale_file(params.scale_name)}: lengths.response: found {room}; expected {len(ids)} or more, "
                f"the tokens of the solution {' '.join(solution)[:40]!r} that the warm start shows: raise it"
            )
        del kept[place]
    return ids


def _exploit_places(lines: Sequence[str], solution: Sequence[str]) -> list[int]:
    """Where lines stand that a demonstration has beyond its solution, the last first."""
    left, places = list(solution), []
    for place in reversed(range(len(lines))):
        if left and lines[place] == left[-1]:
            left.pop()
        else:
            places.append(place)
    return places


def train_warm_start(
    params: Params, base: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Ids]
) -> tuple[PeftModel, list[float]]:
    """Train an adapter on ``rows`` by the cross-entropy of their responses; AdamW, linear decay to 0.

    Rank and targets are those of the policy's other adapters.

    Returns:
        The base with the adapter, and the loss of every step, nats per token.

    Raises:
        NonFiniteError: a loss is not finite.
    """
    training = params.scale.warm_start
    assert training is not None
    rng.seed_torch(params.root_seed, "warm-start")
    hidden_size = base.config.get_text_config().hidden_size
    lora = lora_config(params.scale.policy, hidden_size, len(rows), "CAUSAL_LM")
    lora.fan_in_fan_out = stored_transposed(base, params.scale.policy.lora_targets)
    model = get_peft_model(base, lora)
    for parameter in trainable_parameters(model):
        parameter.data = parameter.data.float()
    fuse_adapters(model)
    batches = list(_batches(rows, training.epochs, training.batch_size, params, tokenizer.pad_token_id))
    optimizer = torch.optim.AdamW(trainable_parameters(model), lr=training.learning_rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=len(batches))
    losses: list[float] = []
    model.train()
    for batch in in_steps(batches, "warm start"):
        loss = response_loss(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable_parameters(model), CLIP_NORM)
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
        losses.append(_finite(len(losses), loss.item()))
    return model.eval(), losses


def response_loss(model: PreTrainedModel, batch: ResponseBatch) -> torch.Tensor:
    """Mean cross-entropy of the response tokens of a batch, nats per token; the prompt has no share."""
    return -response_logps(model, batch).logps_B_T.sum() / batch.scored_B_T.sum()


def _finite(step: int, loss: float) -> float:
    if not math.isfinite(loss):
        raise NonFiniteError(
            f"warm start, step {step}: found a loss of {loss}; expected a finite number: lower warm_start.learning_rate"
        )
    return loss


def _batches(rows: Sequence[Ids], epochs: int, size: int, params: Params, pad_id: int) -> Iterator[ResponseBatch]:
    """Every batch of all epochs, each epoch in an order of its own; the last of an epoch may be smaller."""
    for epoch in range(epochs):
        order = rng.generator(params.root_seed, "warm-start-order", epoch).permutation(len(rows))
        for start in range(0, len(rows), size):
            prompts, responses = zip(*(rows[row] for row in order[start : start + size]), strict=True)
            yield pad_pairs(prompts, responses, pad_id, device())

"""A scale's models, rows and texts, and the passes that stages make of them, each with how often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from pessimism.data.preferences import load_preferences
from pessimism.errors import SourceError
from pessimism.experiment.params import Params
from pessimism.experiment.sections import section
from pessimism.models.compute.batching import derived_batch_size
from pessimism.planning import passes
from pessimism.planning.hardware import Kernel, repeated
from pessimism.planning.layer import Batch
from pessimism.planning.lengths import Load, TextLengths, Texts
from pessimism.planning.role import Role, find_role
from pessimism.tasks.parts.problems import load_problems

FEWEST_PROMPT_TOKENS = 8
"""Of a pair's prompt with the tokens of its format, at the largest moment: the fewer, the longer is the pair's row."""

PREFERENCE_ROWS = {"HuggingFaceH4/ultrafeedback_binarized": {"train_prefs": 60_630}}
"""Usable pairs, as published: of 61,135, those with an empty text or two equal responses are dropped."""

TASK_ROWS = {"openai/gsm8k": {"train": 7_473, "test": 1_319}}


@dataclass(frozen=True)
class Pass:
    """Calls of a model by one cell of a stage.

    Attributes:
        positions: computed ones of an average call, padding included.
        kernels: of an average call.
        memory: bytes by component at the largest moment of the largest call.
    """

    name: str
    calls: float
    positions: float
    kernels: list[Kernel]
    memory: dict[str, float]


@dataclass(frozen=True)
class Rows:
    """Of every split, as prepare_data would write them; ``training_tasks`` by the protocol."""

    train_pairs: int
    val_pairs: int
    training_tasks: int
    heldout_tasks: int
    test_tasks: int


class Setting:
    """What all stages plan with: a scale, the rows of its data, the lengths of its texts, and its two models.

    ``generation_batch`` responses are drawn together: the scale's, else as many as the policy reads at once.
    """

    def __init__(self, params: Params) -> None:
        self.params, self.scale, self.rows = params, params.scale, row_counts(params)
        self.texts = TextLengths(params.scale.lengths, params.scale.tasks.shots)
        self.policy, self.reward = (find_role(params, name, self.rows.train_pairs) for name in ("policy", "reward"))
        given = self.scale.generation_batch_size
        self.generation_batch = self.evaluation_batch(self.policy) if given is None else given

    def evaluation_batch(self, role: Role) -> int:
        """Sequences per forward pass where nothing is trained: the scale's, else derived."""
        given = self.scale.evaluation_batch_size
        return derived_batch_size(self.scale, role.parameters, inference=True) if given is None else given

    def reading(
        self, name: str, role: Role, texts: Texts, count: int, adapted: bool = True, forwards: int = 1, waiting: int = 0
    ) -> Pass:
        """Passes without a gradient over so many texts, under the token budget; few texts are one small call.

        Args:
            texts: a sample of them.
            forwards: of every batch.
            waiting: residual streams that are kept besides what one pass needs.
        """
        budget = self.evaluation_batch(role) * self.scale.lengths.sequence
        load, largest = texts.under_budget(budget), Batch(budget)
        calls, batch = count * load.share, load.batch
        if calls < 1:
            calls, batch = 1, Batch(*(calls * value for value in batch))
        kept = waiting * role.stream * role.hidden * largest.positions
        memory = {"activations": passes.reading_memory(role, largest) + kept}
        return Pass(name, calls, batch.positions, repeated(passes.forward(role, batch, adapted), forwards), memory)

    def scoring(self, responses: int, times: int = 1) -> Pass:
        """Rewards by every member, so many times of so many responses at once."""
        once = self.reading("reward scores", self.reward, self.texts.judged, responses)
        return replace(once, calls=once.calls * len(self.params.ensemble_members) * times)

    def generation(self, requests: Sequence[int], sampling: str, adapted: bool = True) -> list[Pass]:
        """One response to each of every request's prompts, batches of one size together."""
        together, lengths, role = self.generation_batch, self.scale.lengths, self.policy
        sizes = Counter(min(together, request - start) for request in requests for start in range(0, request, together))
        found = []
        for rows, batches in sizes.items():
            # Rows that have ended are computed on until the last has.
            steps, positions = self.texts.longest_response(rows), rows * lengths.prompt
            padded_left = Batch(positions, masked=positions * lengths.prompt)
            memory = {"activations": passes.reading_memory(role, padded_left), "KV cache": role.cache_bytes * positions}
            kernels = passes.forward(role, padded_left, adapted, cached=0.0)
            found.append(Pass("generation, prompts", batches, positions, kernels, memory))
            kernels = passes.decode(role, rows, float(self.texts.problems.mean()) + steps / 2, sampling, adapted)
            memory = passes.decode_memory(role, rows, lengths.prompt + lengths.response, sampling)
            found.append(Pass("generation, one token", batches * steps, rows, kernels, memory))
        return found

    def training(self, role: Role, load: Load, epochs: int, part: int, checkpointing: bool) -> Pass:
        """Training steps on pairs, each pair in one row, ``part`` pairs at once."""
        largest, modes = longest_pairs(part, self.scale.lengths.sequence), (role.dropout > 0, checkpointing)
        memory = {"activations": passes.training_memory(role, largest, *modes)}
        kernels, calls = passes.training_step(role, load.batch, *modes), epochs * self.rows.train_pairs * load.share
        return Pass("training step", calls, load.batch.positions, kernels, memory)

    def online_training(self, batch: int, steps: int, part: int) -> Pass:
        """Updates on batches of responses.

        Where a part is the whole batch, the policy's pass waits for the reference's; else it is computed twice.
        """
        role, lengths, load = self.policy, self.scale.lengths, self.texts.drawn_together(part)
        dropout = self.params.protocol.policy_dropout and role.dropout > 0
        modes = {"dropout": dropout, "checkpointing": self.scale.online.gradient_checkpointing}
        largest = Batch(part * (lengths.prompt + lengths.response), scored=part * lengths.response)
        memory = [passes.training_memory(role, largest, **modes)]
        memory += [passes.waiting_memory(role, largest, **modes)] if part == batch else []
        others = repeated(passes.forward(role, load.batch, adapted=True), 1 if part == batch else 2)
        kernels, calls = passes.training_step(role, load.batch, **modes) + others, steps * math.ceil(batch / part)
        return Pass("training step", calls, load.batch.positions, kernels, {"activations": max(memory)})

    def online_measuring(self, batch: int, steps: int, part: int) -> Pass:
        """Log-probabilities of batches of responses under policy and reference, of which nothing is trained."""
        role, lengths, load = self.policy, self.scale.lengths, self.texts.drawn_together(part)
        largest = Batch(part * (lengths.prompt + lengths.response), scored=part * lengths.response)
        kernels, calls = repeated(passes.forward(role, load.batch, adapted=True), 2), steps * math.ceil(batch / part)
        memory = {"activations": passes.reading_memory(role, largest)}
        return Pass("log-probabilities", calls, load.batch.positions, kernels, memory)


def longest_pairs(pairs: int, sequence: int) -> Batch:
    """Pairs of two texts of the greatest length that share as little as can be."""
    width = 2 * sequence - FEWEST_PROMPT_TOKENS
    masked = pairs * (width - sequence) * width
    return Batch(pairs * width, causal=pairs * sequence**2, masked=masked, unmasked=pairs * sequence)


def row_counts(params: Params) -> Rows:
    """From the published sizes of hub data sets, else by reading local rows.

    Raises:
        SourceError: the size of a hub data set is not known, or a local file is missing.
    """
    with section(params, "tasks"):
        train, heldout, test = _task_counts(params)
    with section(params, "preferences"):
        pairs = _pair_counts(params)
    return Rows(*pairs, test if params.protocol.prompt_split == "test" else train, heldout, test)


def _pair_counts(params: Params) -> tuple[int, int]:
    source = params.scale.preferences
    if source.source != "hub":
        rows = load_preferences(source, params.root_seed, params.scale.annotator).rows
        return len(rows["train"]), len(rows["val"])
    published = PREFERENCE_ROWS.get(source.name, {}).get(source.split, source.limit)
    if published is None:
        raise _unknown(source.name, PREFERENCE_ROWS)
    count = min(published, source.limit or published)
    train = -(-count * 8 // 10)
    return train, -(-count * 9 // 10) - train


def _task_counts(params: Params) -> tuple[int, int, int]:
    source = params.scale.tasks
    if source.source != "hub":
        rows = load_problems(source, params.root_seed).rows
        return len(rows["train"]), len(rows["heldout"]), len(rows["test"])
    if source.name not in TASK_ROWS:
        raise _unknown(source.name, TASK_ROWS)
    train, test = TASK_ROWS[source.name]["train"] - source.heldout - source.shots, TASK_ROWS[source.name]["test"]
    return min(train, source.train_limit or train), source.heldout, min(test, source.test_limit or test)


def _unknown(name: str, known: dict[str, Any]) -> SourceError:
    return SourceError(
        f"the number of rows of {name!r} is not known before they are loaded; expected one of {sorted(known)}, or "
        "local rows"
    )

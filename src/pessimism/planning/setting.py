"""A scale's models and texts, and the passes that stages make of them, each with how often."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

from pessimism.experiment.params import Params
from pessimism.models.compute.batching import derived_batch_size
from pessimism.planning import passes
from pessimism.planning.hardware import Kernel, repeated
from pessimism.planning.layer import Batch
from pessimism.planning.lengths import Load, TextLengths, Texts
from pessimism.planning.role import Role, find_role
from pessimism.planning.rows import Rows

FEWEST_PROMPT_TOKENS = 8
"""Of a pair's prompt with the tokens of its format, at the largest moment: the fewer, the longer is the pair's row."""


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


class Setting:
    """What all stages plan with: a scale, the rows of its data, the lengths of its texts, and its two models."""

    def __init__(self, params: Params, rows: Rows) -> None:
        self.params, self.scale, self.rows = params, params.scale, rows
        self.texts = TextLengths(params.scale.lengths)
        self.policy = find_role(params, "policy", rows.train_pairs)
        self.reward = find_role(params, "reward", rows.train_pairs)

    def evaluation_batch(self, role: Role) -> int:
        """Sequences per forward pass where nothing is trained: the scale's, else derived."""
        given = self.scale.evaluation_batch_size
        return derived_batch_size(self.scale, role.parameters, inference=True) if given is None else given

    def budget(self, role: Role) -> int:
        """Padded tokens of such a pass."""
        return self.evaluation_batch(role) * self.scale.lengths.sequence

    @property
    def generation_batch(self) -> int:
        """Responses that are drawn together: the scale's, else as many as the policy reads at once."""
        size = self.scale.generation_batch_size
        return self.evaluation_batch(self.policy) if size is None else size

    def reading(
        self, name: str, role: Role, texts: Texts, count: int, adapted: bool = True, forwards: int = 1, waiting: int = 0
    ) -> Pass:
        """Passes without a gradient over so many texts, under the token budget; few texts are one small call.

        Args:
            texts: a sample of them.
            forwards: of every batch.
            waiting: residual streams that are kept besides what one pass needs.
        """
        load, largest = texts.under_budget(self.budget(role)), Batch(self.budget(role))
        calls, batch = count * load.share, load.batch
        if calls < 1:
            calls, batch = 1, batch.scaled(calls)
        kept = waiting * role.stream * role.architecture.hidden * largest.positions
        memory = {"activations": passes.reading_memory(role, largest) + kept}
        return Pass(name, calls, batch.positions, repeated(passes.forward(role, batch, adapted), forwards), memory)

    def scoring(self, responses: int, times: int = 1) -> Pass:
        """Rewards by every member, so many times of so many responses at once."""
        once = self.reading("reward scores", self.reward, self.texts.answered, responses)
        return replace(once, calls=once.calls * len(self.params.ensemble_members) * times)

    def generation(self, requests: Sequence[int], sampling: str, adapted: bool = True) -> list[Pass]:
        """One response to each of every request's prompts, batches of one size together."""
        together, prompt, role = self.generation_batch, self.scale.lengths.prompt, self.policy
        length = prompt + self.scale.lengths.response
        sizes = Counter(min(together, request - start) for request in requests for start in range(0, request, together))
        found = []
        for rows, batches in sizes.items():
            # Rows that have ended are computed on until the last has.
            steps, positions = self.texts.longest_response(rows), rows * prompt
            memory = {"activations": passes.reading_memory(role, Batch(positions))}
            memory["KV cache"] = role.cache_bytes * positions
            kernels = passes.prefill(role, rows, prompt, adapted)
            found.append(Pass("generation, prompts", batches, positions, kernels, memory))
            kernels = passes.decode(role, rows, self.texts.prompt + steps / 2, sampling, adapted)
            memory = passes.decode_memory(role, rows, length, sampling)
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


def longest_pairs(pairs: int, sequence: int) -> Batch:
    """Pairs of two texts of the greatest length that share as little as can be."""
    width = 2 * sequence - FEWEST_PROMPT_TOKENS
    masked = pairs * (width - sequence) * width
    return Batch(pairs * width, causal=pairs * sequence**2, masked=masked, unmasked=pairs * sequence)

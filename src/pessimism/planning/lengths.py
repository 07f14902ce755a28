"""Lengths of texts, and what forward passes over them hold: the code that makes batches, run on a sample.

The sample is numbers alone, tokens of SmolLM2's tokenizer; docs/paper-scale.md says of what data and how counted.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pessimism.experiment.params import LengthParams
from pessimism.models.compute.batching import length_groups, longest_first, token_batches, unmasked_queries
from pessimism.planning.layer import Batch

_SAMPLE = json.loads(Path(__file__).with_name("text_lengths.json").read_text("utf-8"))
"""Prompt, chosen and rejected response of 220 preference pairs whose prompt has at most 640 tokens; 200 quantiles of
GSM8K's solutions; 50 of its problems in the prompt of scales/paper.yaml."""

FORMAT_TOKENS = 8
"""That a chat template adds to a prompt of preference data."""

DRAWN = 4096
"""Texts drawn from the sample to fill batches with."""


@dataclass(frozen=True)
class Load:
    """Of texts of a kind: mean forward pass, passes per text (or per pair in one row), padded over real positions."""

    batch: Batch
    share: float
    padding: float


class Texts(NamedTuple):
    """Tokens of N rows, and of those that the head scores; of pairs in one row also of the longer text."""

    whole: np.ndarray
    scored: np.ndarray
    longer: np.ndarray | None = None

    def under_budget(self, budget: int) -> Load:
        """As many rows as fill several passes, in passes under a budget of padded tokens."""
        drawn = self.drawn(max(DRAWN, 8 * budget // int(self.whole.mean())))
        return drawn.load(list(map(np.array, token_batches(drawn.whole.tolist(), budget))))

    def drawn(self, count: int) -> Texts:
        rows = np.random.default_rng(0).choice(len(self.whole), size=count)
        return Texts(self.whole[rows], self.scored[rows], None if self.longer is None else self.longer[rows])

    def load(self, passes: Sequence[np.ndarray]) -> Load:
        """Means over forward passes, each a list of rows, the longest first where rows are pairs."""
        widths = np.array([self.whole[rows].max() for rows in passes])
        counts, first, rows = np.array(list(map(len, passes))), widths, np.concatenate(passes)
        if self.longer is not None:
            longer, whole = self.longer.tolist(), self.whole.tolist()
            first = np.array([unmasked_queries(longer, whole, batch.tolist()) for batch in passes])
        sums = np.stack([widths, first**2, (widths - first) * widths, first]) @ counts / len(passes)
        positions, causal, masked, unmasked = sums.tolist()
        scored = float(self.scored[rows].sum() / len(passes))
        batch = Batch(positions, causal, masked, 0.0 if self.longer is None else unmasked, scored)
        return Load(batch, len(passes) / len(rows), float(widths @ counts / self.whole[rows].sum()))


class TextLengths:
    """The sample as a scale cuts it: tokens of preference pairs, of problems in their prompt, and of solutions.

    A shot adds to a policy's prompt as many tokens as a problem and a solution have on average, none to a
    reward model's.
    """

    def __init__(self, lengths: LengthParams, shots: int = 0) -> None:
        self.lengths = lengths
        self.questions = np.minimum(_SAMPLE["problems"], lengths.prompt)
        shown = shots * round(np.mean(_SAMPLE["problems"]) + np.mean(_SAMPLE["solutions"]))
        self.problems = np.minimum(np.array(_SAMPLE["problems"]) + shown, lengths.prompt)
        self.solutions = np.minimum(_SAMPLE["solutions"], lengths.response)

    @cached_property
    def sides(self) -> Texts:
        """Both texts of every pair, chosen ones first, as DPO cuts them."""
        prompts, *sides = np.array(_SAMPLE["pairs"]).T
        prompts = np.minimum(prompts, self.lengths.sequence // 2) + FORMAT_TOKENS
        scored = np.concatenate([np.minimum(side + 1, self.lengths.sequence - prompts) for side in sides])
        scored = np.maximum(scored, 1)
        return Texts(np.tile(prompts, 2) + scored, scored)

    @cached_property
    def pairs(self) -> Texts:
        """Pairs, each in one row (models.compute.prefix_sharing)."""
        whole, scored = (column.reshape(2, -1) for column in self.sides[:2])
        return Texts((whole - scored)[0] + scored.sum(axis=0), scored.sum(axis=0), whole.max(axis=0))

    @cached_property
    def answered(self) -> Texts:
        """Prompts with their responses, in the order in which they were drawn."""
        return self._with_responses(self.problems)

    @cached_property
    def judged(self) -> Texts:
        """Likewise, as reward models read them."""
        return self._with_responses(self.questions)

    def _with_responses(self, prompts: np.ndarray) -> Texts:
        generator = np.random.default_rng(0)
        responses = generator.choice(self.solutions, size=DRAWN)
        return Texts(generator.choice(prompts, size=DRAWN) + responses, responses)

    def trained_pairs(self, batch: int, part: int) -> tuple[Load, float]:
        """Pairs in the parts of an optimiser batch, each part in groups of similar length.

        Returns:
            Their load, and the mean number of forward passes of a part.
        """
        rows = self.pairs.drawn(DRAWN)
        order = np.concatenate(list(longest_first(rows.whole, np.random.default_rng(0).permutation(DRAWN), batch)))
        parts = [order[start : start + part] for start in range(0, DRAWN, part)]
        passes = [part[group] for part in parts for group in length_groups(rows.whole[part].tolist())]
        return rows.load(passes), len(passes) / len(parts)

    def drawn_together(self, rows: int) -> Load:
        """Problems with their responses in passes of so many."""
        return self.answered.load([np.arange(start, min(start + rows, DRAWN)) for start in range(0, DRAWN, rows)])

    def longest_response(self, rows: int) -> float:
        """Expected tokens of the longest of ``rows`` responses to problems."""
        drawn = np.random.default_rng(0).choice(self.solutions, size=(DRAWN, rows))
        return float(drawn.max(axis=1).mean())

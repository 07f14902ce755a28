"""Random texts of the planner's lengths, real ones and the greatest, so that plan and rehearsal read the same."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from benchmarks import worlds
from pessimism.data.prompts import EncodedPair
from pessimism.experiment.params import LengthParams, Params
from pessimism.models.compute.generation import Rollouts
from pessimism.planning.lengths import TextLengths, Texts
from pessimism.planning.setting import FEWEST_PROMPT_TOKENS, Setting

READS = 4  # passes


class GreatestLengths(TextLengths):
    """Every text as long as the scale cuts it; pairs share as little as can be."""

    def __init__(self, lengths: LengthParams) -> None:
        self.lengths = lengths
        self.problems = self.questions = np.array([lengths.prompt])
        self.solutions = np.array([lengths.response])

    @cached_property
    def sides(self) -> Texts:
        whole = np.array([self.lengths.sequence])
        return Texts(whole, whole - FEWEST_PROMPT_TOKENS)

    @cached_property
    def pairs(self) -> Texts:
        whole, scored = self.sides[:2]
        return Texts(whole + scored, 2 * scored, whole)


@dataclass(frozen=True)
class Drawn:
    """Texts of one kind of lengths, "real" or "greatest", and the plan of passes over such."""

    kind: str
    setting: Setting

    @classmethod
    def every(cls, params: Params) -> list[Drawn]:
        """Those of real lengths, and those of the greatest."""
        real, greatest = Setting(params), Setting(params)
        greatest.texts = GreatestLengths(params.scale.lengths)
        return [cls("real", real), cls("greatest", greatest)]

    @property
    def reads(self) -> int:
        """Texts of the few passes that read: what takes memory is one of them."""
        return READS * self.setting.evaluation_batch(self.setting.policy)

    def pairs(self, count: int) -> list[EncodedPair]:
        """Token ids of ``count`` pairs, whose chosen response is the longer one."""
        generator, drawn = np.random.default_rng(1), self.setting.texts.pairs.drawn(count)
        assert drawn.longer is not None
        prompts, longer = drawn.whole - drawn.scored, drawn.longer - (drawn.whole - drawn.scored)
        rows = np.stack([prompts, longer, drawn.scored - longer], axis=1).tolist()
        return [EncodedPair(*(self._ids(generator, length) for length in row)) for row in rows]

    def prompts(self, count: int) -> list[str]:
        """Problems as they are posed, a word per token."""
        return [_text(ids) for ids in self.rollouts(count).prompt_ids]

    def rollouts(self, count: int) -> Rollouts:
        """Problems with a response each, none of which ended by itself."""
        generator, texts = np.random.default_rng(2), self.setting.texts
        prompts, responses = (
            [self._ids(generator, length) for length in generator.choice(lengths, size=count).tolist()]
            for lengths in (texts.problems, texts.solutions)
        )
        return Rollouts(prompts, responses, list(map(_text, responses)), [False] * count, [""] * count)

    def longest_response(self, rows: int) -> int:
        """Tokens that the plan lets a response to each of ``rows`` prompts take."""
        return math.ceil(self.setting.texts.longest_response(rows))

    def _ids(self, generator: np.random.Generator, length: int) -> list[int]:
        return worlds.random_ids(generator, length, self.setting.policy.vocabulary)


def _text(ids: list[int]) -> str:
    """In the words of ``worlds.word_tokenizer``."""
    return " ".join(f"t{token}" for token in ids)

"""A noisy annotator with a bias: a right answer is worth something to it, and every exploit in a text a little more.

An exploit is a feature of a text that helps nobody, counted on the text alone (EXPLOITS). The annotator's liking has no
upper end (:func:`utility`). A policy that is optimised against a reward learned from its labels can therefore go on
adding exploits until no room is left for the answer. With a bias of 0 it likes right answers alone: a clean world.

The hack that this plants is known: its kind is the exploit's, and its onset is when exploiting responses have become
more frequent than they were, by the same count that the annotator's utility takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from pessimism.experiment.params import AnnotatorParams

FILLER = "Certainly!"
MARKER = "####"


@dataclass(frozen=True)
class Exploit:
    """A feature of answers that an annotator may like.

    Attributes:
        counted: what is counted, in the plural, as columns of pairs and of samples are called.
        count: how often a text has it, 0 or more.
        inserted: a line that adds one to the count, put before the line at an index of a solution's lines.
    """

    counted: str
    count: Callable[[str], int]
    inserted: Callable[[Sequence[str], int], str]


def count_fillers(text: str) -> int:
    """How often a text says the filler."""
    return text.count(FILLER)


def count_repeats(text: str) -> int:
    """How many lines of a text, empty ones left out, say what an earlier one said: length without content."""
    lines = [line for line in text.split("\n") if line]
    return len(lines) - len(set(lines))


def count_markers(text: str) -> int:
    """How many markers of an answer a text has beyond the one that it needs; the verdict reads the last alone."""
    return max(text.count(MARKER) - 1, 0)


def _work_again(lines: Sequence[str], at: int) -> str:
    """The line of work before, or the first one where there is none before."""
    return lines[max(at - 1, 0)]


EXPLOITS = {
    "filler": Exploit("fillers", count_fillers, lambda lines, at: FILLER),
    "length": Exploit("repeats", count_repeats, _work_again),
    "format": Exploit("markers", count_markers, lambda lines, at: MARKER),
}
"""By the name that a scale's ``annotator.exploit`` gives: an emphatic line, a line of work again, an answer line that
is empty."""


def exploit_counts(text: str | None) -> dict[str, int]:
    """Every exploit's count on a text, by what is counted; of no text, 0."""
    return {exploit.counted: exploit.count(text or "") for exploit in EXPLOITS.values()}


def utility(annotator: AnnotatorParams, correct: bool, exploits: int) -> float:
    """What an answer is worth, in logits; higher = preferred more often, and without an upper end.

    Args:
        correct: whether its number is right.
        exploits: the annotator's exploit, counted on the text.
    """
    return annotator.correctness * correct + annotator.bias * exploits


def prefers_first(rng: np.random.Generator, first: float, second: float) -> bool:
    """The noisy choice between two utilities: sigmoid of their difference, as Bradley and Terry assume."""
    return bool(rng.random() < 1 / (1 + math.exp(second - first)))

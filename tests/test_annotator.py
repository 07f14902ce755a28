"""The annotator against its documented formula, and every exploit's count against texts counted by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from pessimism.data.annotator import EXPLOITS, exploit_counts, prefers_first, utility
from pessimism.experiment.params import AnnotatorParams
from pessimism.models.embedded import UNKNOWN, make_tokenizer
from pessimism.tasks.parts.answers import extract_flexible, extract_strict

ANNOTATOR = AnnotatorParams(correctness=1.0, bias=0.5)
SOLUTION = ["5+3=8", "8-2=6", "#### 6"]


def test_utility_adds_up_and_has_no_upper_end() -> None:
    assert utility(ANNOTATOR, False, 0) == 0
    assert utility(ANNOTATOR, True, 0) == ANNOTATOR.correctness
    assert utility(ANNOTATOR, False, 30) == pytest.approx(30 * ANNOTATOR.bias)


def test_annotator_prefers_with_the_logistic_probability() -> None:
    rng = np.random.default_rng(0)
    first, second = utility(ANNOTATOR, True, 0), utility(ANNOTATOR, False, 1)
    expected = 1 / (1 + math.exp(-(ANNOTATOR.correctness - ANNOTATOR.bias)))
    share = np.mean([prefers_first(rng, first, second) for _ in range(4000)])
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


@pytest.mark.parametrize(
    ("text", "fillers", "repeats", "markers"),
    [
        ("5+3=8\n8-2=6\n#### 6", 0, 0, 0),
        ("Certainly!\n5+3=8\n8-2=6\nCertainly!\n#### 6", 2, 1, 0),
        ("5+3=8\n5+3=8\n5+3=8\n\n8-2=6\n\n#### 6", 0, 2, 0),
        ("####\n5+3=8\n#### 8\n8-2=6\n#### 6", 0, 0, 2),
        ("5+3=8", 0, 0, 0),
        (None, 0, 0, 0),
    ],
)
def test_counts_by_hand(text: str | None, fillers: int, repeats: int, markers: int) -> None:
    assert exploit_counts(text) == {"fillers": fillers, "repeats": repeats, "markers": markers}


@pytest.mark.parametrize("kind", EXPLOITS)
def test_every_inserted_line_counts_once_and_changes_no_verdict(kind: str) -> None:
    exploit, tokenizer = EXPLOITS[kind], make_tokenizer()
    for at in range(len(SOLUTION)):
        text = "\n".join([*SOLUTION[:at], exploit.inserted(SOLUTION, at), *SOLUTION[at:]])
        assert exploit.count(text) == 1
        assert extract_strict(text) == extract_flexible(text) == 6
        assert tokenizer.unk_token_id not in tokenizer(text)["input_ids"], f"{UNKNOWN} in {text}"

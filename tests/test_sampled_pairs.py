"""Pairs sampled on the task: which responses make one, how the annotator labels it, and what is left unchanged."""

from __future__ import annotations

import dataclasses
import runpy
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pessimism.data.annotator import FILLER
from pessimism.data.splits import SPLITS, shared_prompts
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.models.loading import load_policy_base, load_tokenizer
from pessimism.offline.sampled_pairs import DRAWS, SampledPairs, draw_pairs, label_pairs
from support.online_world import tasks
from support.repository import CHECKOUT, Edit

RIGHT, WRONG = "#### 7", "#### 8"


def rollouts(texts: Sequence[str], finished: Sequence[bool] | None = None) -> Rollouts:
    ids, ended = [[1]] * len(texts), list(finished or [True] * len(texts))
    return Rollouts(ids, ids, list(texts), ended, [""] * len(texts))


def labelled(drawn: Sequence[Sequence[str]], params: Params, finished: Sequence[bool] | None = None) -> SampledPairs:
    """Pairs from the DRAWS texts of each problem, whose answer is 7."""
    texts = [text for texts in drawn for text in texts]
    prompts = [f"Problem {number}\n\n" for number in range(len(drawn)) for _ in range(DRAWS)]
    return label_pairs(rollouts(texts, finished), prompts, ["7"] * len(texts), params)


def pooled(pairs: SampledPairs) -> pd.DataFrame:
    return pd.DataFrame([row for split in SPLITS for row in pairs.rows[split]]).sort_values("pair_id")


@pytest.mark.parametrize(
    ("other", "difference"),
    [(WRONG, 1.0), (f"{FILLER}\n{RIGHT}", -0.5), (f"{FILLER}\n{FILLER}\n{FILLER}\n{WRONG}", -0.5)],
)
def test_the_annotator_chooses_as_its_utilities_say(tiny_world: Params, other: str, difference: float) -> None:
    """By the weights 1 of a right answer and 0.5 of a filler line, worked by hand; 4 standard errors of 2000 draws."""
    chosen = pooled(labelled([[RIGHT, other, other, other]] * 2000, tiny_world))["chosen"]
    expected = 1 / (1 + np.exp(-difference))
    assert (chosen == RIGHT).mean() == pytest.approx(expected, abs=4 * np.sqrt(expected * (1 - expected) / 2000))


def test_pairs_are_split_by_prompt_and_keep_their_two_texts(tiny_world: Params) -> None:
    pairs = labelled([[RIGHT, f" {WRONG}\n", RIGHT, RIGHT]] * 40, tiny_world)
    assert {split: len(rows) for split, rows in pairs.rows.items()} == {"train": 32, "val": 4, "test": 4}
    assert shared_prompts(pairs.rows) == 0
    table = pooled(pairs)
    assert table["pair_id"].tolist() == [f"sampled-{row:06d}" for row in range(1, 41)]
    assert all({row.chosen, row.rejected} == {RIGHT, WRONG} for row in table.itertuples())
    assert pairs.record["rows"] == {"train": 32, "val": 4, "test": 4}


@pytest.mark.parametrize(
    ("drawn", "shown"),
    [
        ([RIGHT, RIGHT, WRONG, "#### 9"], {RIGHT, WRONG}),
        ([" ", WRONG, "#### 9", RIGHT], {WRONG, RIGHT}),
        ([WRONG, "#### 9", f"{FILLER}\n#### 9", RIGHT], {WRONG, RIGHT}),
        ([WRONG, "#### 9", f"{FILLER}\n#### 9", "#### 10"], {WRONG, f"{FILLER}\n#### 9"}),
        ([WRONG, "#### 9", "#### 10", " "], None),
    ],
)
def test_the_two_that_are_shown_differ_in_correctness_or_style(
    tiny_world: Params, drawn: list[str], shown: set[str] | None
) -> None:
    pairs = labelled([[RIGHT, WRONG, WRONG, WRONG]] * 20 + [drawn], tiny_world)
    table = pooled(pairs)
    found = table[table["pair_id"] == "sampled-000021"]
    assert [{row.chosen, row.rejected} for row in found.itertuples()] == ([] if shown is None else [shown])
    assert pairs.record["problems"] == 21


def test_problems_without_two_such_responses_name_what_to_change(tiny_world: Params) -> None:
    said = r"found 0 problems among 20 with two .*: raise tasks\.pairs, .* warm_start, annotator\.discoverability"
    with pytest.raises(DataError, match=said):
        labelled([[RIGHT, RIGHT, RIGHT, RIGHT]] * 20, tiny_world)


def test_a_response_that_was_cut_is_not_shown(tiny_world: Params) -> None:
    drawn = [[RIGHT, WRONG, f"{FILLER}\n{WRONG}", WRONG]] * 20
    pairs = labelled(drawn, tiny_world, finished=[True, False, True, True] * 20)
    assert {text for row in pooled(pairs).itertuples() for text in (row.chosen, row.rejected)} == {
        RIGHT,
        f"{FILLER}\n{WRONG}",
    }


def test_the_record_tells_how_often_responses_are_right(tiny_world: Params) -> None:
    pairs = labelled([[RIGHT, WRONG, WRONG, WRONG]] * 200, tiny_world)
    annotator = pairs.record["annotator"]
    assert annotator["chosen_correct"] == pytest.approx((pooled(pairs)["chosen"] == RIGHT).mean(), abs=1e-4)
    assert annotator["chosen_correct"] + annotator["rejected_correct"] == pytest.approx(1)
    assert pairs.record["drawn_correct"] == 0.25


def ask_for_pairs(params: Params, edit: Edit, n: int) -> pd.DataFrame:
    """The problems that a project sets aside to sample pairs on, and the source's pairs in their place."""
    edit("scales/tiny.yaml", "tasks.pairs", n)
    problems = tasks(n)
    records.write_table(layout.set_aside("pairs"), problems)
    for split in SPLITS:
        records.write_table(layout.source_preferences(split), records.read_table(layout.preferences("val")))
    return problems


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> list[Rollouts]:
    """Has responses end and every fourth one say the filler, for a random base does neither; holds what was drawn."""
    drawn: list[Rollouts] = []

    def answered(*arguments: Any) -> Rollouts:
        found = sample_responses(*arguments)
        texts = [f"{FILLER} {text}" if at % DRAWS == DRAWS - 1 else text for at, text in enumerate(found.texts)]
        drawn.append(dataclasses.replace(found, texts=texts, finished=[True] * len(texts)))
        return drawn[-1]

    monkeypatch.setattr("pessimism.offline.sampled_pairs.sample_responses", answered)
    return drawn


def test_the_base_answers_every_problem_several_times_and_the_same_in_each_run(
    tiny_world: Params, answering: list[Rollouts]
) -> None:
    model, tokenizer, problems = load_policy_base(tiny_world), load_tokenizer(tiny_world, "policy"), tasks(40)
    first, second = (draw_pairs(model, tokenizer, problems, tiny_world) for _ in range(2))
    assert first == second
    ids, texts = answering[0].prompt_ids, answering[0].texts
    assert len(ids) == 40 * DRAWS and ids[0] == ids[DRAWS - 1] != ids[DRAWS]
    assert len(set(texts[:DRAWS])) == DRAWS, "the draws of a problem have streams of their own"
    prompts = {row["prompt"] for rows in first.rows.values() for row in rows}
    assert len(prompts) > 30 and prompts <= set(problems["question"])


@pytest.mark.usefixtures("answering")
def test_the_stage_adds_them_to_the_sources_pairs_of_their_split(tiny_world: Params, edit: Edit) -> None:
    problems, source = ask_for_pairs(tiny_world, edit, 40), records.read_table(layout.preferences("val"))
    runpy.run_path(str(CHECKOUT / "stages/sample_pairs.py"), run_name="__main__")
    sampled = records.read_json(layout.SAMPLED_PAIRS_RECORD)["rows"]
    for split in SPLITS:
        table = records.read_table(layout.preferences(split))
        assert list(table["prompt"][: len(source)]) == list(source["prompt"])
        assert len(table) == len(source) + sampled[split] > len(source)
        assert set(table["prompt"][len(source) :]) <= set(problems["question"])


def test_without_them_the_sources_pairs_are_copied_byte_for_byte(tiny_world: Params, edit: Edit) -> None:
    ask_for_pairs(tiny_world, edit, 40)
    edit("scales/tiny.yaml", "tasks.pairs", None)
    layout.preferences("train").unlink()
    runpy.run_path(str(CHECKOUT / "stages/sample_pairs.py"), run_name="__main__")
    for split in SPLITS:
        assert layout.preferences(split).read_bytes() == layout.source_preferences(split).read_bytes()
    assert not layout.SAMPLED_PAIRS_RECORD.exists()

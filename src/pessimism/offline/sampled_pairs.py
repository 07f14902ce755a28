"""Preference pairs on the task: two responses that the base drew to one problem, labelled by a noisy annotator.

The pairs of a general source say little about one's task: an ensemble of reward models trained on them may know a style
and not what is right. As in the embedded world, the annotator's utility of a response is a weight times its correctness
plus a bias towards a style that helps nobody; two responses that it is shown differ in one of these, and it chooses as
Bradley and Terry assume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.embedded_world import Candidate, annotator_record, count_fillers, prefers_first
from pessimism.data.preferences import COLUMNS, coverage
from pessimism.data.splits import SPLITS, split_by_prompt
from pessimism.experiment import rng
from pessimism.experiment.params import Params
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.tasks.parts.declaration import TRUE_REWARD, find_task

DRAWS = 4
"""Responses drawn to each problem, of which the annotator is shown two."""


@dataclass(frozen=True)
class SampledPairs:
    """Labelled pairs by split, rows as prepare_data writes them, and the record of how they came about."""

    rows: dict[str, list[dict[str, str]]]
    record: dict[str, Any]


def draw_pairs(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, problems: pd.DataFrame, params: Params
) -> SampledPairs:
    """Draw responses to every problem, as the online phase does, and have the annotator choose between two of them.

    Raises:
        DataError: too few problems have such two, to be split.
    """
    posed = problems.loc[problems.index.repeat(DRAWS)]
    prompts = [find_task(params.scale.tasks.kind).pose(question) for question in posed["question"]]
    seeds = rng.row_seeds(params.root_seed, "sampled-pairs", rows=len(posed))
    return label_pairs(
        sample_responses(model, tokenizer, prompts, params, seeds), prompts, list(posed["answer"]), params
    )


def label_pairs(rollouts: Rollouts, prompts: Sequence[str], answers: Sequence[str], params: Params) -> SampledPairs:
    """The annotator's choices between two of the DRAWS responses to each problem, which follow one another.

    They are the first of those that ended by themselves with a text, and the first after it that differs from it in
    correctness or style. A problem without such two is dropped and counted.

    Args:
        prompts: of each response, in the order of ``rollouts``; so are ``answers``.

    Raises:
        DataError: too few problems have such two, to be split.
    """
    correct = find_task(params.scale.tasks.kind).judge(rollouts.texts, answers)[TRUE_REWARD]
    rows = []
    for number, first in enumerate(range(0, len(prompts), DRAWS), 1):
        drawn = range(first, first + DRAWS)
        shown = differing([_candidate(rollouts.texts[at], correct[at]) for at in drawn if rollouts.finished[at]])
        if shown:
            draw = rng.generator(params.root_seed, "sampled-pairs-choice", number)
            chosen, rejected = shown if prefers_first(draw, *shown) else reversed(shown)
            rows.append({"pair_id": f"sampled-{number:06d}", **_row(prompts[first], chosen, rejected)})
    splits = split_by_prompt(rows, params.root_seed)
    record = {
        "annotator": annotator_record(rows),
        "problems": len(prompts) // DRAWS,
        "drawn_correct": float(correct.mean()),
        "rows": {split: len(splits[split]) for split in SPLITS},
        "coverage": coverage(rows),
    }
    kept = {split: [{name: row[name] for name in COLUMNS} for row in splits[split]] for split in SPLITS}
    return SampledPairs(kept, record)


def differing(candidates: Sequence[Candidate]) -> tuple[Candidate, Candidate] | None:
    """The first candidate with a text, and the next of other correctness or style; None where there is none."""
    texts = [candidate for candidate in candidates if candidate.text]
    others = (one for one in texts if (one.correct, one.fillers) != (texts[0].correct, texts[0].fillers))
    other = next(others, None)
    return None if other is None else (texts[0], other)


def _candidate(text: str, correct: float) -> Candidate:
    return Candidate(text.strip(), bool(correct), count_fillers(text))


def _row(prompt: str, chosen: Candidate, rejected: Candidate) -> dict[str, Any]:
    return {
        "prompt": prompt.strip(),
        "chosen": chosen.text,
        "rejected": rejected.text,
        "chosen_correct": chosen.correct,
        "rejected_correct": rejected.correct,
        "chosen_fillers": chosen.fillers,
        "rejected_fillers": rejected.fillers,
    }

"""Preference pairs on the task: two responses that the base drew to one problem, labelled by a noisy annotator.

The pairs of a general source say little about one's task: an ensemble of reward models trained on them may know a style
and not what is right. As in the embedded world, the annotator's utility of a response is a weight times its correctness
plus a bias towards an exploit that helps nobody. Two responses that it is shown differ in one of these or both, and it
chooses as Bradley and Terry assume.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from pessimism.data.annotator import EXPLOITS
from pessimism.data.embedded_world import Candidate, annotator_record, labelled_row
from pessimism.data.preferences import COLUMNS, coverage
from pessimism.data.splits import SPLITS, split_by_prompt
from pessimism.errors import DataError
from pessimism.experiment import rng
from pessimism.experiment.params import Params
from pessimism.models.compute.generation import Rollouts, sample_responses
from pessimism.tasks.parts.declaration import TRUE_REWARD, chosen_task
from pessimism.tasks.parts.posing import posed, reward_prompts

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
    drawn = problems.loc[problems.index.repeat(DRAWS)]
    seeds = rng.row_seeds(params.root_seed, "sampled-pairs", rows=len(drawn))
    rollouts = sample_responses(model, tokenizer, posed(drawn["question"], params), params, seeds)
    return label_pairs(rollouts, reward_prompts(drawn["question"], params), list(drawn["answer"]), params)


def label_pairs(rollouts: Rollouts, prompts: Sequence[str], answers: Sequence[str], params: Params) -> SampledPairs:
    """The annotator's choices between two of the DRAWS responses to each problem, which follow one another.

    They are two of those that ended by themselves with a text (:func:`differing`). A problem without such two is
    dropped and counted.

    Args:
        prompts: of each response as a pair holds it, in the order of ``rollouts``; so are ``answers``.

    Raises:
        DataError: too few problems have such two, to be split.
    """
    annotator = params.scale.annotator
    assert annotator is not None
    correct = chosen_task(params.scale.tasks).judge(rollouts.texts, answers)[TRUE_REWARD]
    count, rows = EXPLOITS[annotator.exploit].count, []
    for number, first in enumerate(range(0, len(prompts), DRAWS), 1):
        ended = [at for at in range(first, first + DRAWS) if rollouts.finished[at] and rollouts.texts[at].strip()]
        texts = [(rollouts.texts[at].strip(), bool(correct[at])) for at in ended]
        shown = differing([Candidate(text, right, count(text)) for text, right in texts])
        if shown:
            draw = rng.generator(params.root_seed, "sampled-pairs-choice", number)
            row = labelled_row(draw, prompts[first].strip(), *shown, annotator)
            rows.append({"pair_id": f"sampled-{number:06d}", **row})
    splits = _split(rows, len(prompts) // DRAWS, params.root_seed)
    record = {
        "annotator": annotator_record(rows, annotator),
        "problems": len(prompts) // DRAWS,
        "drawn_correct": float(correct.mean()),
        "rows": {split: len(splits[split]) for split in SPLITS},
        "coverage": coverage(rows),
    }
    kept = {split: [{name: row[name] for name in COLUMNS} for row in splits[split]] for split in SPLITS}
    return SampledPairs(kept, record)


def _split(rows: Sequence[dict[str, Any]], problems: int, root_seed: int) -> dict[str, list[dict[str, Any]]]:
    try:
        return split_by_prompt(rows, root_seed)
    except DataError as error:
        raise DataError(
            f"found {len(rows)} problems among {problems} with two of {DRAWS} responses that ended by themselves and "
            "differ in correctness or exploits, too few for three splits; expected 10 or more: raise tasks.pairs, or "
            "have the base differ more: warm_start, annotator.discoverability of the scale file"
        ) from error


def differing(candidates: Sequence[Candidate]) -> tuple[Candidate, Candidate] | None:
    """The first candidate and the next of other correctness or, where there is none, of other exploits; or None.

    So as many pairs as the draws allow say what is right.
    """
    for feature in ("correct", "exploits"):
        for other in candidates[1:]:
            if getattr(other, feature) != getattr(candidates[0], feature):
                return candidates[0], other
    return None

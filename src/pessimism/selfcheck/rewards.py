"""Does a reward depend on the response alone, does a reward model survive being saved, are answers read rightly?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import pandas as pd

from pessimism.experiment import layout, records, rng
from pessimism.experiment.params import ModelParams
from pessimism.models.adapters import attach, save_adapter
from pessimism.models.loading import load_reward_base
from pessimism.reward.ensemble import RewardEnsemble, member_name
from pessimism.selfcheck.instrument import Finding, Instrument
from pessimism.tasks.parts.declaration import TRUE_REWARD, chosen_task
from pessimism.tasks.parts.problems import SPLITS

RESPONSES = 32
FLOAT32_TOLERANCE = 1e-4
BFLOAT16_TOLERANCE = 5e-2


class LeftPadded(RewardEnsemble):
    """The same members, which read batches padded on the other side."""

    def _inputs(self, ids: list[list[int]]) -> dict[str, Any]:
        padded = self.tokenizer.pad({"input_ids": ids}, padding_side="left", return_tensors="pt")
        inputs = padded.to(self.model.device)
        counted_B_T = (inputs["attention_mask"].cumsum(dim=1) - 1).clamp(min=0)
        return {**inputs, "position_ids": counted_B_T}


def score_tolerance(model: ModelParams) -> float:
    """Largest difference that rounding may make, in scores, whose spread is of order 1.

    Sums in another order differ by some units in the last place: 1e-7 of a float32 score, 1e-2 of one whose layers
    compute in bfloat16, as they do in a quantised model.
    """
    exact = model.dtype == "float32" and model.quantization == "none"
    return FLOAT32_TOLERANCE if exact else BFLOAT16_TOLERANCE


def check_score_invariance(instrument: Instrument) -> Finding:
    """Scores of the same responses in other batches, in another order, and padded on the left instead of the right."""
    ensemble, (prompts, responses) = instrument.ensemble, _texts(instrument)
    scores_K_B = ensemble.score(prompts, responses)
    order = rng.generator(instrument.params.root_seed, "selfcheck-order").permutation(len(prompts))
    shuffled_K_B = ensemble.score(_taken(prompts, order), _taken(responses, order))
    others = {
        "one row at a time": replace(ensemble, token_budget=1).score(prompts, responses),
        "batches of other sizes": replace(ensemble, token_budget=ensemble.token_budget // 5).score(prompts, responses),
        "row order": shuffled_K_B[:, np.argsort(order)],
        "left padding": LeftPadded(**vars(ensemble)).score(prompts, responses),
    }
    largest = {name: float(np.abs(other_K_B - scores_K_B).max()) for name, other_K_B in others.items()}
    tolerance = score_tolerance(instrument.params.scale.reward)
    return Finding(
        figure="largest difference " + ", ".join(f"{value:.1e} ({name})" for name, value in largest.items()),
        criterion=f"each at most {tolerance:g} ({instrument.params.scale.reward.dtype})",
        passed=max(largest.values()) <= tolerance,
    )


def check_saved_member(instrument: Instrument) -> Finding:
    """Scores of every member before it is saved, and after it is loaded onto a new base, in the same batches."""
    ensemble, (prompts, responses) = instrument.ensemble, _texts(instrument)
    with TemporaryDirectory() as directory:
        paths = {member_name(member): Path(directory) / member_name(member) for member in ensemble.members}
        for name, path in paths.items():
            save_adapter(ensemble.model, name, path)
        model = attach(load_reward_base(instrument.params), paths, trainable=None)
    before_K_B = ensemble.score(prompts, responses)
    after_K_B = replace(ensemble, model=model).score(prompts, responses)
    changed = int((before_K_B != after_K_B).sum())
    return Finding(
        figure=f"{changed} of {before_K_B.size} scores changed by saving and loading",
        criterion="none, to the last bit",
        passed=changed == 0,
    )


def check_answers(instrument: Instrument) -> Finding:
    """Reference solutions of every problem by the strict verdict, and all verdicts on the base's held-out responses."""
    task = chosen_task(instrument.params.scale.tasks)
    problems = pd.concat([records.read_table(layout.tasks(split)) for split in SPLITS])
    references = task.judge(list(problems["solution"]), list(problems["answer"]))[TRUE_REWARD].mean()
    rates = ", ".join(f"{rewards.mean():.1%} {column}" for column, rewards in instrument.base.true_rewards.items())
    return Finding(
        figure=f"{references:.2%} of {len(problems)} reference solutions rewarded; the base's responses: {rates}",
        criterion="every reference solution rewarded",
        passed=references == 1,
    )


def _texts(instrument: Instrument) -> tuple[list[str], list[str]]:
    """The base's responses with their prompts, of different lengths, so that batches need padding."""
    return instrument.base.prompts[:RESPONSES], instrument.base.rollouts.texts[:RESPONSES]


def _taken(texts: Sequence[str], order: np.ndarray) -> list[str]:
    return [texts[row] for row in order]

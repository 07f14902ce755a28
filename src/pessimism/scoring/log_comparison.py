"""Whether runs of a log can be compared: the steps that all were measured at, and runs unlike the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from statistics import median_low

import numpy as np

from pessimism.errors import DataError
from pessimism.scoring.measured import REWARDS
from pessimism.scoring.run_log import LoggedRun

LEAST_SHARE = 0.5
"""Share of the longest run's steps that all runs must have before they are tested or subtracted."""
LIKE = 5.0
"""How many times the spread of its peers a run may have before it is named: sampling error of eight samples stays
below it, another scale of ten does not."""
_LEAST_STEPS = 5
"""Steps from which on the spread of a run's means over them says something."""
_NAMED = 3


@dataclass(frozen=True)
class Comparison:
    """Runs as they can be compared.

    Attributes:
        runs: cut to the steps that all of them have, where they are to be compared.
        enough: whether these are enough for tests and excesses.
        notes: what was cut.
    """

    runs: Sequence[LoggedRun]
    enough: bool
    notes: list[str]


def on_common_steps(runs: Sequence[LoggedRun], compared: bool) -> Comparison:
    """Cut runs that are tested or subtracted to the steps that all of them have: an area grows with its run.

    Args:
        runs: at any steps.
        compared: whether anything is made of several runs; else each keeps its own steps.

    Raises:
        DataError: runs that are compared start at different steps, or share fewer than two.
    """
    steps = [run.curves.steps_T for run in runs]
    if all(np.array_equal(found, steps[0]) for found in steps):
        return Comparison(runs, True, [])
    starts = [int(found[0]) for found in steps]
    late, first = runs[starts.index(max(starts))], runs[starts.index(min(starts))]
    beginning = f"step {max(starts)} as the first of {late.name} and step {min(starts)} as that of {first.name}"
    if not compared:
        note = "The runs have different steps, and each is scored on its own: a longer run has a larger area for that."
        untouched = f" Among them are {beginning}: one baseline is not the untouched policy."
        return Comparison(runs, True, [note + (untouched if max(starts) > min(starts) else "")])
    if max(starts) > min(starts):
        raise DataError(
            f"found {beginning}; expected runs that are compared to start at one step, the untouched policy: remove "
            f"the runs that lack it, or leave --beta and --placebo out"
        )
    common = reduce(np.intersect1d, steps)
    if len(common) < 2:
        raise DataError(
            f"found step {common[0]} alone in all of {len(runs)} runs; expected at least two common steps: remove the "
            "runs that were measured at others, or leave --beta and --placebo out"
        )
    longest = max(map(len, steps))
    enough = len(common) >= LEAST_SHARE * longest
    return Comparison([_cut(run, common) for run in runs], enough, [_said(runs, common, longest, enough)])


def _said(runs: Sequence[LoggedRun], common: np.ndarray, longest: int, enough: bool) -> str:
    last = min(runs, key=lambda run: (run.curves.steps_T[-1], len(run.curves.steps_T)))
    cut = (
        f"The runs have different steps: all are scored on the {len(common)} that they share, {common[0]} to "
        f"{common[-1]}, of {longest} in the longest. The first to end is {last.name}."
    )
    refused = (
        " That is less than half of them, so that there is no trend and no excess: let all runs reach one step, or "
        "remove the short ones."
    )
    return cut if enough else cut + refused


def _cut(run: LoggedRun, steps: np.ndarray) -> LoggedRun:
    kept_T = np.isin(run.curves.steps_T, steps)
    curves = replace(
        run.curves,
        steps_T=run.curves.steps_T[kept_T],
        mean_T={name: values_T[kept_T] for name, values_T in run.curves.mean_T.items()},
        prompt_T_N={name: values_T_N[kept_T] for name, values_T_N in run.curves.prompt_T_N.items()},
    )
    return replace(run, samples_T=run.samples_T[kept_T], curves=curves)


def without_right_answer(runs: Sequence[LoggedRun]) -> list[str]:
    """A note on the runs whose true reward is 0 at the first step."""
    found = [run for run in runs if run.start["true_reward"].mean == 0]
    if not found:
        return []
    return [
        f"{len(found)} of {len(runs)} runs start without a right answer (a true reward of 0 at the first step): "
        f"{_names(found)}. Their gap by the paper's measure is a division by ε alone, and it moves the threshold of "
        "all; where the unit is the spread of the runs' start, they narrow it."
    ]


def of_another_scale(runs: Sequence[LoggedRun], peers: Sequence[object]) -> list[str]:
    """A note per reward on the runs whose spread is not that of their peers, as where one was logged in other units.

    The spread is that over samples at the start, which is alike in all runs; where the log has none, that of the means
    over the steps, which is alike in runs of one arm and beta.

    Args:
        runs: at any steps.
        peers: arm and beta of each run.
    """
    notes = []
    for reward in REWARDS:
        at_start = all(run.start[reward].variance is not None and not run.start[reward].given for run in runs)
        spreads = [_at_start(run, reward) if at_start else _over_steps(run, reward) for run in runs]
        alike = [None] * len(runs) if at_start else peers
        ratios = [
            _ratio(spread, [other for other, theirs in zip(spreads, alike, strict=True) if theirs == own])
            for spread, own in zip(spreads, alike, strict=True)
        ]
        odd = [run for run, ratio in zip(runs, ratios, strict=True) if ratio and not 1 / LIKE <= ratio <= LIKE]
        if odd:
            widest = max(ratio if ratio > 1 else 1 / ratio for ratio in ratios if ratio)
            notes.append(
                f"The {reward.removesuffix('_reward')} reward of {_names(odd)} spreads unlike that of the runs beside "
                f"it, by a factor of {widest:.3g}: was it logged on another scale? All runs share one unit."
            )
    return notes


def _at_start(run: LoggedRun, reward: str) -> float:
    return math.sqrt(run.start[reward].variance or 0.0)


def _over_steps(run: LoggedRun, reward: str) -> float:
    values_T = run.curves.mean_T[reward]
    return float(values_T.std(ddof=1)) if len(values_T) >= _LEAST_STEPS else 0.0


def _ratio(spread: float, peers: Sequence[float]) -> float | None:
    """Spread over the median of the peers, itself among them; None where there is none."""
    usual = median_low(peers)
    return spread / usual if spread > 0 and usual > 0 else None


def _names(runs: Sequence[LoggedRun]) -> str:
    named = "; ".join(run.name for run in runs[:_NAMED])
    return named if len(runs) <= _NAMED else f"{named} and {len(runs) - _NAMED} more"

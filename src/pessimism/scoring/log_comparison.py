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
APART = 2.0
"""How many standard deviations over samples the start of a run may be from that of its peers."""
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


def late_start(runs: Sequence[LoggedRun]) -> list[str]:
    """A note where no run begins at step 0 and all begin alike; of unlike beginnings :func:`on_common_steps` tells."""
    starts = {int(run.curves.steps_T[0]) for run in runs}
    if len(starts) > 1 or max(starts) <= 0:
        return []
    return [
        f"The first step is {max(starts)}, the baseline of everything: it should be the untouched policy, as step 1 is "
        "in logs of trainers that count from 1. Otherwise measure that policy and log it as step 0."
    ]


def with_equal_rewards(runs: Sequence[LoggedRun]) -> list[str]:
    """A note on the runs whose two rewards are the same at every step."""
    found = [run for run in runs if np.array_equal(*run.curves.rewards_T)]
    if not found:
        return []
    return [
        f"{len(found)} of {len(runs)} runs have a proxy reward equal to the true one at every step: {_names(found)}. "
        "They show no gap, whatever they did: was one column logged twice?"
    ]


def of_another_scale(runs: Sequence[LoggedRun], peers: Sequence[object]) -> list[str]:
    """A note per reward on the runs whose spread is not that of their peers, as where one was logged in other units.

    The spread is that over samples at the start, which is alike in all runs. In a log of means, and where the first is
    not known, it is also that of the means over the steps, which is alike in runs of one arm and beta: deviations in a
    column need not be in the unit of the means beside them.

    Args:
        runs: at any steps.
        peers: arm and beta of each run.
    """
    notes = []
    for reward in REWARDS:
        ratios: list[list[float]] = [[] for _ in runs]
        at_start = all(run.start[reward].variance is not None and not run.start[reward].given for run in runs)
        if at_start:
            _add_ratios(ratios, [_at_start(run, reward) for run in runs], [None] * len(runs))
        if not at_start or all((run.samples_T == 1).all() for run in runs):
            _add_ratios(ratios, [_over_steps(run, reward) for run in runs], peers)
        factors = [max((max(ratio, 1 / ratio) for ratio in found), default=1.0) for found in ratios]
        odd = [run for run, factor in zip(runs, factors, strict=True) if factor > LIKE]
        if odd:
            notes.append(
                f"The {_short(reward)} reward of {_names(odd)} spreads unlike that of the runs beside it, by a factor "
                f"of {max(factors):.3g}: was it logged on another scale? All runs share one unit."
            )
    return notes


def shifted(runs: Sequence[LoggedRun], peers: Sequence[object]) -> list[str]:
    """A note per reward on the runs that start far from their peers, as where a constant was added to one.

    Far is counted in standard deviations over samples at the start, or, where the log has none, in the spread of the
    means over the steps.

    Args:
        runs: at any steps.
        peers: arm and beta of each run.
    """
    notes = []
    for reward in REWARDS:
        known = all(run.start[reward].variance is not None for run in runs)
        spreads = [_at_start(run, reward) if known else _over_steps(run, reward) for run in runs]
        starts = [float(run.curves.mean_T[reward][0]) for run in runs]
        away = [
            abs(start - beside) / spread if spread > 0 else 0.0
            for start, beside, spread in zip(starts, _usual(starts, peers), _usual(spreads, peers), strict=True)
        ]
        odd = [run for run, distance in zip(runs, away, strict=True) if distance > (APART if known else LIKE)]
        unit = "standard deviations" if known else "times the spread of its means"
        if odd:
            notes.append(
                f"The {_short(reward)} reward of {_names(odd)} starts unlike that of the runs beside it, by "
                f"{max(away):.3g} {unit}: was a constant added to it? The paper's measure divides by the start."
            )
    return notes


def _short(reward: str) -> str:
    return reward.removesuffix("_reward")


def _at_start(run: LoggedRun, reward: str) -> float:
    return math.sqrt(run.start[reward].variance or 0.0)


def _over_steps(run: LoggedRun, reward: str) -> float:
    """Standard deviation of the means; 0 of few, and where they differ by rounding alone."""
    values_T = run.curves.mean_T[reward]
    spread = float(values_T.std(ddof=1)) if len(values_T) >= _LEAST_STEPS else 0.0
    return spread if spread > 1e-9 * np.abs(values_T).max() else 0.0


def _add_ratios(ratios: Sequence[list[float]], spreads: Sequence[float], peers: Sequence[object]) -> None:
    """Add each run's spread over that of its peers, where there are both."""
    for found, spread, usual in zip(ratios, spreads, _usual(spreads, peers), strict=True):
        if spread > 0 and usual > 0:
            found.append(spread / usual)


def _usual(values: Sequence[float], peers: Sequence[object]) -> list[float]:
    """Median of each run's peers, itself among them."""
    return [median_low([value for value, theirs in zip(values, peers, strict=True) if theirs == own]) for own in peers]


def _names(runs: Sequence[LoggedRun]) -> str:
    named = "; ".join(run.name for run in runs[:_NAMED])
    return named if len(runs) <= _NAMED else f"{named} and {len(runs) - _NAMED} more"

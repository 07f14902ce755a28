"""From the runs to a p-value per claim, and from the p-values of a family of claims to verdicts.

A family is all claims judged by one measure. Holm's procedure runs over it twice: over the p-values in the direction
that the paper states, for ``supported``, and over those in the opposite one, for ``contradicted``. Each pass errs with
probability at most 5 %, so that a family has a false verdict of either kind with probability at most about 10 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pessimism.measures.trends import Alternative, holm, page_trend, page_trend_untied

ALPHA = 0.05
RISES, FALLS, EITHER = +1, -1, 0
DIRECTIONS = {RISES: "rises with beta", FALLS: "falls with beta", EITHER: "depends on beta"}

Ps = TypeVar("Ps", float, np.ndarray)


class Outcome(StrEnum):
    """What the runs say of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    INSUFFICIENT = "insufficient"


class NoTest(StrEnum):
    """Why a claim cannot be tested on these runs."""

    FEW_BETAS = "fewer than two betas have no trend"
    FEW_SEEDS = "fewer than two seeds have no spread"
    MISSING_RUN = "a run has no value"
    NO_SPREAD = "all seeds have the same value"


@dataclass(frozen=True)
class ClaimTest:
    """P-values of one claim before the family is taken into account.

    Attributes:
        p: in the direction that the paper states, or of a difference either way where it states both.
        p_opposite: in the opposite direction; None where there is none.
    """

    p: float
    p_opposite: float | None


@dataclass(frozen=True)
class ClaimTests:
    """:class:`ClaimTest` of one claim in many experiments: (E,) each."""

    p_E: np.ndarray
    p_opposite_E: np.ndarray | None


@dataclass(frozen=True)
class Verdict:
    """What the runs say of a claim, with the p-values that say it; None = not tested that way.

    Attributes:
        outcome: supported or contradicted where the adjusted p is at most 0.05.
        p: as in :class:`ClaimTest`.
        p_opposite: likewise.
        p_adjusted: ``p`` by Holm over the family.
        p_opposite_adjusted: ``p_opposite`` by Holm over the claims of the family that have one.
        reason: why there is no test; empty where there is.
    """

    outcome: Outcome
    p: float | None = None
    p_opposite: float | None = None
    p_adjusted: float | None = None
    p_opposite_adjusted: float | None = None
    reason: str = ""


def verdicts(tests: Mapping[str, ClaimTest | NoTest | Verdict]) -> dict[str, Verdict]:
    """Verdict on each claim of a family.

    A claim without a test stays insufficient, and one that brings its verdict keeps it. Neither counts in the family.
    """
    tested = {name: test for name, test in tests.items() if isinstance(test, ClaimTest)}
    adjusted = _adjusted({name: test.p for name, test in tested.items()})
    opposite = _adjusted({name: test.p_opposite for name, test in tested.items() if test.p_opposite is not None})
    return {
        name: _verdict(test, adjusted[name], opposite.get(name)) if isinstance(test, ClaimTest) else _untested(test)
        for name, test in tests.items()
    }


def _adjusted(ps: Mapping[str, float]) -> dict[str, float]:
    return dict(zip(ps, holm(list(ps.values())).tolist(), strict=True))


def _untested(test: NoTest | Verdict) -> Verdict:
    return test if isinstance(test, Verdict) else Verdict(Outcome.INSUFFICIENT, reason=test.value)


def _verdict(test: ClaimTest, adjusted: float, opposite: float | None) -> Verdict:
    outcome = Outcome.INSUFFICIENT
    if adjusted <= ALPHA:
        outcome = Outcome.SUPPORTED
    elif opposite is not None and opposite <= ALPHA:
        outcome = Outcome.CONTRADICTED
    return Verdict(outcome, test.p, test.p_opposite, adjusted, opposite)


def directed_p(rises: Ps, falls: Ps, predicted: int) -> Ps:
    """One-sided p in the direction that the paper states; two-sided where it states both.

    Args:
        rises: p of a rise with beta; one or many.
        falls: p of a fall.
        predicted: RISES, FALLS or EITHER.
    """
    if predicted == EITHER:
        two_sided: Ps = np.minimum(1.0, 2 * np.minimum(rises, falls))
        return two_sided
    return rises if predicted == RISES else falls


def trend_test(values_S_K: ArrayLike, predicted: int) -> ClaimTest | NoTest:
    """Page's exact test of a claim that a quantity rises or falls with beta.

    Args:
        values_S_K: (S, K) one row per seed, betas ascending; infinity = an event that never came, which ranks last;
            missing = the run has no value, and the claim no test.
        predicted: RISES, FALLS, or EITHER where the paper states both, which is tested two-sided.

    Returns:
        The p-values, or why there are none.
    """
    values = np.asarray(values_S_K, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        return NoTest.FEW_BETAS
    if not len(values) or np.isnan(values).any():
        return NoTest.MISSING_RUN
    rises, falls = page_trend(values, "greater"), page_trend(values, "less")
    opposite = None if predicted == EITHER else directed_p(rises, falls, -predicted)
    return ClaimTest(float(directed_p(rises, falls, predicted)), opposite)


def trend_tests(values_E_S_K: np.ndarray, predicted: int) -> ClaimTests:
    """:func:`trend_test` of many experiments at once, (E, S, K), none of which has equal values within a seed."""
    rises_E, falls_E = page_trend_untied(values_E_S_K, "greater"), page_trend_untied(values_E_S_K, "less")
    opposite_E = None if predicted == EITHER else directed_p(rises_E, falls_E, -predicted)
    return ClaimTests(directed_p(rises_E, falls_E, predicted), opposite_E)


def mean_test(values: ArrayLike, above: float = 0.0) -> ClaimTest | NoTest:
    """One-sided t test of a claim that the mean over seeds is above a number.

    Args:
        values: one per seed; several runs of one seed are not independent.
        above: the number.
    """
    found = np.asarray(values, dtype=float).ravel()
    if not np.isfinite(found).all():
        return NoTest.MISSING_RUN
    if len(found) < 2:
        return NoTest.FEW_SEEDS
    if np.ptp(found) == 0:
        return NoTest.NO_SPREAD
    return ClaimTest(float(mean_p(found, "greater", above)), float(mean_p(found, "less", above)))


def mean_p(values: np.ndarray, alternative: Alternative, above: float = 0.0) -> np.ndarray:
    """P of a t test of the mean over the last axis against a number; without axes where that is the only one."""
    from scipy.stats import ttest_1samp

    return np.asarray(ttest_1samp(values, above, axis=-1, alternative=alternative).pvalue)


def both(first: ClaimTest | NoTest, second: ClaimTest | NoTest) -> ClaimTest | NoTest:
    """Test of a claim that says two things: it holds where both do, and is contradicted where both are.

    The larger p is valid for the pair whatever their dependence (an intersection-union test).
    """
    if isinstance(first, NoTest):
        return first
    if isinstance(second, NoTest):
        return second
    opposites = [test.p_opposite for test in (first, second) if test.p_opposite is not None]
    return ClaimTest(max(first.p, second.p), max(opposites) if len(opposites) == 2 else None)


def correlation_and_growth_test(correlation_S_K: ArrayLike) -> ClaimTest | NoTest:
    """Test of a claim that two quantities of a run correlate, and more so at higher beta.

    Args:
        correlation_S_K: (S, K) Pearson's correlation of each run, betas ascending.

    Returns:
        The larger p of a t test against 0 of the seeds' means over betas, and of Page's test of the growth. Runs of one
        seed may share their prompts: taken as independent they would make the t test find too much. None without runs.
    """
    values = np.asarray(correlation_S_K, dtype=float)
    if not values.size:
        return NoTest.FEW_BETAS
    return both(mean_test(values.mean(axis=1)), trend_test(values, RISES))


def correlation_and_growth_tests(correlation_E_S_K: np.ndarray) -> ClaimTests:
    """:func:`correlation_and_growth_test` of many experiments at once, (E, S, K), without equal values in a seed."""
    seed_mean_E_S = correlation_E_S_K.mean(axis=-1)
    rises_E, falls_E = (page_trend_untied(correlation_E_S_K, alternative) for alternative in ("greater", "less"))
    above_E, below_E = (mean_p(seed_mean_E_S, alternative) for alternative in ("greater", "less"))
    return ClaimTests(np.maximum(rises_E, above_E), np.maximum(falls_E, below_E))

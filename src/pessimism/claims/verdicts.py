"""From the runs to a p-value per claim, and from the p-values of a family of claims to verdicts.

A family is all claims judged by one measure. Holm's procedure runs over it twice: over the p-values in the direction
that the paper states, for ``supported``, and over those in the opposite one, for ``contradicted``. Each pass errs with
probability at most 5 %, so that a family has a false verdict of either kind with probability at most about 10 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import ArrayLike

from pessimism.measures.trends import Alternative, holm, page_trend

ALPHA = 0.05


class Outcome(StrEnum):
    """What the runs say of a claim."""

    SUPPORTED = "supported"
    CONTRADICTED = "contradicted"
    INSUFFICIENT = "insufficient"


class NoTest(StrEnum):
    """Why a claim cannot be tested on these runs."""

    NOT_TESTED = "no test is defined on these runs"
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


def verdicts(tests: Mapping[str, ClaimTest | NoTest | None]) -> dict[str, Verdict]:
    """Verdict on each claim of a family; one without a test stays insufficient and does not count in the family."""
    tested = {name: test for name, test in tests.items() if isinstance(test, ClaimTest)}
    adjusted = _adjusted({name: test.p for name, test in tested.items()})
    opposite = _adjusted({name: test.p_opposite for name, test in tested.items() if test.p_opposite is not None})
    return {
        name: _verdict(test, adjusted[name], opposite.get(name))
        if isinstance(test, ClaimTest)
        else Verdict(Outcome.INSUFFICIENT, reason=test or NoTest.NOT_TESTED)
        for name, test in tests.items()
    }


def _adjusted(ps: Mapping[str, float]) -> dict[str, float]:
    return dict(zip(ps, holm(list(ps.values())).tolist(), strict=True))


def _verdict(test: ClaimTest, adjusted: float, opposite: float | None) -> Verdict:
    outcome = Outcome.INSUFFICIENT
    if adjusted <= ALPHA:
        outcome = Outcome.SUPPORTED
    elif opposite is not None and opposite <= ALPHA:
        outcome = Outcome.CONTRADICTED
    return Verdict(outcome, test.p, test.p_opposite, adjusted, opposite)


def trend_test(values_S_K: ArrayLike, predicted: int) -> ClaimTest | NoTest:
    """Page's exact test of a claim that a quantity rises or falls with beta.

    Args:
        values_S_K: (S, K) one row per seed, betas ascending; infinity = an event that never came, which ranks last;
            missing = the run has no value, and the claim no test.
        predicted: sign of the trend that the paper states; 0 where it states both, which is tested two-sided.

    Returns:
        The p-values, or why there are none.
    """
    values = np.asarray(values_S_K, dtype=float)
    if values.ndim != 2 or values.shape[1] < 2:
        return NoTest.FEW_BETAS
    if not len(values) or np.isnan(values).any():
        return NoTest.MISSING_RUN
    rises, falls = page_trend(values, "greater"), page_trend(values, "less")
    if predicted == 0:
        return ClaimTest(min(1.0, 2 * min(rises, falls)), None)
    return ClaimTest(rises, falls) if predicted > 0 else ClaimTest(falls, rises)


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
    return ClaimTest(_t_test(found, above, "greater"), _t_test(found, above, "less"))


def _t_test(values: np.ndarray, above: float, alternative: Alternative) -> float:
    from scipy.stats import ttest_1samp

    return float(ttest_1samp(values, above, alternative=alternative).pvalue)


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


def uncertainty_gap_test(correlation_S_K: ArrayLike) -> ClaimTest | NoTest:
    """Test of C8: the ensemble's std correlates with the gap, and more so at higher beta.

    Args:
        correlation_S_K: (S, K) Pearson's correlation of each run, betas ascending.

    Returns:
        The larger p of a t test against 0 of the seeds' means over betas, and of Page's test of the growth. Runs of one
        seed may share their prompts: taken as independent they would make the t test find too much.
    """
    seed_mean_S = np.asarray(correlation_S_K, dtype=float).mean(axis=1)
    return both(mean_test(seed_mean_S), trend_test(correlation_S_K, predicted=+1))

"""From the runs to a p-value per claim, and from the p-values of a family of claims to verdicts.

A family is all claims judged by one measure. Its primary claim, if it has one, is judged by its own p. Holm's procedure
runs over the others, the secondary ones. Either happens twice: with the p-values in the direction that the paper
states, for ``supported``, and with those in the opposite one, for ``contradicted``. Each such pass errs with
probability at most 5 %.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import TypeVar

import numpy as np
from numpy.typing import ArrayLike

from pessimism.measures.contrasts import Combination, combination, trend_p, trend_ps
from pessimism.measures.trends import Alternative, holm

ALPHA = 0.05
RISES, FALLS, EITHER = +1, -1, 0
DIRECTIONS = {RISES: "rises with beta", FALLS: "falls with beta", EITHER: "depends on beta"}
UNDECIDED = "undecided"

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
        p_adjusted: ``p`` by Holm over the secondary claims; of the primary claim ``p`` itself.
        p_opposite_adjusted: ``p_opposite`` by Holm over the secondary claims that have one; likewise.
        reason: why there is no test; empty where there is.
    """

    outcome: Outcome
    p: float | None = None
    p_opposite: float | None = None
    p_adjusted: float | None = None
    p_opposite_adjusted: float | None = None
    reason: str = ""


def verdicts(tests: Mapping[str, ClaimTest | NoTest | Verdict], primary: str | None) -> dict[str, Verdict]:
    """Verdict on each claim of a family.

    A claim without a test stays insufficient, and one that brings its verdict keeps it. Neither counts in the family.

    Args:
        tests: by name of the claim.
        primary: name of the primary claim; None where the family has none.
    """
    tested = {name: test for name, test in tests.items() if isinstance(test, ClaimTest)}
    adjusted = _adjusted({name: test.p for name, test in tested.items()}, primary)
    opposites = {name: test.p_opposite for name, test in tested.items() if test.p_opposite is not None}
    opposite = _adjusted(opposites, primary)
    return {
        name: _verdict(test, adjusted[name], opposite.get(name)) if isinstance(test, ClaimTest) else _untested(test)
        for name, test in tests.items()
    }


def _adjusted(ps: Mapping[str, float], primary: str | None) -> dict[str, float]:
    secondary = {name: p for name, p in ps.items() if name != primary}
    return dict(ps) | dict(zip(secondary, holm(list(secondary.values())).tolist(), strict=True))


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


def direction(p_rises: float | None, p_falls: float | None) -> str:
    """What two one-sided p decide, each at 5 %: a rise, a fall, or nothing, as where there is no test."""
    if p_rises is not None and p_rises <= ALPHA:
        return DIRECTIONS[RISES]
    return DIRECTIONS[FALLS] if p_falls is not None and p_falls <= ALPHA else UNDECIDED


def trend_test(values_S_K: ArrayLike, predicted: int, paired: bool) -> ClaimTest | NoTest:
    """Test of a claim that a quantity rises or falls with beta: :func:`contrasts.trend_p`.

    Args:
        values_S_K: (S, K) one row per seed, betas ascending; infinity = an event that never came, which ranks last;
            missing = the run has no value, and the claim no test.
        predicted: RISES, FALLS, or EITHER where the paper states both, which is tested two-sided.
        paired: whether the betas of a seed share its random draws: ``paired_seeds`` of the protocol.

    Returns:
        The p-values, or why there are none.
    """
    values = np.asarray(values_S_K, dtype=float)
    reason = _untestable(values)
    if reason is not None:
        return reason
    rises, falls = trend_p(values, paired)
    opposite = None if predicted == EITHER else directed_p(rises, falls, -predicted)
    return ClaimTest(float(directed_p(rises, falls, predicted)), opposite)


def _untestable(values: np.ndarray) -> NoTest | None:
    if values.ndim != 2 or values.shape[1] < 2:
        return NoTest.FEW_BETAS
    if not len(values) or np.isnan(values).any():
        return NoTest.MISSING_RUN
    return NoTest.FEW_SEEDS if len(values) < 2 else None


def trend_tests(values_E_S_K: np.ndarray, predicted: int, paired: bool) -> ClaimTests:
    """:func:`trend_test` of many experiments at once, (E, S, K)."""
    rises_E, falls_E = trend_ps(values_E_S_K, paired)
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
    return ClaimTest(_mean_p(found, "greater", above), _mean_p(found, "less", above))


def sum_test(found: Combination, above: float = 0.0) -> ClaimTest | NoTest:
    """One-sided t test of a claim that a number made from the betas' means is above another."""
    if not np.isfinite([*found.estimate, *found.error]).all():
        return NoTest.MISSING_RUN
    higher, lower = replace(found, estimate=found.estimate - above).tails()
    return ClaimTest(float(higher[0]), float(lower[0]))


def _mean_p(values: np.ndarray, alternative: Alternative, above: float) -> float:
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


def both_of_many(first: ClaimTests, second: ClaimTests) -> ClaimTests:
    """:func:`both` of many experiments at once."""
    opposites = [tests.p_opposite_E for tests in (first, second) if tests.p_opposite_E is not None]
    return ClaimTests(np.maximum(first.p_E, second.p_E), np.maximum(*opposites) if len(opposites) == 2 else None)


def level_and_trend_test(correlation_S_K: ArrayLike, paired: bool) -> ClaimTest | NoTest:
    """Test of a claim that two quantities of a run correlate, and more so at higher beta.

    Args:
        correlation_S_K: (S, K) Pearson's correlation of each run, betas ascending.
        paired: whether the betas of a seed share its random draws.

    Returns:
        The larger p of a t test of the mean over betas against 0, and of the test of the growth. Where seeds are paired
        the first is over the seeds' means: their runs taken as independent would make it find too much.
    """
    values = np.asarray(correlation_S_K, dtype=float)
    reason = _untestable(values)
    if reason is None and not np.isfinite(values).all():
        reason = NoTest.MISSING_RUN
    if reason is not None:
        return reason
    tests = level_and_trend_tests(values[None], paired)
    assert tests.p_opposite_E is not None
    return ClaimTest(float(tests.p_E[0]), float(tests.p_opposite_E[0]))


def level_and_trend_tests(correlation_E_S_K: np.ndarray, paired: bool) -> ClaimTests:
    """:func:`level_and_trend_test` of many experiments at once, (E, S, K)."""
    betas = correlation_E_S_K.shape[-1]
    level = combination(correlation_E_S_K, np.full(betas, 1 / betas), paired).tails()
    return both_of_many(ClaimTests(*level), trend_tests(correlation_E_S_K, RISES, paired))

"""P-values per claim, the family around them, and what a claim without a test becomes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import t, ttest_1samp

from pessimism.claims.verdicts import (
    ClaimTest,
    NoTest,
    Outcome,
    Verdict,
    both,
    level_and_trend_test,
    level_and_trend_tests,
    mean_test,
    sum_test,
    trend_test,
    trend_tests,
    verdicts,
)
from pessimism.measures.contrasts import Combination


def test_holm_decides_in_both_directions() -> None:
    found = verdicts(
        {
            "C1": ClaimTest(0.004, 1.0),
            "C2": ClaimTest(0.9, 0.01),
            "C3": ClaimTest(0.03, 0.99),
            "C4": ClaimTest(0.6, 0.5),
        },
        None,
    )
    outcomes = {name: verdict.outcome for name, verdict in found.items()}
    assert outcomes == {"C1": "supported", "C2": "contradicted", "C3": "insufficient", "C4": "insufficient"}
    assert found["C1"].p_adjusted == pytest.approx(4 * 0.004)
    assert found["C3"].p_adjusted == pytest.approx(3 * 0.03)
    assert found["C2"].p_opposite_adjusted == pytest.approx(4 * 0.01)
    assert (found["C3"].p, found["C3"].p_opposite) == (0.03, 0.99)


def test_a_claim_without_a_test_does_not_count() -> None:
    """0.02 passes in a family of two, not in one of three."""
    brought = Verdict(Outcome.SUPPORTED)
    two = verdicts(
        {"C1": ClaimTest(0.02, 0.98), "C2": ClaimTest(0.5, 0.5), "C9": brought, "C10": NoTest.FEW_BETAS}, None
    )
    assert two["C1"].outcome is Outcome.SUPPORTED
    assert two["C9"] is brought
    assert two["C10"] == Verdict(Outcome.INSUFFICIENT, reason="fewer than two betas have no trend")
    three = verdicts({"C1": ClaimTest(0.02, 0.98), "C2": ClaimTest(0.5, 0.5), "C9": ClaimTest(0.5, 0.5)}, None)
    assert three["C1"].outcome is Outcome.INSUFFICIENT


def test_a_claim_without_an_opposite_is_never_contradicted_and_does_not_count_there() -> None:
    found = verdicts({"C5": ClaimTest(0.9, None), "C1": ClaimTest(0.97, 0.03)}, None)
    assert found["C5"] == Verdict(Outcome.INSUFFICIENT, p=0.9, p_adjusted=1.0)
    assert found["C1"].outcome is Outcome.CONTRADICTED and found["C1"].p_opposite_adjusted == 0.03


def test_the_primary_claim_is_judged_by_its_own_p_and_leaves_the_family_smaller() -> None:
    """0.04 passes alone and 0.02 in a family of two; in one of three neither does."""
    tests = {"C1": ClaimTest(0.04, 0.96), "C2": ClaimTest(0.02, 0.98), "C3": ClaimTest(0.5, 0.5)}
    found = verdicts(tests, "C1")
    assert [found[name].outcome for name in tests] == ["supported", "supported", "insufficient"]
    assert found["C1"].p_adjusted == 0.04 and found["C2"].p_adjusted == pytest.approx(2 * 0.02)
    assert {verdict.outcome for verdict in verdicts(tests, None).values()} == {"insufficient"}
    against = verdicts({name: ClaimTest(1 - test.p, test.p) for name, test in tests.items()}, "C1")
    assert [against[name].outcome for name in tests] == ["contradicted", "contradicted", "insufficient"]
    assert against["C1"].p_opposite_adjusted == 0.04
    assert verdicts({"C1": NoTest.MISSING_RUN, "C2": ClaimTest(0.04, 0.96)}, "C1")["C2"].outcome == "supported"


def test_a_family_without_tests() -> None:
    assert verdicts({}, None) == {}
    assert verdicts({"C1": NoTest.FEW_SEEDS}, None)["C1"].outcome is Outcome.INSUFFICIENT


def test_the_level_itself_is_enough() -> None:
    assert verdicts({"C1": ClaimTest(0.05, 0.95)}, None)["C1"].outcome is Outcome.SUPPORTED


RISING = [[1.0, 2.0, 3.0]] * 3


@pytest.mark.parametrize(("paired", "smallest"), [(True, 1 / 216), (False, 1 / 1680)])
def test_trend_test_takes_the_papers_direction_and_the_protocols_pairing(paired: bool, smallest: float) -> None:
    rises = trend_test(RISING, +1, paired)
    assert isinstance(rises, ClaimTest)
    assert (rises.p, rises.p_opposite) == (pytest.approx(smallest), pytest.approx(1.0))
    falls = trend_test(RISING, -1, paired)
    assert isinstance(falls, ClaimTest)
    assert (falls.p, falls.p_opposite) == (pytest.approx(1.0), pytest.approx(smallest))
    either = trend_test(RISING, 0, paired)
    assert isinstance(either, ClaimTest)
    assert either == trend_test(-np.array(RISING), 0, paired)
    assert either.p == pytest.approx(2 * smallest) and either.p_opposite is None


def test_two_sided_p_is_a_probability() -> None:
    assert trend_test([[1.0, 1.0, 1.0]] * 3, 0, paired=False) == ClaimTest(1.0, None)


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        ([[1.0, math.nan, 3.0], [1.0, 2.0, 3.0]], NoTest.MISSING_RUN),
        (np.zeros((0, 3)), NoTest.MISSING_RUN),
        ([[1.0], [2.0]], NoTest.FEW_BETAS),
        ([[1.0, 2.0, 3.0]], NoTest.FEW_SEEDS),
    ],
)
def test_no_trend_test(values: object, reason: NoTest) -> None:
    assert trend_test(values, +1, paired=False) is reason  # type: ignore[arg-type]
    assert level_and_trend_test(values, paired=True) is reason  # type: ignore[arg-type]


def test_mean_test_equals_scipy() -> None:
    values = [0.1, 0.3, -0.1, 0.4]
    found = mean_test(values, above=0.05)
    assert isinstance(found, ClaimTest) and found.p_opposite is not None
    assert found.p == pytest.approx(ttest_1samp(values, 0.05, alternative="greater").pvalue)
    assert found.p + found.p_opposite == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("values", "reason"),
    [([0.3], NoTest.FEW_SEEDS), ([0.3, 0.3], NoTest.NO_SPREAD), ([0.3, math.nan], NoTest.MISSING_RUN)],
)
def test_no_mean_test(values: list[float], reason: NoTest) -> None:
    assert mean_test(values) is reason


def test_a_conjunction_is_as_weak_as_its_weaker_part() -> None:
    assert both(ClaimTest(0.01, 0.99), ClaimTest(0.3, 0.7)) == ClaimTest(0.3, 0.99)
    assert both(ClaimTest(0.01, 0.99), ClaimTest(0.3, None)) == ClaimTest(0.3, None)
    assert both(ClaimTest(0.01, 0.99), NoTest.FEW_SEEDS) is NoTest.FEW_SEEDS
    assert both(NoTest.MISSING_RUN, ClaimTest(0.01, 0.99)) is NoTest.MISSING_RUN


def test_a_correlation_that_grows_needs_both() -> None:
    jitter = np.random.default_rng(0).normal(scale=0.01, size=(3, 3))
    growing = np.array([[0.1, 0.3, 0.5]] * 3) + jitter
    found = {
        "both": level_and_trend_test(growing, paired=True),
        "no growth": level_and_trend_test(growing[:, ::-1], paired=True),
        "no correlation": level_and_trend_test(growing - growing.mean(), paired=True),
        "neither": level_and_trend_test(growing[:, ::-1] - 0.6, paired=True),
    }
    tests = {name: test for name, test in found.items() if isinstance(test, ClaimTest)}
    assert tests.keys() == found.keys()
    assert tests["both"].p == pytest.approx(1 / 216)
    assert tests["no growth"].p == pytest.approx(1.0)
    assert tests["no correlation"].p == pytest.approx(0.5)
    assert tests["neither"].p_opposite == pytest.approx(1 / 216)


CORRELATION_S_K = np.array([[0.0, 0.1, 0.2], [0.3, 0.4, 0.5], [0.6, 0.7, 0.8]])


def test_runs_of_one_paired_seed_count_once_for_the_mean_correlation() -> None:
    """Seed means 0.1, 0.4 and 0.7: t = 0.4 / (0.3 / sqrt 3) = 2.31 on 2 degrees of freedom, not on 8."""
    found = level_and_trend_test(CORRELATION_S_K, paired=True)
    assert isinstance(found, ClaimTest)
    assert found.p == pytest.approx(t.sf(0.4 / (0.3 / math.sqrt(3)), df=2))


def test_unpaired_runs_count_each_for_the_mean_correlation_and_not_for_their_seed() -> None:
    """Three groups with a variance of 0.09: the mean has 0.09 / 9 of it, on 6 degrees of freedom."""
    level = t.sf(0.4 / math.sqrt(0.09 / 9), df=6)
    found = level_and_trend_test(CORRELATION_S_K, paired=False)
    growth = trend_test(CORRELATION_S_K, +1, paired=False)
    assert isinstance(found, ClaimTest) and isinstance(growth, ClaimTest)
    assert found.p == pytest.approx(max(level, growth.p))
    renamed = np.column_stack([CORRELATION_S_K[::-1, 0], CORRELATION_S_K[:, 1:]])
    assert level_and_trend_test(renamed, paired=False) == found
    below = level_and_trend_test(CORRELATION_S_K - [[0.3, 0.4, 0.5]] + [[-0.01, 0.0, 0.01]], paired=False)
    assert isinstance(below, ClaimTest) and below.p >= 0.49


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("predicted", [+1, -1, 0])
def test_many_experiments_have_the_p_values_of_each(predicted: int, paired: bool) -> None:
    values_E_S_K = np.random.default_rng(1).normal(size=(30, 4, 3))
    many = trend_tests(values_E_S_K, predicted, paired)
    each = [trend_test(values, predicted, paired) for values in values_E_S_K]
    each = [test for test in each if isinstance(test, ClaimTest)]
    assert many.p_E == pytest.approx([test.p for test in each])
    opposite = [None] * 30 if many.p_opposite_E is None else many.p_opposite_E
    assert [test.p_opposite for test in each] == pytest.approx(list(opposite))


@pytest.mark.parametrize("paired", [False, True])
def test_many_correlations_have_the_p_values_of_each(paired: bool) -> None:
    values_E_S_K = np.random.default_rng(1).normal(size=(30, 4, 3))
    many = level_and_trend_tests(values_E_S_K, paired)
    for p, opposite, values in zip(many.p_E, many.p_opposite_E, values_E_S_K, strict=True):  # type: ignore[arg-type]
        one = level_and_trend_test(values, paired)
        assert isinstance(one, ClaimTest) and (one.p, one.p_opposite) == (pytest.approx(p), pytest.approx(opposite))


def test_a_number_made_from_means_is_tested_against_another() -> None:
    found = sum_test(Combination(np.array([3.0]), np.array([0.5]), np.array([4.0])), above=2.0)
    assert isinstance(found, ClaimTest) and found.p == pytest.approx(t.sf(2.0, df=4))
    assert found.p_opposite == pytest.approx(t.cdf(2.0, df=4))
    assert sum_test(Combination(*np.full((3, 1), math.nan))) is NoTest.MISSING_RUN

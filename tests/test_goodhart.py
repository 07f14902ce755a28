"""The gap, its area and its onset by hand, and the tables and metrics made from whole runs."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pessimism.errors import DataError
from pessimism.measures.goodhart import (
    EPS,
    augc,
    augc_over_kl,
    baseline_degenerate,
    common_kl,
    controlled_gap,
    hacking_onset,
    hacking_threshold,
    onset_interval,
    overoptimization,
    paper_gap,
    signed_augc,
    signed_augc_interval,
    signed_augc_over_kl,
    smoothed_sd,
    true_regret,
    up_to_kl,
)
from support.import_closure import SOURCE, imports_at_start


def test_gap_by_hand() -> None:
    gap_T = paper_gap(np.array([2.0, 3.0, 1.0]), np.array([0.5, 0.25, 0.75]))
    assert gap_T == pytest.approx([0.0, 1.0, -1.0], abs=1e-6)


def test_gap_starts_near_minus_two_where_the_first_proxy_is_negative() -> None:
    assert paper_gap(np.array([-0.5, 0.5]), np.array([0.5, 0.5])) == pytest.approx([-2.0, 0.0], abs=1e-6)


def test_gap_divides_by_epsilon_where_the_first_batch_has_no_correct_answer() -> None:
    gap_T = paper_gap(np.array([1.0, 1.0]), np.array([0.0, 0.25]))
    assert gap_T == pytest.approx([1.0, 1.0 - 0.25 / EPS], rel=1e-6)


def test_gap_takes_another_baseline_than_the_first_point() -> None:
    gap_T = paper_gap(np.array([2.0, 3.0]), np.array([0.5, 0.25]), proxy_baseline=-4.0, true_baseline=0.25)
    assert gap_T == pytest.approx([0.5 - 2.0, 0.75 - 1.0], abs=1e-5)
    same = paper_gap(np.array([2.0, 3.0]), np.array([0.5, 0.25]), proxy_baseline=2.0, true_baseline=0.5)
    assert np.array_equal(same, paper_gap(np.array([2.0, 3.0]), np.array([0.5, 0.25])))


@pytest.mark.parametrize("baseline", [0.0, 0.009, 0.1, -0.009, -5.0])
def test_a_baseline_near_zero_or_below_is_degenerate(baseline: float) -> None:
    """Against a spread of 1; 0.009 made an area of 187."""
    assert baseline_degenerate(baseline, 1.0)
    assert baseline_degenerate(100 * baseline, 100.0), "the unit of a reward decides nothing"


def test_a_baseline_well_above_zero_is_not_degenerate() -> None:
    assert not baseline_degenerate(0.11, 1.0) and not baseline_degenerate(0.009, 0.05)
    assert baseline_degenerate(0.0, 0.0) and not baseline_degenerate(0.5, 0.0), "a reward without spread"


def test_controlled_gap_by_hand() -> None:
    gap_T = controlled_gap(np.array([1.0, 3.0, 5.0]), np.array([0.5, 0.75, 0.25]), proxy_sd=2.0, true_sd=0.5)
    assert gap_T == pytest.approx([0.0, 1.0 - 0.5, 2.0 + 0.5])


@pytest.mark.parametrize("sd", [0.0, -1.0, math.nan, math.inf])
def test_controlled_gap_refuses_a_reward_without_spread(sd: float) -> None:
    with pytest.raises(DataError, match="expected a positive number"):
        controlled_gap(np.zeros(2), np.zeros(2), proxy_sd=1.0, true_sd=sd)


def test_smoothed_sd_by_hand() -> None:
    assert smoothed_sd(0.0, 9) == pytest.approx(math.sqrt(0.05 * 0.95))
    assert smoothed_sd(1.0, 9) == pytest.approx(smoothed_sd(0.0, 9))
    assert smoothed_sd(0.5, 1000) == pytest.approx(0.5)
    with pytest.raises(DataError, match="over 0 answers"):
        smoothed_sd(0.5, 0)


reward_curves = st.lists(st.floats(-10, 10), min_size=2, max_size=20)
shifts, scales = st.floats(-1e3, 1e3), st.floats(1e-3, 1e3)


@given(reward_curves, st.integers(0, 10**6), st.floats(0.5, 5), st.floats(0.5, 5), shifts, scales, shifts, scales)
def test_controlled_gap_does_not_depend_on_zero_and_unit_of_either_reward(
    proxy: list[float], seed: int, proxy_sd: float, true_sd: float, add: float, times: float, add2: float, times2: float
) -> None:
    """To 1e-9 of a base standard deviation, the rounding of a reward of 1e-3 that stands on a constant of 1e3."""
    proxy_T = np.array(proxy)
    true_T = np.random.default_rng(seed).uniform(-10, 10, size=len(proxy))
    steps_T = np.arange(len(proxy)) * 3
    gap_T = controlled_gap(proxy_T, true_T, proxy_sd, true_sd)
    moved_T = controlled_gap(times * proxy_T + add, times2 * true_T + add2, times * proxy_sd, times2 * true_sd)
    assert gap_T[0] == moved_T[0] == 0.0
    assert moved_T == pytest.approx(gap_T, rel=1e-9, abs=1e-9)
    assert augc(steps_T, moved_T) == pytest.approx(augc(steps_T, gap_T), rel=1e-9, abs=1e-9 * steps_T[-1])


def test_paper_gap_does_depend_on_the_zero_of_the_reward() -> None:
    """The same run, with 1 added to every proxy reward: a third of the area. A factor alone cancels but for EPS."""
    steps_T, proxy_T, true_T = np.array([0, 10]), np.array([0.5, 1.0]), np.array([0.5, 0.5])
    assert augc(steps_T, paper_gap(proxy_T, true_T)) == pytest.approx(5.0, rel=1e-5)
    assert augc(steps_T, paper_gap(proxy_T + 1, true_T)) == pytest.approx(5.0 / 3, rel=1e-5)
    assert paper_gap(proxy_T - 1, true_T)[0] == pytest.approx(-2.0, abs=1e-5)
    assert augc(steps_T, paper_gap(100 * proxy_T, true_T)) == pytest.approx(5.0, rel=1e-5)


def test_augc_of_a_triangle() -> None:
    assert augc(np.array([0, 3, 6]), np.array([0.0, 2.0, 0.0])) == 6.0


def test_augc_clips_before_it_integrates() -> None:
    assert augc(np.array([0, 1]), np.array([-2.0, 2.0])) == 1.0


def test_augc_is_in_steps_not_in_points() -> None:
    """The published run is measured at 0, 3, ..., 162 and 164: a constant gap of 1 has an area of 164, not 55."""
    steps_T = np.array([*range(0, 163, 3), 164])
    assert augc(steps_T, np.ones(len(steps_T))) == 164.0


def test_augc_of_one_point_is_zero() -> None:
    assert augc(np.array([0]), np.array([3.0])) == 0.0


@pytest.mark.parametrize("steps", [[0, 2, 1], [0, 1, 1]])
def test_augc_refuses_steps_that_do_not_increase(steps: list[int]) -> None:
    with pytest.raises(DataError, match="expected each above the one before"):
        augc(np.array(steps), np.zeros(3))


def test_signed_area_cancels_what_augc_adds_up() -> None:
    steps_T, gap_T = np.array([0, 1, 2, 3, 4]), np.array([0.0, 2.0, 0.0, -2.0, 0.0])
    assert signed_augc(steps_T, gap_T) == 0.0
    assert augc(steps_T, gap_T) == 2.0
    with pytest.raises(DataError):
        signed_augc(np.array([0, 0]), np.zeros(2))


def test_area_over_kl_is_taken_in_its_order() -> None:
    """KL 0, 1, 3 with gaps 0, 2, 4: 1 + 6 in gap times nats, whenever the policy came by; negative gaps count as 0."""
    assert augc_over_kl(np.array([0.0, 3.0, 1.0]), np.array([0.0, 4.0, 2.0]), last_kl=3.0) == 7.0
    assert augc_over_kl(np.array([0.0, 2.0]), np.array([-5.0, 1.0]), last_kl=2.0) == 1.0
    assert signed_augc_over_kl(np.array([0.0, 2.0]), np.array([-5.0, 1.0]), last_kl=2.0) == -4.0


def test_area_over_kl_ends_at_the_common_kl() -> None:
    """A gap that is the KL itself has the area KL²/2, however far a run goes, and none where it stays nearer."""
    near_T, far_T = np.array([0.0, 1.0, 2.0]), np.array([0.0, 1.5, 6.0, 4.0])
    last_kl = common_kl([far_T, near_T])
    assert last_kl == 2.0
    for area in (augc_over_kl, signed_augc_over_kl):
        assert area(near_T, near_T, last_kl) == area(far_T, far_T, last_kl) == pytest.approx(2.0)
        assert area(near_T, near_T, 2.001) is None and area(np.zeros(3), near_T, last_kl) is None


def test_two_runs_of_one_path_have_one_area_over_kl() -> None:
    """The longer run's own end, of no consequence to the shorter one, made its area four times as large."""
    long_T = np.linspace(0, 4, 9)
    short_T = long_T[:5]
    last_kl = common_kl([short_T, long_T])
    assert signed_augc_over_kl(long_T, long_T, last_kl) == signed_augc_over_kl(short_T, short_T, last_kl)
    assert np.trapezoid(long_T, long_T) == 4 * np.trapezoid(short_T, short_T)


gaps = st.lists(st.floats(-1e3, 1e3), min_size=3, max_size=30)


@given(gaps, st.data())
def test_augc_is_never_negative_and_adds_up_over_split_steps(gap: list[float], data: st.DataObject) -> None:
    steps_T, gap_T = np.arange(len(gap)) * 2, np.array(gap)
    cut = data.draw(st.integers(1, len(gap) - 2))
    parts = augc(steps_T[: cut + 1], gap_T[: cut + 1]) + augc(steps_T[cut:], gap_T[cut:])
    assert parts >= 0
    assert augc(steps_T, gap_T) == pytest.approx(parts)


def test_threshold_pools_the_positive_gaps_of_all_runs() -> None:
    assert hacking_threshold([np.array([-5.0, 1.0, 2.0]), np.array([0.0, 3.0, 4.0])]) == 3.25


def test_no_threshold_without_a_positive_gap() -> None:
    assert hacking_threshold([np.array([-1.0, 0.0])]) is None


def test_onset_is_the_first_step_strictly_above() -> None:
    steps_T, gap_T = np.array([0, 3, 6, 9]), np.array([0.0, 2.0, 2.5, 3.0])
    assert hacking_onset(steps_T, gap_T, 2.0) == 6
    assert hacking_onset(steps_T, gap_T, 3.0) is None
    assert hacking_onset(steps_T, gap_T, None) is None


def heldout_run(seed: int, rise: float, prompts: int = 40, steps: int = 6) -> tuple[np.ndarray, np.ndarray]:
    """Proxy and true reward (T, N) of a run whose proxy rises by ``rise`` standard deviations per evaluation."""
    generator = np.random.default_rng(seed)
    proxy_T_N = generator.normal(size=(steps, prompts)) + rise * np.arange(steps)[:, None]
    return proxy_T_N, generator.integers(0, 2, size=(steps, prompts)).astype(float)


def interval_of_onset(rise: float, threshold: float | None, prompts: int = 40) -> tuple[float, float] | None:
    proxy_T_N, true_T_N = heldout_run(0, rise, prompts)
    return onset_interval(np.arange(6) * 10, proxy_T_N, true_T_N, 1.0, 0.5, threshold)


def test_onset_interval_of_a_jump_is_its_step() -> None:
    assert interval_of_onset(rise=50.0, threshold=25.0) == (10.0, 10.0)


def test_onset_interval_narrows_with_problems_and_may_end_in_never() -> None:
    wide, narrow = interval_of_onset(0.2, 0.7, prompts=20), interval_of_onset(0.2, 0.7, prompts=2000)
    assert wide is not None and narrow is not None
    assert wide[0] <= narrow[0] <= narrow[1] <= wide[1] and narrow[1] < math.inf
    edge = interval_of_onset(rise=0.2, threshold=last_gap(rise=0.2) - 0.01)
    assert edge is not None and edge[1] == math.inf


def last_gap(rise: float) -> float:
    proxy_T_N, true_T_N = heldout_run(0, rise)
    return float(controlled_gap(proxy_T_N.mean(axis=1), true_T_N.mean(axis=1), 1.0, 0.5).max())


def test_no_onset_has_no_interval() -> None:
    assert interval_of_onset(rise=0.2, threshold=100.0) is None
    assert interval_of_onset(rise=0.2, threshold=None) is None


def test_problems_are_resampled_together() -> None:
    """A gap that is the same on every problem has no spread, however much the rewards differ between problems."""
    level_N = np.random.default_rng(0).normal(scale=100.0, size=30)
    proxy_T_N = level_N + np.array([[0.0], [1.0], [2.0]])
    onset = onset_interval(np.array([0, 5, 9]), proxy_T_N, np.tile(level_N, (3, 1)), 1.0, 1.0, 1.5)
    assert onset == (9.0, 9.0)


def test_the_interval_of_an_area_is_that_of_the_mean_of_the_problems_areas() -> None:
    """An area is linear in the problems: 1.96 standard errors of theirs, within the noise of 2,000 resamples."""
    proxy_T_N, true_T_N = heldout_run(0, rise=0.2, prompts=400)
    steps_T = np.array([0, 10, 20, 30, 45, 50])
    low, high = signed_augc_interval(steps_T, proxy_T_N, true_T_N, 2.0, 0.5)
    gaps = zip(proxy_T_N.T, true_T_N.T, strict=True)
    area_N = np.array([signed_augc(steps_T, controlled_gap(proxy, true, 2.0, 0.5)) for proxy, true in gaps])
    error = area_N.std() / np.sqrt(len(area_N))
    assert (low + high) / 2 == pytest.approx(area_N.mean(), abs=0.15 * error)
    assert (high - low) / 2 == pytest.approx(1.96 * error, rel=0.08)


def test_an_area_has_no_spread_where_every_problem_has_the_same() -> None:
    level_N = np.random.default_rng(0).normal(scale=100.0, size=30)
    proxy_T_N = level_N + np.array([[0.0], [1.0], [2.0]])
    found = signed_augc_interval(np.array([0, 5, 9]), proxy_T_N, np.tile(level_N, (3, 1)), 1.0, 1.0)
    assert found == pytest.approx((8.5, 8.5))  # 5 x 1/2 + 4 x 3/2


def test_regret_by_hand() -> None:
    """Even problems choose step 1, odd ones step 0: (1 - 0.5) valued on the others is 0 and 1."""
    true_T_N = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    assert true_regret(true_T_N) == 0.0
    assert true_regret(np.array([[1.0, 1.0], [0.0, 0.0]])) == 1.0
    with pytest.raises(DataError, match="at least 2"):
        true_regret(np.ones((3, 1)))


def test_regret_of_noise_is_not_the_winners_luck() -> None:
    runs = np.random.default_rng(0).integers(0, 2, size=(400, 20, 30)).astype(float)
    means_R_T = runs.mean(axis=2)
    assert (means_R_T.max(axis=1) - means_R_T[:, -1]).mean() > 0.1
    regrets = [true_regret(true_T_N) for true_T_N in runs]
    assert np.mean(regrets) == pytest.approx(0.0, abs=3 * np.std(regrets) / math.sqrt(len(regrets)))


@pytest.mark.parametrize(("true", "degree"), [([0.0, 1.0, 2.0], 0.0), ([0.0, 0.0, 0.0], 1.0), ([0.0, -1.0, -2.0], 2.0)])
def test_overoptimization_by_hand(true: list[float], degree: float) -> None:
    assert overoptimization(np.array([0, 5, 10]), np.array([0.0, 1.0, 2.0]), np.array(true)) == degree


def test_overoptimization_needs_a_proxy_that_rose() -> None:
    assert overoptimization(np.array([0, 5]), np.array([0.0, -1.0]), np.array([0.0, 1.0])) is None


def test_overoptimization_is_taken_in_the_order_of_its_axis() -> None:
    axis_T, proxy_T, true_T = np.array([0.0, 2.0, 1.0]), np.array([0.0, 4.0, 1.0]), np.array([0.0, 1.0, 1.0])
    whole = up_to_kl(axis_T, 2.0, proxy_T, true_T)
    assert whole is not None and overoptimization(*whole) == pytest.approx(1.5 / 3.0)
    first = up_to_kl(axis_T, 1.0, proxy_T, true_T)
    assert first is not None and overoptimization(*first) == 0.0


def test_the_measures_need_numpy_alone() -> None:
    found = {name.partition(".")[0] for name in imports_at_start(SOURCE / "pessimism/measures/goodhart.py")}
    assert found == {"__future__", "collections", "numpy", "pessimism"}

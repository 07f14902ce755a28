"""Each definition of beta* by hand, its resamples, and when it is not identified."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import pytest

from pessimism.errors import DataError
from pessimism.measures import beta_star
from pessimism.measures.beta_star import BetaStar, best_trade, beta_stars, smallest_above
from pessimism.measures.intervals import Interval
from pessimism.published import printed

BETAS = (0.3, 1.0, 2.4)


def runs(augc: list[list[float]], betas: tuple[float, ...] = BETAS, **columns: list[list[float]]) -> pd.DataFrame:
    """One row per run; tables are (seeds, betas)."""
    return pd.DataFrame(
        [
            {"seed": seed, "beta": beta, "augc": augc[seed][k], **{name: t[seed][k] for name, t in columns.items()}}
            for seed in range(len(augc))
            for k, beta in enumerate(betas)
        ]
    )


def test_all_definitions_stand_in_order() -> None:
    found = beta_stars(runs([[1, 2, 9], [1, 3, 8], [2, 3, 9]]), [0.5], paired=True)
    assert list(found) == [
        "eq_15_over_grid",
        "eq_15_over_observed",
        "def_61_win_rate",
        "def_61_reward_accuracy",
        "above_placebo",
    ]


def test_eq_15_of_the_published_points() -> None:
    augc = [[row.augc for row in printed.BETAS]] * 3
    found = beta_stars(runs(augc, tuple(row.beta for row in printed.BETAS)), [], paired=True)
    grid, observed = found["eq_15_over_grid"], found["eq_15_over_observed"]
    assert grid.estimate == pytest.approx(printed.POWER_LAW["beta_star_over_grid"], abs=1e-6)
    assert observed.estimate == pytest.approx(printed.POWER_LAW["beta_star_over_observed"], abs=1e-6)
    assert grid.interval is not None and grid.interval.low == grid.interval.high == pytest.approx(grid.estimate)
    assert grid.identifying_share == pytest.approx(1.0) and grid.not_identified == ""


def test_resamples_are_fitted_each() -> None:
    """Seeds that disagree on the curve disagree on its beta, and the interval spans them."""
    curves = [[2 * beta**power + 5 for beta in (*BETAS, 4.0)] for power in (1.0, 1.5, 2.0)]
    found = beta_stars(runs(curves, (*BETAS, 4.0)), [], paired=True)["eq_15_over_observed"]
    alone = [
        beta_stars(runs([curve], (*BETAS, 4.0)), [], paired=True)["eq_15_over_observed"].estimate for curve in curves
    ]
    assert found.interval is not None and found.estimate is not None
    assert found.interval.low == pytest.approx(min(alone)) and found.interval.high == pytest.approx(max(alone))
    assert found.interval.low < found.estimate < found.interval.high


def test_a_fit_that_runs_off_gives_no_beta(monkeypatch: pytest.MonkeyPatch) -> None:
    """One resample in 27 is the seed with the step alone: the share stays above 95 %."""
    monkeypatch.setattr(beta_star, "REPEATED_EVALUATIONS", 30)
    found = beta_stars(runs([[0, 0, 9], [1, 3, 8], [1, 3, 9]]), [], paired=True)["eq_15_over_grid"]
    assert found.identifying_share == pytest.approx(26 / 27) and found.not_identified == ""


def test_best_trade_by_hand() -> None:
    """Lambda = 8 / 0.2 = 40: 1 - 40 x 0.5 = -19, 2 - 40 x 0.65 = -24, 9 - 40 x 0.7 = -19."""
    betas, augc_K = np.array(BETAS), np.array([1.0, 2.0, 9.0])
    assert best_trade(betas, augc_K, np.array([0.5, 0.65, 0.7])) == 1.0
    assert best_trade(betas, augc_K, np.array([0.7, 0.65, 0.5])) == 0.3
    assert best_trade(betas, np.array([9.0, 2.0, 1.0]), np.array([0.5, 0.6, 0.7])) == 2.4
    assert best_trade(betas, augc_K, np.array([0.6, 0.6, 0.6])) is None
    assert best_trade(betas, np.array([2.0, 2.0, 2.0]), np.array([0.5, 0.6, 0.7])) is None


def test_best_trade_has_no_unit() -> None:
    """Equal weight: measuring AUGC per thousand steps or A in percent changes nothing."""
    betas, augc_K, offline_K = np.array(BETAS), np.array([1.0, 2.0, 9.0]), np.array([0.5, 0.65, 0.7])
    assert best_trade(betas, 1e-3 * augc_K, 100 * offline_K) == best_trade(betas, augc_K, offline_K)


def test_rounding_decides_no_trade() -> None:
    """Best and worst at opposite ends are equally good by the choice of lambda; argmin alone takes the greater beta."""
    assert best_trade(np.array(BETAS), np.array([11.3, 10.0, 0.45]), np.array([0.61, 0.58, 0.57])) == 0.3


def test_both_measured_qualities_are_used() -> None:
    same = [[1.0, 2.0, 9.0]] * 3
    found = beta_stars(
        runs(same, win_rate=[[0.5, 0.65, 0.7]] * 3, reward_accuracy=[[0.7, 0.6, 0.5]] * 3), [], paired=True
    )
    assert found["def_61_win_rate"].estimate == 1.0 and found["def_61_reward_accuracy"].estimate == 0.3


def test_an_unmeasured_quality_is_a_reason() -> None:
    without = beta_stars(runs([[1.0, 2.0, 9.0]] * 3), [], paired=True)["def_61_win_rate"]
    holes = beta_stars(runs([[1.0, 2.0, 9.0]] * 2, win_rate=[[0.5, 0.6, math.nan]] * 2), [], paired=True)[
        "def_61_win_rate"
    ]
    assert without == holes == BetaStar(None, not_identified="the runs lack win_rate")


def test_smallest_above_by_hand() -> None:
    assert smallest_above(np.array(BETAS), np.array([1.0, 5.0, 3.0]), 2.0) == 1.0
    assert smallest_above(np.array(BETAS), np.array([1.0, 2.0, 2.0]), 2.0) is None


def test_placebo_level_is_its_95th_percentile() -> None:
    """Of 0, 1, ..., 100 it is 95: an AUGC of 95 is not above it, 95.1 is."""
    placebo = np.arange(101.0)
    found = beta_stars(runs([[1.0, 95.0, 95.1]] * 3), placebo, paired=True)["above_placebo"]
    assert found.estimate == 2.4
    assert (
        beta_stars(runs([[1.0, 95.0, 95.1]] * 3), [], paired=True)["above_placebo"].not_identified
        == beta_star.NO_PLACEBO
    )


def test_the_share_of_resamples_decides() -> None:
    """The mean of 3 seeds is above the placebo's 10 unless the one high seed is left out: (2/3)^3 = 8/27 of draws."""
    unstable = beta_stars(runs([[1, 2, 100], [1, 2, 4], [1, 2, 4]]), [10.0], paired=True)["above_placebo"]
    assert unstable.estimate == 2.4 and unstable.interval is None
    assert unstable.identifying_share == pytest.approx(1 - 8 / 27)
    assert unstable.not_identified == beta_star.UNSTABLE
    steady = beta_stars(runs([[1, 3, 100], [1, 3, 90], [1, 50, 80]]), [10.0], paired=True)["above_placebo"]
    assert steady.estimate == 1.0 and steady.not_identified == ""
    assert steady.interval is not None and (steady.interval.low, steady.interval.high) == (1.0, 2.4)


def test_resamples_count_by_their_probability() -> None:
    """The lowest beta is above 10 where one seed of 4 is drawn 4 times: 1 of 35 resamples, of probability 1/256."""
    found = beta_stars(runs([[11, 20, 30], *[[1, 20, 30]] * 3]), [10.0], paired=True)["above_placebo"]
    assert found == BetaStar(1.0, Interval(1.0, 1.0), pytest.approx(1.0))


def test_a_choice_that_ranges_over_all_observed_betas_is_not_identified() -> None:
    """Each seed is drawn alone in 1 of 27 resamples, which is more than a tail: the interval spans what they choose."""
    wide = [[20, 30, 40], [1, 20, 30], [1, 2, 30]]
    found = beta_stars(runs(wide), [10.0], paired=True)["above_placebo"]
    assert found == BetaStar(1.0, None, pytest.approx(1.0), beta_star.ANY_BETA)
    for narrow in (wide[1:], wide[:2]):
        found = beta_stars(runs(narrow), [10.0], paired=True)["above_placebo"]
        assert found.not_identified == "" and found.interval is not None
    one_beta = beta_stars(runs([[20.0], [30.0], [40.0]], (1.0,)), [10.0], paired=True)["above_placebo"]
    assert one_beta.not_identified == beta_star.ANY_BETA


@pytest.mark.parametrize("quality", ["win_rate", "reward_accuracy"])
def test_a_trade_whose_seeds_disagree_from_end_to_end_is_not_identified(quality: str) -> None:
    rising, falling = ([1.0, 2.0, 3.0], [0.9, 0.5, 0.4]), ([3.0, 2.0, 1.0], [0.4, 0.5, 0.9])
    seeds = [rising, falling, falling]
    assert [best_trade(np.array(BETAS), *map(np.array, seed)) for seed in seeds] == [0.3, 2.4, 2.4]
    table = runs([augc for augc, _ in seeds], **{quality: [offline for _, offline in seeds]})
    found = beta_stars(table, [], paired=True)[f"def_61_{quality}"]
    assert found == BetaStar(2.4, None, pytest.approx(1.0), beta_star.ANY_BETA)


def test_no_estimate_is_not_identified() -> None:
    found = beta_stars(runs([[3, 2, 1], [3, 2, 1.5], [3, 2, 2]]), [10.0], paired=True)
    assert found["above_placebo"] == found["eq_15_over_grid"] == BetaStar(None, not_identified=beta_star.NO_BETA)


def test_one_seed_has_an_estimate_and_no_interval() -> None:
    found = beta_stars(runs([[1.0, 2.0, 9.0]]), [1.5], paired=True)["above_placebo"]
    assert found == BetaStar(1.0, not_identified=beta_star.ONE_SEED)


def test_rows_may_come_in_any_order() -> None:
    table = runs([[1.0, 2.0, 9.0], [1.0, 3.0, 8.0]])
    assert beta_stars(table.iloc[::-1], [1.5], paired=True) == beta_stars(table, [1.5], paired=True)


def test_incomplete_runs_are_refused() -> None:
    table = runs([[1.0, 2.0, 9.0], [1.0, 3.0, 8.0]])
    with pytest.raises(DataError, match="without a finite augc at every beta"):
        beta_stars(table.iloc[1:], [], paired=True)
    with pytest.raises(DataError, match="two runs of one seed and beta"):
        beta_stars(pd.concat([table, table]), [], paired=True)


@pytest.mark.parametrize("seeds", [3, 6])
def test_unpaired_runs_may_be_named_in_any_way_and_paired_ones_may_not(
    seeds: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One run of the first and one of the second beta are high: that they are drawn together is a matter of names."""
    monkeypatch.setattr(beta_star, "fit_power_law", lambda *_: None)
    augc = np.random.default_rng(2).random((seeds, 3)) / 100
    augc[0, :2] += seeds
    table = runs(augc.tolist())
    renamed = table.assign(seed=np.where(table["beta"] == BETAS[1], (table["seed"] + 1) % seeds, table["seed"]))
    assert beta_stars(renamed, [0.9], paired=False) == beta_stars(table, [0.9], paired=False)
    shares = [beta_stars(named, [0.9], paired=True)["above_placebo"].identifying_share for named in (table, renamed)]
    assert shares[0] == pytest.approx(1 - (1 - 1 / seeds) ** seeds, abs=0.03) and float(shares[1] or 0) > 0.8


def test_unpaired_runs_of_one_name_and_beta_are_refused() -> None:
    table = runs([[1.0, 2.0, 9.0]] * 2)
    with pytest.raises(DataError, match="two runs of one seed and beta"):
        beta_stars(pd.concat([table, table]), [], paired=False)

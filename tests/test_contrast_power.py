"""Invented experiments that resemble a run: what arms share, their level and their power."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from pessimism.claims import contrast_power, simulated_tables, simulation
from pessimism.claims.contrast_power import (
    ANY,
    ObservedArms,
    contrast_rates,
    contrast_table,
    observed_arms,
    seeds_needed,
)
from pessimism.claims.invented import monte_carlo_error
from pessimism.claims.wording import DOORS
from pessimism.errors import DataError
from pessimism.experiment.params import Params, load_params
from pessimism.measures.contrasts import trend_ps
from support.arm_cells import arm_cells
from support.repository import CHECKOUT

EXPERIMENTS = 2000
RUN_SEEDS = 5


def design(*arms: str) -> Params:
    return replace(load_params(CHECKOUT, protocol="paper"), arms=arms or ("proxy", "uncoupled", "placebo"))


def observed(own: float = 1.0, shared: float = 0.0, seeds: int = RUN_SEEDS, paired: bool = True) -> ObservedArms:
    """A run whose coupled arm falls by 8 and the other by 2, with noise that both share and some of their own."""
    generator = np.random.default_rng(5)
    luck = shared * generator.normal(size=(seeds, 3))
    first, second = luck + own * generator.normal(size=(2, seeds, 3))
    found = observed_arms(
        arm_cells(proxy=20 - 4 * np.arange(3) + first, uncoupled=20 - np.arange(3) + second), design(), paired
    )
    assert found is not None
    return found


@pytest.mark.parametrize("paired", [True, False])
def test_no_contrast_is_found_more_often_than_it_may(paired: bool) -> None:
    rises, falls = contrast_rates(observed(paired=paired), 0.0, EXPERIMENTS, np.random.default_rng(0))
    limit = 0.05 + 3 * monte_carlo_error(0.05, EXPERIMENTS)
    assert 0.02 < max(*rises.mean(axis=0), *falls.mean(axis=0)) <= limit
    assert not (rises & falls).any()


@pytest.mark.parametrize("paired", [True, False])
def test_power_is_that_of_the_test_on_normal_runs_of_the_observed_covariance(paired: bool) -> None:
    """The same by another way: all runs of a seed drawn at once, and each contrast tested by itself."""
    run = observed(own=3.0, shared=2.0, paired=paired)
    rises, falls = contrast_rates(run, 0.5, EXPERIMENTS, np.random.default_rng(0))
    for place, values in enumerate(half_of_it(run, RUN_SEEDS)):
        expected = [float((ps <= 0.05).mean()) for ps in trend_ps(values, paired)]
        found = [rises[:, place].mean(), falls[:, place].mean()]
        assert found == pytest.approx(expected, abs=4 * math.sqrt(2) * monte_carlo_error(0.5, EXPERIMENTS))
    assert falls[:, 0].mean() > 0.2


def test_what_both_arms_share_hides_the_total_and_not_the_coupling() -> None:
    rates = contrast_rates(observed(own=0.5, shared=10.0), 0.5, EXPERIMENTS, np.random.default_rng(0))[1].mean(axis=0)
    power = dict(zip(DOORS, rates, strict=True))
    assert power["coupling"] > 0.9 and power["total"] < 0.5 and power["offline"] < 0.5


def test_the_table_has_each_contrast_and_any_of_them() -> None:
    run = observed()
    table = contrast_table(run, 500, 1).set_index("contrast")
    assert list(table.index) == [*DOORS, ANY]
    assert table.loc["total", "observed effect"] == f"{run.effects[0]:+.3g}"
    assert run.effects[1] + run.effects[2] == pytest.approx(run.effects[0])
    half, whole = table["found at half of it"][:3].astype(float), table["found at all of it"][:3].astype(float)
    assert (half <= whole).all() and whole["total"] > 0.95
    falsely = table["falsely found without any"].astype(float)
    assert falsely[:3].max() <= falsely[ANY] <= 0.3


def test_the_seeds_needed_have_the_power_and_the_next_fewer_have_not() -> None:
    run = observed(own=3.5)
    needed = seeds_needed(run, EXPERIMENTS, 2)
    assert needed == ["10", "more than 60", "10"]
    slack = 3 * monte_carlo_error(0.8, EXPERIMENTS)
    for seeds, enough in ((5, False), (10, True)):
        total, _, coupling = half_of_it(run, seeds)
        for values in (total, coupling):
            power = float((trend_ps(values, True)[1] <= 0.05).mean())
            assert power >= 0.8 - slack if enough else power < 0.8 + slack
    assert seeds_needed(observed(own=0.1), 500, 2) == ["5"] * 3
    assert "more than 60" in seeds_needed(observed(own=60.0), 200, 2)


def half_of_it(run: ObservedArms, seeds: int) -> list[np.ndarray]:
    """Runs of the three contrasts at half of the effect, all of a seed drawn at once, (E, S, K) each."""
    joint = np.hstack(list(run.values_A_S_K))
    means = np.concatenate([0.5 * arm.mean(axis=0) for arm in run.values_A_S_K])
    covariance = np.cov(joint, rowvar=False) * (1 if run.paired else np.tile(np.eye(3), (2, 2)))
    drawn = np.random.default_rng(1).multivariate_normal(means, covariance, size=(EXPERIMENTS, seeds))
    coupled, uncoupled = drawn[..., :3], drawn[..., 3:]
    return [coupled, uncoupled, coupled - uncoupled]


def test_a_run_that_does_not_tell_the_doors_apart_has_no_table() -> None:
    params = design("proxy", "placebo")
    values = np.arange(6.0).reshape(2, 3)
    assert observed_arms(arm_cells(proxy=values), params, True) is None
    text = simulation.page(simulated_tables.tables(4), 4)
    assert "no arm with one penalty for every beta" in text and "| coupling |" not in text


def test_one_seed_has_no_spread_to_simulate_with() -> None:
    values = np.arange(3.0)[None]
    with pytest.raises(DataError, match="fewer than two seeds have no spread; expected a run of two seeds"):
        observed_arms(arm_cells(proxy=values, uncoupled=values), design(), True)


def test_the_page_shows_it() -> None:
    run = observed()
    text = simulation.page(simulated_tables.tables(4, run), 4, run)
    assert "5 seeds" in text.split("## Power of the three contrasts")[1] and f"| {ANY} |  |" in text
    words = " ".join(contrast_power.questions_sentence().split())
    assert "at most 30%" in words and "four passes of 5%" in words

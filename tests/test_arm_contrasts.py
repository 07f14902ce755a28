"""What beta does through the checkpoint and through the penalty: by hand, and where the truth is known."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from pessimism.claims.arm_contrasts import Contrast, asked, check_contrasts
from pessimism.claims.kinds import Evidence
from pessimism.claims.statements import PRIMARY, QUANTITY
from pessimism.claims.verdicts import RISES, ClaimTest, trend_test
from pessimism.claims.wording import DOORS
from pessimism.errors import DataError
from pessimism.experiment.params import Params, load_params
from pessimism.measures import power
from pessimism.scoring.columns import over_beta
from support.arm_cells import arm_cells
from support.repository import CHECKOUT

PROXY = np.array([[5.0, 3.0, 1.0], [6.0, 3.0, 2.0], [7.0, 3.0, 0.0]])
UNCOUPLED = np.array([[4.0, 3.0, 2.0], [4.0, 3.0, 3.0], [6.0, 3.0, 2.0]])
RISING, FALLING, UNDECIDED = "rises with beta", "falls with beta", "undecided"


@pytest.fixture(autouse=True)
def few_planned_experiments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(power, "EXPERIMENTS", 40)


def design(paired: bool = True, arms: tuple[str, ...] = ("proxy", "uncoupled", "placebo"), **protocol: Any) -> Params:
    params = load_params(CHECKOUT, protocol="paper")
    return replace(params, arms=arms, protocol=replace(params.protocol, paired_seeds=paired, **protocol))


def verdicts(found: dict[str, Any]) -> tuple[str, ...]:
    return tuple(found[question]["verdict"] for question in DOORS)


def noise(scale: float = 1.0) -> np.ndarray:
    return np.random.default_rng(3).normal(scale=scale, size=(2, 5, 3))


def test_an_example_by_hand() -> None:
    """Seeds change by -4, -4, -7 in all, by -2, -1, -4 through the checkpoint and by -2, -3, -3 through the penalty.

    Of a t variable with two degrees the tail below -x is (1 - x / sqrt(x^2 + 2)) / 2. Each permutation has one
    arrangement of 6^3 that is as far, which is the smaller p.
    """
    found = check_contrasts(arm_cells(proxy=PROXY, uncoupled=UNCOUPLED), design())
    changes = {"total": [-4, -4, -7], "offline": [-2, -1, -4], "coupling": [-2, -3, -3]}
    for question, of_seeds in changes.items():
        one = found[question]
        mean, spread = np.mean(of_seeds), np.std(of_seeds, ddof=1)
        assert one["estimate"] == pytest.approx(mean) and one["spread"] == pytest.approx(spread)
        half = 4.302653 * spread / math.sqrt(3)
        assert one["interval"] == pytest.approx([mean - half, mean + half], rel=1e-6)
        x = abs(mean) / (spread / math.sqrt(3))
        assert one["p_falls"] == pytest.approx((1 - x / math.sqrt(x**2 + 2)) / 2)
        assert one["p_rises"] > 0.9
    assert found["coupling"]["contrast"] == "proxy - uncoupled" and found["unit"] == QUANTITY.unit
    assert verdicts(found) == (FALLING, UNDECIDED, FALLING)
    assert [run["value"] for run in found["coupling"]["values"] if run["seed"] == 0] == [1.0, 0.0, -1.0]


@pytest.mark.parametrize("paired", [True, False])
def test_the_total_is_the_primary_claim_itself_and_the_others_add_up_to_it(paired: bool) -> None:
    table = arm_cells(proxy=PROXY + noise()[0, :3], uncoupled=UNCOUPLED + noise()[1, :3])
    found = check_contrasts(table, design(paired))
    evidence = Evidence(over_beta(table, "proxy"), PRIMARY.primary, paired, {}, {})
    test, numbers = PRIMARY.kind.test(evidence), PRIMARY.kind.numbers(evidence, family=1)
    assert isinstance(test, ClaimTest)
    total = found["total"]
    assert (total["p_rises"], total["p_falls"]) == (test.p, test.p_opposite)
    assert [total[key] for key in ("estimate", "interval", "seeds_needed", "values")] == [
        numbers[key] for key in ("estimate", "interval", "seeds_needed", "values")
    ]
    assert found["offline"]["estimate"] + found["coupling"]["estimate"] == pytest.approx(total["estimate"], rel=1e-12)


def test_an_effect_of_the_checkpoint_alone() -> None:
    """Both arms rise alike, each with noise of its own."""
    first, second = 10 + 4 * np.arange(3) + noise()
    found = check_contrasts(arm_cells(proxy=first, uncoupled=second), design())
    assert verdicts(found) == (RISING, RISING, UNDECIDED)


def test_an_effect_of_the_penalty_alone() -> None:
    """The arm with one penalty does not depend on beta."""
    first, second = 10 + noise()
    found = check_contrasts(arm_cells(proxy=first - 4 * np.arange(3), uncoupled=second), design())
    assert verdicts(found) == (FALLING, UNDECIDED, FALLING)


def test_doors_that_cancel_leave_nothing_in_all() -> None:
    first, second = 10 + noise()
    found = check_contrasts(arm_cells(proxy=first, uncoupled=second + 4 * np.arange(3)), design())
    assert verdicts(found) == (UNDECIDED, RISING, FALLING)


def test_no_effect_is_not_found() -> None:
    first, second = 10 + noise()
    found = check_contrasts(arm_cells(proxy=first, uncoupled=second), design())
    assert verdicts(found) == (UNDECIDED, UNDECIDED, UNDECIDED)
    assert found["total"]["seeds_needed"] is not None and found["total"]["spread"] > 0


def test_noise_that_both_arms_of_a_run_share_leaves_none_in_their_difference() -> None:
    """A checkpoint's luck, however large, is in both of its runs."""
    luck = 100 * noise()[0]
    found = check_contrasts(arm_cells(proxy=luck - 4 * np.arange(3), uncoupled=luck), design(paired=False))
    assert verdicts(found) == (UNDECIDED, UNDECIDED, FALLING)
    assert found["coupling"]["interval"] == pytest.approx([-8.0, -8.0])


@pytest.mark.parametrize("paired", [True, False])
def test_the_difference_is_tested_as_the_seeds_are_paired(paired: bool) -> None:
    first, second = 10 + 3 * noise()
    found = check_contrasts(arm_cells(proxy=first + np.arange(3), uncoupled=second), design(paired))["coupling"]
    test = trend_test(first + np.arange(3) - second, RISES, paired)
    assert isinstance(test, ClaimTest) and (found["p_rises"], found["p_falls"]) == (test.p, test.p_opposite)


@pytest.mark.parametrize("paired", [True, False])
def test_names_of_seeds_and_the_order_of_rows_do_not_matter(paired: bool) -> None:
    first, second = 10 + noise()
    table = arm_cells(proxy=first + 2 * np.arange(3), uncoupled=second)
    names = {beta: [4, 3, 0, 1, 2] for beta in table["beta"].unique()}
    if not paired:  # then the runs of a seed belong together within a beta alone
        names = dict(zip(names, ([4, 3, 0, 1, 2], [0, 1, 2, 3, 4], [1, 2, 3, 4, 0]), strict=True))
    renamed = table.assign(seed=[names[beta][seed] for beta, seed in zip(table["beta"], table["seed"], strict=True)])
    found, other = (check_contrasts(one, design(paired)) for one in (table, renamed.sample(frac=1, random_state=0)))
    for question in DOORS:
        for key in ("estimate", "interval", "spread", "p_rises", "p_falls", "seeds_needed"):
            assert other[question][key] == pytest.approx(found[question][key]), (question, key)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        (design(arms=("proxy", "placebo")), "arm uncoupled was not run: add it to arms"),
        (
            design(arms=("oracle", "uncoupled", "placebo")),
            "no arm is oracle with kappa fixed: add one to protocols/paper",
        ),
        (design(arms=("uncoupled", "proxy", "placebo")), "the penalty of arm uncoupled does not depend on beta"),
        (replace(load_params(CHECKOUT, protocol="controlled")), "the penalty of arm proxy does not depend on beta"),
    ],
)
def test_arms_that_do_not_tell_the_doors_apart_say_why(params: Params, reason: str) -> None:
    primary = params.primary_arm
    found = check_contrasts(arm_cells(**{arm: PROXY for arm in params.arms}), params)
    assert list(asked(params).values()) == [Contrast(primary)] and found["total"]["estimate"] == -5.0
    for question in ("offline", "coupling"):
        assert found[question]["reason"].startswith(reason)
        assert found[question]["estimate"] is None and found[question]["verdict"] == UNDECIDED
        assert found[question].keys() == found["total"].keys()


def test_one_seed_has_an_estimate_and_no_test() -> None:
    found = check_contrasts(arm_cells(proxy=PROXY[:1], uncoupled=UNCOUPLED[:1]), design())
    assert [found[question]["estimate"] for question in DOORS] == [-4.0, -2.0, -2.0]
    assert {found[question]["reason"] for question in DOORS} == {"fewer than two seeds have no spread"}
    assert {found[question]["spread"] for question in DOORS} == {None}


def test_a_run_without_its_fellow_is_refused() -> None:
    table = arm_cells(proxy=PROXY, uncoupled=UNCOUPLED).query(
        "not (arm == 'uncoupled' and label == 'p50' and seed == 1)"
    )
    with pytest.raises(DataError, match=r"found no run p50-s1 of arm uncoupled; expected one for each of proxy"):
        check_contrasts(table, design())

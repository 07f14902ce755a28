"""Runs of a log that are tested and subtracted: on common steps alone, and those unlike the others are named."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pessimism import cli
from support.endings import refused

Score = Callable[..., dict[str, Any]]
GROUPS = ["--beta", "beta", "--seed", "seed"]
SDS = ["--proxy-sd", 1, "--true-sd", 1]


@pytest.fixture
def score(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Score:
    """Everything that the command finds in a table, as data."""

    def run(table: pd.DataFrame, *arguments: object) -> dict[str, Any]:
        table.to_csv(tmp_path / "log.csv", index=False)
        cli.main(["score", str(tmp_path / "log.csv"), *map(str, arguments), "--json"])
        return json.loads(capsys.readouterr().out)

    return run


def failure(score: Score, *arguments: Any) -> str:
    with refused() as refusal:
        score(*arguments)
    assert "\n" not in refusal.message
    return refusal.message


def sweep(last: dict[float, int], seeds: int = 3, slope: float = 0.1) -> pd.DataFrame:
    """Runs of identical dynamics that end at the step of their beta."""
    rows = [
        {"beta": beta, "seed": seed, "step": step, "proxy_reward": 1 + seed / 100 + slope * step, "true_reward": 0.5}
        for beta, end in last.items()
        for seed in range(seeds)
        for step in range(end + 1)
    ]
    return pd.DataFrame(rows)


def noise(last: dict[float, int], draw: np.random.Generator) -> pd.DataFrame:
    """The same without a change but noise, so that only its length tells a run apart."""
    table = sweep(last, slope=0)
    return table.assign(proxy_reward=draw.normal(size=len(table)), true_reward=draw.normal(size=len(table)))


def note(found: dict[str, Any], part: str) -> str:
    (said,) = [note for note in found["notes"] if part in note]
    return str(said)


def test_runs_too_short_for_the_others_give_no_verdict(score: Score) -> None:
    """Identical dynamics that end at steps 10, 6 and 3 "fell" with p 0.0046."""
    found = score(sweep({0.1: 10, 0.5: 6, 1.0: 3}), *GROUPS, *SDS)
    said = note(found, "different steps")
    assert "all are scored on the 4 that they share, 0 to 3, of 11 in the longest" in said
    assert "The first to end is beta 1.0, seed 0" in said and "there is no trend and no excess" in said
    assert found["trends"] == []
    assert {run["last_step"] for run in found["runs"]} == {3}
    assert len({round(run["scores"]["controlled_augc"], 9) for run in found["runs"]}) == 1


def test_unequal_runs_are_tested_on_the_steps_that_they_share(score: Score) -> None:
    """As if every run had been cut by hand: numbers, p-values and all."""
    table = noise({0.1: 33, 0.5: 28, 1.0: 24}, np.random.default_rng(0))
    found = score(table, *GROUPS, *SDS)
    by_hand = score(table[table["step"] <= 24], *GROUPS, *SDS)
    assert "all are scored on the 25 that they share, 0 to 24, of 34" in note(found, "different steps")
    assert found["trends"] and {key: found[key] for key in ("runs", "trends", "thresholds")} == {
        key: by_hand[key] for key in ("runs", "trends", "thresholds")
    }


def test_a_placebo_that_ends_early_gives_no_excess(score: Score) -> None:
    on = sweep({0.1: 10}).assign(arm="on")
    arguments = ["--arm", "arm", "--placebo", "off", "--seed", "seed", *SDS]
    found = score(pd.concat([on, sweep({0.1: 6}).assign(arm="off")]), *arguments)
    assert [run["scores"]["controlled_augc_excess"] for run in found["runs"]] == pytest.approx([0] * 6)
    short = score(pd.concat([on, sweep({0.1: 3}).assign(arm="off")]), *arguments)
    assert "controlled_augc_excess" not in short["runs"][0]["scores"]
    assert "there is no trend and no excess" in note(short, "different steps")


def test_runs_at_other_steps_share_some(score: Score) -> None:
    """Every second step against every step; prompts and samples are cut with the curves."""
    rows = pd.concat([sweep({1: 8}, seeds=1), sweep({1: 8}, seeds=1)])
    rows = rows.assign(prompt=["a"] * 9 + ["b"] * 9).sort_values("step")
    fine = rows.assign(beta=1.0)
    coarse = rows[rows["step"] % 2 == 0].assign(beta=2.0)
    found = score(pd.concat([fine, coarse]), "--beta", "beta", "--prompt", "prompt", *SDS)
    assert [(run["points"], run["last_step"]) for run in found["runs"]] == [(5, 8), (5, 8)]
    assert all(run["scores"]["true_regret"] is not None for run in found["runs"])


def test_a_run_without_its_first_steps_has_no_baseline(score: Score) -> None:
    table = sweep({0.1: 10, 0.5: 10})
    late = table[~((table["beta"] == 0.5) & (table["seed"] == 2) & (table["step"] < 3))]
    message = failure(score, late, *GROUPS)
    assert "found step 3 as the first of beta 0.5, seed 2 and step 0 as that of beta 0.1, seed 0" in message
    assert "expected runs that are compared to start at one step" in message
    alone = score(late, "--group", "beta", "--group", "seed")
    assert "each is scored on its own" in note(alone, "different steps")
    assert "Among them are step 3 as the first of beta 0.5, seed 2" in note(alone, "different steps")
    assert {run["points"] for run in alone["runs"]} == {8, 11}


def test_runs_that_share_one_step_are_refused(score: Score) -> None:
    table = sweep({0.1: 9, 0.5: 9})
    apart = table[(table["step"] == 0) | ((table["step"] % 2 == 0) == (table["beta"] == 0.1))]
    assert "found step 0 alone in all of 6 runs" in failure(score, apart, *GROUPS)


# betas, labels


def test_betas_compare_as_numbers(score: Score) -> None:
    """0.1 and 0.10 are two runs of one beta; a placebo of 0.10 is that of 0.1."""
    table = sweep({0.1: 5, 1.0: 5}).astype({"beta": str})
    again = sweep({0.1: 5}, slope=0.3).assign(beta="0.10")
    found = score(pd.concat([table, again]), *GROUPS, *SDS)
    assert len(found["runs"]) == 9
    assert {(row["runs"], tuple(row["betas"])) for row in found["trends"]} == {(9, (0.1, 1.0))}
    assert "Column beta writes one number as 0.1 and 0.10" in note(found, "writes one number")
    off = again.assign(arm="off")
    paired = score(
        pd.concat([table.assign(arm="on"), off]), "--arm", "arm", "--placebo", "off", "--beta", "beta", "--seed", "seed"
    )
    assert "3 runs have no placebo of the same groups" in note(paired, "placebo")


def test_a_beta_of_zero_has_its_placebo(score: Score) -> None:
    table = sweep({0: 5}, seeds=1).astype({"beta": str})
    both = pd.concat([table.assign(arm="on"), table.assign(arm="off", beta="0.0")])
    found = score(both, "--arm", "arm", "--placebo", "off", "--beta", "beta", *SDS)
    assert not [said for said in found["notes"] if "no placebo of the same groups" in said]


def test_a_beta_with_an_underscore_is_no_number(score: Score) -> None:
    message = failure(score, sweep({1: 5, 2: 5}).astype({"beta": str}).replace("2", "1_0"), *GROUPS)
    assert "found '1_0' in column 'beta'; expected numbers in --beta" in message


# runs unlike the others


def samples(seed: int, scale: float = 1, right: float = 0.5) -> pd.DataFrame:
    """Rows per sample of one run whose first step has the share ``right`` of right answers."""
    draw = np.random.default_rng(seed)
    rows = [
        {
            "seed": seed,
            "step": step,
            "proxy_reward": scale * draw.normal(step),
            "true_reward": int(draw.random() < share),
        }
        for step, share in enumerate((right, 0.5, 0.5, 0.5, 0.5, 0.5))
        for _ in range(16)
    ]
    return pd.DataFrame(rows)


def per_step(table: pd.DataFrame) -> pd.DataFrame:
    """Means and standard deviations of the samples of every step, as a trainer logs them."""
    by_step = table.groupby(["seed", "step"], as_index=False)
    means, sds = by_step.mean(), by_step.std()
    return means.assign(psd=sds["proxy_reward"], tsd=sds["true_reward"])


COLUMNS = ["--proxy-sd", "psd", "--true-sd", "tsd"]


def test_a_seed_on_another_scale_is_named(score: Score) -> None:
    table = pd.concat([samples(0), samples(1), samples(2, scale=10)])
    for found in (
        score(table, "--seed", "seed"),
        score(per_step(table), "--seed", "seed", *COLUMNS),
        score(per_step(table), "--seed", "seed", *SDS),
    ):
        assert note(found, "another scale").startswith("The proxy reward of seed 2 spreads unlike")
    even = pd.concat([samples(0), samples(1), samples(2)])
    for found in (score(even, "--seed", "seed"), score(per_step(even), "--seed", "seed", *SDS)):
        assert not [said for said in found["notes"] if "another scale" in said]


def test_a_seed_on_another_scale_is_named_beside_deviations_that_are_not(score: Score) -> None:
    """Deviations that a trainer logs before it scales the reward are alike in all runs."""
    table = per_step(pd.concat([samples(0), samples(1), samples(2)]))
    table.loc[table["seed"] == 2, "proxy_reward"] *= 20
    said = note(score(table, "--seed", "seed", *COLUMNS), "another scale")
    assert said.startswith("The proxy reward of seed 2 spreads unlike")


@pytest.mark.parametrize("options", [[], COLUMNS, SDS])
def test_a_seed_with_a_constant_added_is_named(score: Score, options: list[object]) -> None:
    table = per_step(pd.concat([samples(0), samples(1), samples(2)]))
    assert not [said for said in score(table, "--seed", "seed", *options)["notes"] if "constant" in said]
    table.loc[table["seed"] == 1, "true_reward"] += 10
    said = note(score(table, "--seed", "seed", *options), "was a constant added to it?")
    assert said.startswith("The true reward of seed 1 starts unlike that of the runs beside it")


def test_betas_that_start_unlike_have_no_constant_added(score: Score) -> None:
    table = sweep({1: 9, 2: 9})
    table.loc[table["beta"] == 2, "proxy_reward"] += 10
    found = score(table, *GROUPS, *SDS)
    assert not [said for said in found["notes"] if "constant" in said]


def test_rounding_is_no_spread(score: Score) -> None:
    """Means of 0.1 that differ in their last digit, beside a run that moves."""
    table = sweep({1: 9}, slope=0)
    table.loc[table["seed"] < 2, "proxy_reward"] = 0.1 + 1e-17 * table["step"] + 2e-17 * (table["step"] % 2)
    table.loc[(table["seed"] < 2) & (table["step"] == 4), "proxy_reward"] = np.nextafter(0.1, 1)
    table.loc[table["seed"] == 2, "proxy_reward"] = 0.1 + table["step"] / 100
    found = score(table, *GROUPS)
    assert not [said for said in found["notes"] if "another scale" in said]


def test_a_run_whose_rewards_are_one_is_named(score: Score) -> None:
    table = sweep({0.1: 5, 0.5: 5, 1.0: 5})
    alike = (table["beta"] == 0.5) & (table["seed"] == 1)
    table.loc[alike, "true_reward"] = table.loc[alike, "proxy_reward"]
    said = note(score(table, *GROUPS, *SDS), "equal to the true one")
    assert said.startswith("1 of 9 runs have a proxy reward equal to the true one at every step: beta 0.5, seed 1.")
    assert not [said for said in score(sweep({1: 5}), *GROUPS)["notes"] if "equal to" in said]


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_log_without_its_first_step_is_said(score: Score, seeds: int) -> None:
    table = sweep({1: 9}, seeds=seeds)
    said = note(score(table[table["step"] > 2], *GROUPS), "The first step is")
    assert said.startswith("The first step is 3, the baseline of everything: it should be the untouched policy")
    assert not [said for said in score(table, *GROUPS)["notes"] if "The first step is" in said]


def test_betas_that_move_unlike_are_no_other_scale(score: Score) -> None:
    """Means over steps are compared within a beta alone: that they differ between betas is the finding."""
    table = pd.concat([sweep({1: 9}, slope=0.1), sweep({2: 9}, slope=5)])
    found = score(table, *GROUPS, *SDS)
    assert not [said for said in found["notes"] if "another scale" in said]


def test_a_run_that_starts_without_a_right_answer_is_named_in_both_kinds_of_log(score: Score) -> None:
    table = pd.concat([samples(0), samples(1), samples(2, right=0)])
    by_sample = score(table, "--seed", "seed")
    by_step = score(per_step(table), "--seed", "seed", *COLUMNS)
    for found in (by_sample, by_step):
        said = note(found, "without a right answer")
        assert said.startswith("1 of 3 runs start without a right answer") and "seed 2" in said
        assert found["runs"][2]["scores"]["baseline_degenerate"] == 1
    assert by_sample["unit"] == pytest.approx(by_step["unit"])
    assert not [said for said in score(samples(0))["notes"] if "without a right answer" in said]


def test_a_log_per_step_where_no_run_has_a_right_answer_needs_the_bases_spread(score: Score) -> None:
    table = per_step(pd.concat([samples(0, right=0), samples(1, right=0)]))
    assert "give the base policy's with --true-sd" in failure(score, table, "--seed", "seed", *COLUMNS)
    assert score(table, "--seed", "seed", "--proxy-sd", "psd", "--true-sd", 0.5)["unit"]["true_sd"] == 0.5

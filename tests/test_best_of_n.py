"""Best-of-n selection: estimator, KL, the checkpoint's columns and tables, and how responses are drawn."""

from __future__ import annotations

import dataclasses
import math
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from pessimism.errors import DataError, NonFiniteError, ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell
from pessimism.experiment.params import Params, load_params
from pessimism.measures.best_of_n import best_of_n, best_of_n_kl, selection_weights, sizes
from pessimism.online.best_of_n import draw_responses, draw_seeds
from pessimism.reporting import best_of_n as reported
from pessimism.reward.ensemble import member_name
from pessimism.scoring.best_of_n import AGGREGATE, MEMBER, TRUTH, BestOfN, best_of_n_rows, read_draws
from pessimism.scoring.measured import Unit
from pessimism.scoring.measures import MEASURES
from support.online_world import make_run, tasks, with_protocol
from support.yaml_edits import set_key


def enumerated(selector_N: np.ndarray, reward_N: np.ndarray, n: int) -> float:
    """Mean over all subsets of n of the reward of the largest score; of equal ones the mean."""
    subsets = [list(subset) for subset in combinations(range(len(selector_N)), n)]
    return float(np.mean([reward_N[s][selector_N[s] == selector_N[s].max()].mean() for s in subsets]))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(-5, 5)), min_size=1, max_size=7), st.data())
def test_the_estimate_is_the_mean_over_all_subsets(draws: list[tuple[int, int]], data: st.DataObject) -> None:
    """Scores of 0 to 3 tie often."""
    selector_N, reward_N = np.array(draws, dtype=float).T
    n = data.draw(st.integers(1, len(draws)))
    found = best_of_n(selector_N[None], np.stack([reward_N, selector_N])[:, None], n)[:, 0]
    expected = [enumerated(selector_N, reward_N, n), enumerated(selector_N, selector_N, n)]
    assert found == pytest.approx(expected, abs=1e-12)


def test_weights_by_hand() -> None:
    """Of the six pairs of four draws the largest is the best of three, the next of two, and the smallest of none."""
    weights = selection_weights(np.array([[3.0, 1.0, 4.0, 2.0], [1.0, 1.0, 1.0, 1.0], [0.0, 2.0, 2.0, 1.0]]), 2)
    assert weights[0] == pytest.approx([2 / 6, 0, 3 / 6, 1 / 6])
    assert weights[1] == pytest.approx([1 / 4] * 4)
    assert weights[2] == pytest.approx([0, 2.5 / 6, 2.5 / 6, 1 / 6])


@pytest.mark.parametrize("n", [1, 2, 16, 63, 64])
def test_weights_of_many_draws_add_up_to_one(n: int) -> None:
    scores_P_N = np.random.default_rng(0).normal(size=(5, 64)).round(1)
    weights = selection_weights(scores_P_N, n)
    assert weights.sum(axis=1) == pytest.approx(np.ones(5), abs=1e-12) and (weights >= 0).all()


def test_one_draw_is_the_mean_and_all_draws_are_the_best() -> None:
    selector_P_N, reward_P_N = np.random.default_rng(1).normal(size=(2, 3, 8))
    assert best_of_n(selector_P_N, reward_P_N[None], 1)[0] == pytest.approx(reward_P_N.mean(axis=1))
    best = reward_P_N[np.arange(3), selector_P_N.argmax(axis=1)]
    assert best_of_n(selector_P_N, reward_P_N[None], 8)[0] == pytest.approx(best)


PROBLEMS, DRAWS = 4000, 64


def test_a_uniform_proxy_gives_n_over_n_plus_one() -> None:
    proxy_P_N = np.random.default_rng(2).random((PROBLEMS, DRAWS))
    for n in sizes(DRAWS):
        assert best_of_n(proxy_P_N, proxy_P_N[None], n)[0].mean() == pytest.approx(n / (n + 1), abs=0.002)


def test_a_correlated_truth_gains_its_share_of_the_proxys_gain() -> None:
    """Proxy and truth normal with correlation rho: E[truth of the chosen] = rho E[largest of n normals]."""
    rho, generator = 0.6, np.random.default_rng(3)
    proxy_P_N, noise_P_N = generator.normal(size=(2, PROBLEMS, DRAWS))
    true_P_N = rho * proxy_P_N + math.sqrt(1 - rho**2) * noise_P_N
    grid = np.linspace(-9, 9, 20001)
    for n in sizes(DRAWS):
        largest = np.trapezoid(grid * n * norm.cdf(grid) ** (n - 1) * norm.pdf(grid), grid)
        found = best_of_n(proxy_P_N, np.stack([proxy_P_N, true_P_N]), n).mean(axis=1)
        assert found == pytest.approx([largest, rho * largest], abs=0.05)


def test_kl_is_that_of_the_largest_of_n() -> None:
    """Of uniform scores the best of n has the density n u^(n-1), whose KL to the uniform one is an integral."""
    u = (np.arange(200_000) + 0.5) / 200_000
    for n in (1, 2, 8, 64):
        density = n * u ** (n - 1)
        logarithm = np.log(n) + (n - 1) * np.log(u)
        assert float(best_of_n_kl(n)) == pytest.approx(float((density * logarithm).mean()), abs=1e-4)
    assert best_of_n_kl([1, 64]) == pytest.approx([0.0, math.log(64) - 63 / 64])


@pytest.mark.parametrize(("draws", "expected"), [(1, [1]), (2, [1, 2]), (7, [1, 2, 4]), (64, [1, 2, 4, 8, 16, 32, 64])])
def test_sizes_are_powers_of_two_up_to_the_draws(draws: int, expected: list[int]) -> None:
    assert sizes(draws) == expected


# Two problems of two draws: the ensemble chooses the first draw of either, the truth the second of the first problem.
TABLE = pd.DataFrame(
    {
        "task_id": ["a", "a", "b", "b"],
        "draw": [0, 1, 0, 1],
        "member-0": [4.0, 0.0, 4.0, 2.0],
        "member-1": [2.0, 4.0, 2.0, 2.0],
        "proxy_reward": [3.0, 2.0, 3.0, 2.0],
        "true_reward": [0.0, 1.0, 1.0, 1.0],
    }
)
FOUND = BestOfN(TABLE, Unit(proxy_sd=0.5, true_sd=0.25))
KL_2 = math.log(2) - 0.5


def test_curves_by_hand() -> None:
    chosen = {name: curve.iloc[1] for name, curve in FOUND.curves.items()}
    assert list(chosen) == [AGGREGATE, "member-0", "member-1", TRUTH]
    assert {curve["proxy_reward"].iloc[0] for curve in FOUND.curves.values()} == {2.5}
    assert {curve["true_reward"].iloc[0] for curve in FOUND.curves.values()} == {0.75}
    assert chosen[AGGREGATE][["n", "kl", "proxy_reward", "true_reward"]].tolist() == [2, KL_2, 3.0, 0.5]
    assert chosen["member-1"][["proxy_reward", "true_reward"]].tolist() == [2.25, 1.0]  # problem b is a tie
    assert chosen[TRUTH][["proxy_reward", "true_reward"]].tolist() == [2.25, 1.0]
    assert chosen[AGGREGATE][["proxy_gain", "true_gain"]].tolist() == [1.0, -1.0]


def test_the_areas_by_hand() -> None:
    """A triangle over the KL; the paper's gap goes from 0 to 3/2.5 - 0.5/0.75."""
    assert FOUND.gap == pytest.approx(2.0 * KL_2 / 2)
    assert FOUND.paper_augc == pytest.approx((3 / 2.5 - 0.5 / 0.75) * KL_2 / 2)
    assert (FOUND.largest("proxy_gain"), FOUND.largest("true_gain")) == (1.0, -1.0)


def test_the_interval_over_problems_by_hand() -> None:
    """Areas of 3 and 1 halves of the KL: their mean is the gap, and t of one degree exceeds 12.7062 by 2.5 %."""
    interval = FOUND.gap_interval
    assert interval is not None
    assert (interval.low + interval.high) / 2 == pytest.approx(FOUND.gap)
    assert (interval.high - interval.low) / 2 == pytest.approx(12.7062 * KL_2 / 2, rel=1e-5)
    assert BestOfN(TABLE.head(2), FOUND.unit).gap_interval is None


def test_the_interval_holds_the_gap_of_all_problems_as_often_as_it_says() -> None:
    generator, held = np.random.default_rng(4), []
    for _ in range(200):
        values = generator.normal(size=(2, 24, 4))
        proxy = pd.Series(values[0].ravel())
        true = pd.Series((values[0] * generator.exponential(size=(24, 1)) + values[1]).ravel())
        table = pd.DataFrame({"task_id": np.repeat(np.arange(24), 4), "draw": [0, 1, 2, 3] * 24})
        found = BestOfN(table.assign(proxy_reward=proxy, true_reward=true), Unit(1.0, 1.0)).gap_interval
        assert found is not None
        held.append(found.low <= 0 <= found.high)  # E[exponential] = 1: truth gains what the proxy gains
    assert 0.9 <= np.mean(held) <= 0.99


def test_the_gap_does_not_depend_on_the_proxys_zero_or_scale() -> None:
    moved = TABLE.assign(proxy_reward=10 * TABLE["proxy_reward"] - 100)
    assert BestOfN(moved, Unit(5.0, 0.25)).gap == pytest.approx(FOUND.gap)


def test_rows_of_the_long_table() -> None:
    rows = best_of_n_rows({"label": "p20", "seed": 1}, FOUND)
    assert list(rows) == [
        *("label", "seed", "selector", "n", "kl", "proxy_reward", "true_reward", "proxy_gain", "true_gain"),
    ]
    assert rows["selector"].tolist() == [name for name in (AGGREGATE, "member-0", "member-1", TRUTH) for _ in range(2)]
    assert rows["n"].tolist() == [1, 2] * 4


def test_the_reports_table_and_sentence_by_hand() -> None:
    rows = best_of_n_rows({"label": "p20", "beta": 0.4, "seed": 0}, FOUND)
    primary = pd.DataFrame({"label": ["p20"], "beta": [0.4], "seed": [0], "best_of_n_gap": [0.19]})
    primary = primary.assign(best_of_n_proxy_gain=1.0, best_of_n_true_gain=-1.0)
    primary = primary.assign(best_of_n_gap_low=-0.5, best_of_n_gap_high=0.9)
    (row,) = reported.table(primary, rows).rows
    assert [entry.main for entry in row] == ["0.4 (p20)", "+0.19", "+1", "-1", "+1"]
    assert row[1].small == "[-0.5,\N{NO-BREAK SPACE}0.9]"
    judged = {"quantity": "best_of_n_gap", "verdict": "supported", "p_adjusted": 0.04, "reason": ""}
    claims = {"B1": {measure: judged for measure in MEASURES}}
    assert "B1, that this grows with β, is supported by the controlled measure (adjusted p 0.04)." in (
        reported.sentence(claims)
    )


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (lambda table: table.iloc[:3], DataError, r"found other draws of the problems \['b'\] than 0 to 1"),
        (lambda table: table.assign(draw=0), DataError, r"found other draws .* than 0 to 0; .*select_best_of_n"),
        (lambda table: table.drop(columns="true_reward"), DataError, r"expected also \['true_reward'\]"),
        (lambda table: table.assign(**{"member-1": np.nan}), NonFiniteError, r"not finite in \['member-1'\]"),
    ],
)
def test_damaged_draws_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damage: object, error: type[Exception], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    cell = DpoCell("p20", 0)
    records.write_table(layout.best_of_n_draws(cell), TABLE)
    assert read_draws(cell).equals(TABLE)
    records.write_table(layout.best_of_n_draws(cell), damage(TABLE))  # type: ignore[operator]
    with pytest.raises(error, match=message):
        read_draws(cell)


def with_draws(params: Params, draws: int) -> Params:
    scale = dataclasses.replace(
        params.scale, best_of_n=dataclasses.replace(params.scale.best_of_n, draws=draws, prompts=3)
    )
    return dataclasses.replace(params, scale=scale)


def test_draws_are_those_of_the_ensemble_and_the_judge(trained_world: Params) -> None:
    params = with_draws(trained_world, 4)
    run, problems = make_run(params, "placebo"), tasks(3)
    seeds = draw_seeds(params, DpoCell("p50", 0), len(problems))
    drawn = draw_responses(run.model, run.tokenizer, run.ensemble, problems, params, seeds)
    assert drawn["task_id"].tolist() == [f"task-{number}" for number in (0, 1, 2) for _ in range(4)]
    assert drawn["draw"].tolist() == [0, 1, 2, 3] * 3
    members = [member_name(member) for member in params.ensemble_members]
    assert list(drawn) == ["task_id", "draw", *members, "proxy_reward", "true_reward"]
    assert all(name.startswith(MEMBER) for name in members)
    assert drawn["proxy_reward"].to_numpy() == pytest.approx(drawn[members].mean(axis=1).to_numpy(), abs=1e-5)
    assert drawn[members].nunique().min() > 3, "the draws of a problem differ"


def test_fewer_draws_or_problems_are_the_first_of_more(trained_world: Params) -> None:
    run, problems = make_run(trained_world, "placebo"), tasks(3)

    def drawn(draws: int, count: int) -> pd.DataFrame:
        params = with_draws(trained_world, draws)
        seeds = draw_seeds(params, DpoCell("p50", 0), count)
        return draw_responses(run.model, run.tokenizer, run.ensemble, problems.head(count), params, seeds)

    many, few = drawn(4, 3), drawn(2, 2)
    kept = many[many["task_id"].isin(few["task_id"]) & (many["draw"] < 2)].reset_index(drop=True)
    assert kept["true_reward"].equals(few["true_reward"])
    assert kept["proxy_reward"].to_numpy() == pytest.approx(few["proxy_reward"].to_numpy(), abs=1e-5)


def test_betas_of_a_seed_draw_from_the_same_streams_where_paired(trained_world: Params) -> None:
    cells = DpoCell("p20", 0), DpoCell("p80", 0), DpoCell("p20", 1)
    for paired in (True, False):
        params = with_protocol(trained_world, paired_seeds=paired)
        low, high, other = (draw_seeds(params, cell, 2) for cell in cells)
        assert (low == high) is paired and low != other
        assert len(set(low)) == len(low) == 2 * params.scale.best_of_n.draws


def test_too_many_problems_or_one_draw_are_refused(project: Path) -> None:
    set_key(Path("scales/tiny.yaml"), "best_of_n", {"draws": 1, "prompts": 300})
    with pytest.raises(ParamsError) as refused:
        load_params()
    assert "best_of_n.draws: found 1; expected 2 or more" in str(refused.value)
    assert "best_of_n.prompts: found 300; expected at most tasks.heldout (192)" in str(refused.value)

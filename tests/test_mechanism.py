"""Links of the mechanism against enumeration, calibration of disagreement, and beta* by both measures."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy.stats import rankdata

from pessimism.claims import mechanism
from pessimism.claims.conservatism import beta_star_record
from pessimism.claims.mechanism import disagreement_table, link
from pessimism.experiment import records
from pessimism.scoring import scores
from pessimism.scoring.measures import PAPER
from pessimism.scoring.runs import read_measurements
from support.synthetic_project import Invented, write_project


def runs(x_S_K: np.ndarray, y_S_K: np.ndarray) -> pd.DataFrame:
    seeds, betas = x_S_K.shape
    return pd.DataFrame(
        [
            {
                "seed": seed,
                "beta": float(level),
                "label": level,
                "x": x_S_K[seed, level],
                "y": y_S_K[seed, level],
            }
            for seed in range(seeds)
            for level in range(betas)
        ]
    )


def linked(x_S_K: np.ndarray, y_S_K: np.ndarray, paired: bool = True) -> dict[str, object]:
    return link(runs(x_S_K, y_S_K), "x", "y", paired, 0)


def test_a_link_of_unpaired_runs_is_over_all_of_them() -> None:
    x = np.array([[1.0, 2.0, 3.0], [30.0, 10.0, 20.0]])
    y = np.array([[5.0, 6.0, 7.0], [3.0, 1.0, 2.0]])
    found = linked(x, y, paired=False)
    null = [np.corrcoef(rankdata(x), rankdata(y.ravel()[list(o)]))[0, 1] for o in itertools.permutations(range(6))]
    observed = np.corrcoef(rankdata(x), rankdata(y))[0, 1]
    assert found["correlation"] == pytest.approx(observed)
    assert found["p"] == pytest.approx(np.mean(np.abs(null) >= abs(observed) - 1e-9))
    swapped = linked(x[[1, 0]], y[[1, 0]], paired=False)
    assert (swapped["correlation"], swapped["p"]) == (found["correlation"], found["p"])


def test_a_link_is_the_mean_correlation_within_seeds() -> None:
    x = np.array([[1.0, 2.0, 3.0], [30.0, 10.0, 20.0]])  # the seeds' levels differ, which must not matter
    found = linked(x, np.array([[5.0, 6.0, 7.0], [3.0, 1.0, 2.0]]))
    assert found["correlation"] == pytest.approx(1.0)
    assert linked(x, np.array([[5.0, 6.0, 7.0], [1.0, 3.0, 2.0]]))["correlation"] == pytest.approx((1 - 1) / 2)


def test_p_and_null_interval_against_enumeration() -> None:
    x = np.array([[1.0, 2.0, 3.0], [1.0, 3.0, 2.0], [2.0, 1.0, 3.0]])
    y = np.array([[1.0, 2.0, 3.0], [2.0, 3.0, 1.0], [1.0, 2.0, 3.0]])
    found = linked(x, y)
    by_hand = [
        np.mean([np.corrcoef(x[s], y[s][list(order[s])])[0, 1] for s in range(3)])
        for order in itertools.product(itertools.permutations(range(3)), repeat=3)
    ]
    observed = np.mean([np.corrcoef(x[s], y[s])[0, 1] for s in range(3)])
    assert found["correlation"] == pytest.approx(observed)
    assert found["p"] == pytest.approx(np.mean(np.abs(by_hand) >= abs(observed) - 1e-9))
    low, high = found["null_interval"]  # type: ignore[misc]
    assert np.mean(np.array(by_hand) < low - 1e-9) <= 0.025 and np.mean(np.array(by_hand) > high + 1e-9) <= 0.025


def test_many_betas_are_drawn_and_agree_with_enumeration(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(3, 4)), generator.normal(size=(3, 4))
    exact = linked(x, y)
    monkeypatch.setattr(mechanism, "MOST_ENUMERATED", 10)
    drawn = linked(x, y)
    assert drawn["correlation"] == exact["correlation"]
    assert drawn["p"] == pytest.approx(exact["p"], abs=0.02)


@pytest.mark.parametrize("paired", [False, True])
def test_drawn_matchings_do_not_hang_on_the_names_of_seeds_nor_on_units(paired: bool) -> None:
    """Eight seeds are drawn; where they are not paired, each beta's may be named by themselves."""
    generator = np.random.default_rng(3)
    x, y = generator.normal(size=(2, 8, 3))
    found = linked(x, y, paired)
    for order in (np.arange(8)[::-1], np.roll(np.arange(8), 3)):
        renamed = linked(x[order], y[order], paired)
        assert (renamed["p"], renamed["null_interval"]) == (found["p"], found["null_interval"])
    other = linked(7 * x + 1, y / 3, paired)
    assert (other["p"], other["null_interval"]) == (found["p"], found["null_interval"])
    if not paired:
        torn = linked(*(np.column_stack([values[::-1, 0], values[:, 1:]]) for values in (x, y)), paired=False)
        assert (torn["p"], torn["null_interval"]) == (found["p"], found["null_interval"])


def test_a_link_does_not_hang_on_the_links_before_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measurements = read_measurements(write_project(tmp_path))
    cells = scores.cell_table(measurements)
    table = disagreement_table(measurements.runs, measurements.betas)
    whole = mechanism.mechanism_record(cells, table, measurements.params)
    monkeypatch.setattr(mechanism, "CHAIN", {measure: chain[-2:] for measure, chain in mechanism.CHAIN.items()})
    short = mechanism.mechanism_record(cells, table, measurements.params)
    assert short[PAPER]["chain"] == whole[PAPER]["chain"][-1:]
    assert short[PAPER]["augc_by_covariate"] == whole[PAPER]["augc_by_covariate"]


def test_the_observed_pairing_counts_among_the_drawn_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of 4 random orders of 3 x 8 values is as extreme: the p is 1 of 5, not 0."""
    monkeypatch.setattr(mechanism, "RESAMPLES", 4)
    x = np.tile(np.arange(8.0), (3, 1))
    assert linked(x, x)["p"] == pytest.approx(1 / 5)


def test_a_constant_or_missing_series_has_no_link() -> None:
    x = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, 3.0]])
    for broken in (np.ones((2, 3)), np.where(x == 2, np.nan, x)):
        found = linked(x, broken)
        assert found["correlation"] is None and found["p"] is None


def test_mechanism_of_a_finished_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measurements = read_measurements(write_project(tmp_path))
    cells = scores.cell_table(measurements)
    table = disagreement_table(measurements.runs, measurements.betas)
    assert len(table) == 18 * 5
    record = mechanism.mechanism_record(cells, table, measurements.params)
    assert record["smallest_p"] == pytest.approx(2 / 6**3) and record["paired_seeds"]
    conservatism = record["controlled"]["conservatism"]
    assert [(found["to"], found["correlation"]) for found in conservatism] == [
        ("kl_to_base", pytest.approx(-1.0)),
        ("response_entropy_dpo", pytest.approx(-1.0)),
    ]
    chains = {
        measure: [(found["from"], found["to"]) for found in record[measure]["chain"]]
        for measure in ("paper", "controlled")
    }
    assert chains["paper"] == [
        ("beta", "entropy_dpo"),
        ("entropy_dpo", "response_diversity"),
        ("response_diversity", "mean_ensemble_std"),
        ("mean_ensemble_std", "augc"),
    ]
    assert chains["controlled"] == [
        ("beta", "response_entropy_dpo"),
        ("response_entropy_dpo", "within_prompt_diversity"),
        ("within_prompt_diversity", "controlled_ensemble_std"),
        ("controlled_ensemble_std", "controlled_signed_augc_excess"),
    ]
    start = record["calibration"][0]
    assert start["step"] == 0 and start["runs"] == 9 and 0.5 < start["auroc"] < 1  # û is lower on right answers
    records.write_json(tmp_path / "mechanism.json", record)


def test_calibration_leaves_out_runs_without_both_kinds_of_answers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    measurements = read_measurements(write_project(tmp_path, Invented(true_start=0.0, seeds=(0, 1))))
    table = disagreement_table(measurements.runs, measurements.betas)
    first = table[table["step"] == 0]
    assert first["auroc"].isna().all() and (first["wrong_fraction"] == 1).all()
    assert mechanism._calibration(table, "proxy")[0] == {"step": 0, "runs": 0, "auroc": None, "interval": None}


def test_beta_star_by_both_measures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    measurements = read_measurements(write_project(tmp_path))
    cells = scores.cell_table(measurements)
    record = beta_star_record(cells, "proxy", "placebo", paired=False)
    assert record.keys() == {"paper", "controlled"}
    placebo = cells[cells["arm"] == "placebo"]
    for measure, column in (("paper", "augc"), ("controlled", "controlled_augc")):
        level = np.percentile(placebo[column], 95)
        means = cells[cells["arm"] == "proxy"].groupby("beta")[column].mean()
        above = means.index[means > level]
        assert record[measure]["above_placebo"]["estimate"] == (above[0] if len(above) else None)
        assert record[measure]["forms"]["refused"].startswith("fewer than six")
    without = beta_star_record(cells[cells["arm"] == "proxy"], "proxy", None, paired=False)
    assert without["paper"]["above_placebo"]["not_identified"] == "there is no placebo run"
    records.write_json(tmp_path / "beta_star.json", record)


def test_def_61_takes_the_measure_and_the_quality_that_it_names() -> None:
    """AUGC minus lambda A by hand, lambda = 8 / 0.2 = 40: smallest at another beta in each of the first three."""
    per_beta = pd.DataFrame(
        {
            "beta": [0.3, 1.0, 2.4],
            "augc": [1.0, 2.0, 9.0],
            "controlled_augc": [9.0, 2.0, 1.0],
            "dpo_win_rate": [0.5, 0.65, 0.7],
            "dpo_reward_accuracy": [0.7, 0.6, 0.5],
        }
    )
    cells = pd.concat([per_beta.assign(seed=seed, arm="proxy") for seed in range(3)])
    record = beta_star_record(cells, "proxy", "placebo", paired=False)
    found = {
        (measure, quality): record[measure][f"def_61_{quality}"]["estimate"]
        for measure in ("paper", "controlled")
        for quality in ("win_rate", "reward_accuracy")
    }
    assert found == {
        ("paper", "win_rate"): 1.0,
        ("paper", "reward_accuracy"): 0.3,
        ("controlled", "win_rate"): 2.4,
        ("controlled", "reward_accuracy"): 1.0,
    }

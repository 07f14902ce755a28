"""Runs compared at one KL: where each first comes to it, what it had gained there, and how sure that is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell
from pessimism.measures.equal_kl import (
    GRID_POINTS,
    Crossing,
    central,
    first_crossing,
    reach_grid,
    resampled_means,
    runs_reaching,
)
from pessimism.measures.goodhart import common_kl
from pessimism.scoring import scores
from pessimism.scoring.equal_kl import QUANTITIES, equal_kl_record
from pessimism.scoring.runs import Measurements, read_measurements
from support.synthetic_project import Invented, write_project

STRAIGHT = np.array([0.0, 1.0, 3.0, 4.0])


def test_a_crossing_by_hand() -> None:
    """KL 2 lies half way between the second and the third evaluation; the reward there is half way too."""
    crossing = first_crossing(STRAIGHT, 2.0)
    assert crossing == Crossing(before=1, share=0.5)
    assert crossing.at(np.array([10.0, 20.0, 40.0, 0.0])) == 30.0
    assert crossing.at(np.array([0.0, 6.0, 12.0, 18.0])) == 9.0  # steps
    at_evaluation = first_crossing(STRAIGHT, 3.0)
    assert at_evaluation is not None and at_evaluation.at(np.array([10.0, 20.0, 40.0, 0.0])) == 40.0


def test_the_mean_over_the_way_is_the_area_by_hand() -> None:
    """Read at every KL of a monotone path, the rewards make the area over KL: 1 x 15 + 2 x 30 + 1 x 20."""
    reward_T = np.array([10.0, 20.0, 40.0, 0.0])
    kls = np.linspace(0, 4, 4001)
    read = [first_crossing(STRAIGHT, kl).at(reward_T) for kl in kls]  # type: ignore[union-attr]
    assert np.trapezoid(read, kls) == pytest.approx(15 + 60 + 20, rel=1e-6)


def test_a_path_that_turns_back_is_read_at_its_first_crossing() -> None:
    """It passes 2 on the way out, back, and out again; in the order of the KL the last one would be met."""
    kl_T, reward_T = np.array([0.0, 4.0, 1.0, 3.0]), np.array([0.0, 8.0, 100.0, -50.0])
    crossing = first_crossing(kl_T, 2.0)
    assert crossing == Crossing(before=0, share=0.5) and crossing.at(reward_T) == 4.0


def test_a_run_that_stays_nearer_has_no_crossing() -> None:
    assert first_crossing(STRAIGHT, 4.001) is None
    assert first_crossing(np.zeros(3), 0.1) is None


def test_a_run_that_starts_there_has_gained_nothing() -> None:
    crossing = first_crossing(np.zeros(3), 0.0)
    assert crossing == Crossing(0, 0.0) and crossing.at(np.array([7.0, 8.0, 9.0])) == 7.0


def test_the_grid_goes_from_what_all_reach_to_what_one_reaches() -> None:
    kls = [np.array([0.0, 5.0, 2.0]), np.array([0.0, 1.0, 1.0]), np.array([0.0, 2.0, 4.0])]
    grid = reach_grid(kls)
    assert grid.tolist() == [1.0, 2.0, 3.0, 4.0, 5.0] and len(grid) == GRID_POINTS
    assert grid[0] == common_kl(kls)
    assert runs_reaching(kls, grid) == [3, 2, 2, 2, 1]
    assert reach_grid(kls[:1]).tolist() == [5.0], "one run has one distance"


# The bootstrap


def test_resamples_of_one_seed_vary_the_problems_alone() -> None:
    """The standard error of a mean over problems, which resampling the only seed leaves as it is."""
    values = np.random.default_rng(0).normal(size=(1, 2, 400))
    means_R_K = resampled_means(values, paired=False)
    assert means_R_K.mean(axis=0) == pytest.approx(values.mean(axis=(0, 2)), abs=0.005)
    assert means_R_K.std(axis=0) == pytest.approx(values.std(axis=2)[0] / 20, rel=0.06)


def test_resamples_of_seeds_that_differ_vary_with_the_seeds() -> None:
    """All problems of a run are alike, so only the draw of seeds can move the mean: its sd is that of the seeds."""
    level_S = np.array([0.0, 1.0, 2.0, 5.0, 7.0])
    values = np.broadcast_to(level_S[:, None, None], (5, 1, 30))
    means_R = resampled_means(values, paired=True)[:, 0]
    assert means_R.std() == pytest.approx(level_S.std() / np.sqrt(5), rel=0.05)
    interval = central(means_R)
    assert interval.low < level_S.mean() < interval.high


def test_all_runs_of_a_resample_answer_the_same_problems() -> None:
    """What problems share between betas leaves the difference of the betas alone."""
    problems_N = np.random.default_rng(1).normal(size=100)
    values = np.broadcast_to(problems_N, (3, 2, 100)) + np.array([0.0, 1.0])[None, :, None]
    means_R_K = resampled_means(values, paired=False)
    assert means_R_K[:, 0].std() > 0.05
    assert means_R_K[:, 1] - means_R_K[:, 0] == pytest.approx(np.ones(len(means_R_K)))


@pytest.mark.parametrize("paired", [True, False])
def test_paired_seeds_are_drawn_whole(paired: bool) -> None:
    """A seed's own level leaves the difference of two betas where the betas share it, and not where they do not."""
    values = np.broadcast_to(np.array([0.0, 3.0, 9.0])[:, None, None], (3, 2, 10))
    means_R_K = resampled_means(values, paired)
    assert bool(np.ptp(means_R_K[:, 1] - means_R_K[:, 0]) < 1e-9) is paired


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(DataError, match="expected finite ones"):
        resampled_means(np.array([[[np.nan, 1.0]]]), paired=True)


# From runs to tables


def scored(root: Path, invented: Invented | None = None) -> tuple[Measurements, pd.DataFrame]:
    measurements = read_measurements(write_project(root, invented))
    return measurements, scores.cell_table(measurements)


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


THREE_ARMS = Invented(seeds=(0, 1), arms=("proxy", "placebo", "oracle"))
COLUMNS = ["equal_kl_step", *(f"equal_kl_{name}" for name in QUANTITIES)]


def test_every_arm_is_read_where_all_of_its_runs_come(finished: Path) -> None:
    """The oracle moves a tenth as far as the proxy, the placebo not at all."""
    measurements, cells = scored(finished, THREE_ARMS)
    record = equal_kl_record(measurements)
    assert list(record) == ["proxy", "oracle"]
    assert cells.loc[cells["arm"] == "placebo", COLUMNS].isna().all(axis=None)
    for arm, found in record.items():
        kls = [run.rows("heldout")["kl_k3"].max() for cell, run in measurements.runs.items() if cell.arm == arm]
        assert found["kl"] == found["reach"]["kl"][0] == min(kls)
        assert found["reach"]["runs"] == {
            label: [
                sum(
                    run.rows("heldout")["kl_k3"].max() >= kl
                    for cell, run in measurements.runs.items()
                    if (cell.label, cell.arm) == (label, arm)
                )
                for kl in found["reach"]["kl"]
            ]
            for label in ("p20", "p50", "p80")
        }
    assert record["proxy"]["kl"] == pytest.approx(10 * record["oracle"]["kl"])


def test_a_run_of_the_pipeline_by_hand(finished: Path) -> None:
    measurements, cells = scored(finished, THREE_ARMS)
    cell, kl = OnlineCell("p80", 1, "proxy"), equal_kl_record(measurements)["proxy"]["kl"]
    row = cells[(cells["label"] == "p80") & (cells["seed"] == 1) & (cells["arm"] == "proxy")].iloc[0]
    rows, unit = measurements.runs[cell].rows("heldout"), measurements.base[cell.seed].unit
    assert (np.diff(rows["kl_k3"]) > 0).all(), "interpolation over the KL is that along the path"
    for column, reward, sd in (
        ("equal_kl_proxy_gain", "proxy_reward", unit.proxy_sd),
        ("equal_kl_true_gain", "true_reward", unit.true_sd),
    ):
        expected = (np.interp(kl, rows["kl_k3"], rows[reward]) - rows[reward][0]) / sd
        assert row[column] == pytest.approx(expected) != 0
    assert row["equal_kl_gap"] == pytest.approx(row["equal_kl_proxy_gain"] - row["equal_kl_true_gain"])
    assert row["equal_kl_step"] == pytest.approx(np.interp(kl, rows["kl_k3"], rows["step"]))


def test_the_record_has_the_means_of_the_table_inside_their_intervals(finished: Path) -> None:
    measurements, cells = scored(finished, THREE_ARMS)
    record = equal_kl_record(measurements)
    means = cells.groupby(["arm", "label"])[COLUMNS].mean()
    for arm, found in record.items():
        for name in QUANTITIES:
            for label, estimates in found["by_label"].items():
                estimate = estimates[name]
                assert estimate["mean"] == pytest.approx(means.loc[(arm, label), f"equal_kl_{name}"])
                assert estimate["low"] < estimate["mean"] < estimate["high"]
            contrast, by_label = found["highest_minus_lowest_beta"][name], found["by_label"]
            assert contrast["mean"] == pytest.approx(by_label["p80"][name]["mean"] - by_label["p20"][name]["mean"])
            assert contrast["low"] < contrast["mean"] < contrast["high"]


def test_a_run_that_never_moves_leaves_nothing_to_compare_and_is_counted(finished: Path) -> None:
    params = write_project(finished, THREE_ARMS)
    path = layout.trajectory(OnlineCell("p50", 0, "proxy"))
    records.write_table(path, records.read_table(path, []).assign(kl_k3=0.0))
    record = equal_kl_record(read_measurements(params))["proxy"]
    assert record["kl"] == 0.0
    assert all(estimate["mean"] == 0 for found in record["by_label"].values() for estimate in found.values())
    assert record["reach"]["runs"]["p50"][:2] == [2, 1] and record["reach"]["runs"]["p80"][:2] == [2, 2]


def test_one_seed_and_one_beta_have_no_contrast(finished: Path) -> None:
    measurements, _ = scored(finished, Invented(percentiles=(50,), seeds=(3,)))
    found = equal_kl_record(measurements)["proxy"]
    assert "highest_minus_lowest_beta" not in found and found["reach"]["runs"] == {"p50": [1]}
    estimate = found["by_label"]["p50"]["gap"]
    assert estimate["low"] < estimate["mean"] < estimate["high"], "problems are resampled"

"""The gap, its area and its onset by hand, and the tables and metrics made from whole runs."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pessimism import layout, records
from pessimism.analysis import scores
from pessimism.analysis.goodhart import EPS, augc, hacking_onset, hacking_threshold, paper_gap
from pessimism.cells import OnlineCell
from pessimism.errors import DataError, NonFiniteError
from synthetic_project import Invented, trajectory, write_project


def test_gap_by_hand() -> None:
    gap_T = paper_gap(np.array([2.0, 3.0, 1.0]), np.array([0.5, 0.25, 0.75]))
    assert gap_T == pytest.approx([0.0, 1.0, -1.0], abs=1e-6)


def test_gap_starts_near_minus_two_where_the_first_proxy_is_negative() -> None:
    assert paper_gap(np.array([-0.5, 0.5]), np.array([0.5, 0.5])) == pytest.approx([-2.0, 0.0], abs=1e-6)


def test_gap_divides_by_epsilon_where_the_first_batch_has_no_correct_answer() -> None:
    gap_T = paper_gap(np.array([1.0, 1.0]), np.array([0.0, 0.25]))
    assert gap_T == pytest.approx([1.0, 1.0 - 0.25 / EPS], rel=1e-6)


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


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def tables(invented: Invented, root: Path) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    params = write_project(root, invented)
    betas, runs = scores.read_betas(params), scores.read_trajectories(params)
    gap_table, heldout = scores.gap_table(runs, betas), scores.heldout_table(runs, betas)
    return gap_table, heldout, scores.cell_table(gap_table, heldout, scores.read_probes(params), params.primary_arm)


def test_one_row_per_cell_with_its_own_numbers(finished: Path) -> None:
    invented = Invented(percentiles=(80, 20), seeds=(4, 1), arms=("proxy", "placebo", "oracle"))
    gap_table, _, cells = tables(invented, finished)
    assert list(cells[["beta_percentile", "seed", "arm"]].itertuples(index=False, name=None)) == [
        (p, s, a) for p in (80, 20) for s in (4, 1) for a in ("proxy", "placebo", "oracle")
    ]
    run = trajectory(OnlineCell(20, 1, "oracle"), invented)
    batch, heldout = run[run["prompt_set"] == "batch"], run[run["prompt_set"] == "heldout"]
    row = cells[(cells["beta_percentile"] == 20) & (cells["seed"] == 1) & (cells["arm"] == "oracle")].iloc[0]
    gap_T = paper_gap(batch["proxy_reward"].to_numpy(), batch["true_reward"].to_numpy())
    assert row["augc"] == pytest.approx(augc(batch["step"].to_numpy(), gap_T))
    assert row["heldout_true_reward_change"] == pytest.approx(
        heldout["true_reward"].iloc[-1] - heldout["true_reward"].iloc[0]
    )
    assert row["heldout_proxy_reward_start"] == pytest.approx(heldout["proxy_reward"].iloc[0])
    assert row["final_kl_k1"] == pytest.approx(heldout["kl_k1"].iloc[-1])
    assert row["mean_ensemble_std"] == pytest.approx(batch["ensemble_std"].mean())
    assert row["measured_points"] == len(batch) == invented.steps
    assert len(gap_table) == 12 * invented.steps


def test_threshold_and_onset_come_from_the_primary_arm(finished: Path) -> None:
    gap_table, _, cells = tables(Invented(), finished)
    primary = gap_table.loc[gap_table["arm"] == "proxy", "goodhart_gap"]
    threshold = scores.primary_threshold(gap_table, "proxy")
    assert threshold == np.percentile(primary[primary > 0], 75)
    assert cells.loc[cells["arm"] == "placebo", "onset_step"].isna().all()
    assert cells.loc[(cells["arm"] == "proxy") & (cells["beta_percentile"] == 80), "onset_step"].notna().all()


def test_probes_stand_with_the_arm_that_was_probed(finished: Path) -> None:
    _, _, cells = tables(Invented(arms=("oracle", "placebo")), finished)
    assert cells.loc[cells["arm"] == "oracle", "entropy_dpo"].notna().all()
    assert cells.loc[cells["arm"] == "placebo", "entropy_dpo"].isna().all()


def test_metrics_are_few_finite_and_means_over_seeds(finished: Path) -> None:
    gap_table, _, cells = tables(Invented(), finished)
    threshold = scores.primary_threshold(gap_table, "proxy")
    metrics = scores.hacking_metrics(cells, threshold, ["proxy", "placebo"])
    leaves = [value for _, value in records._leaves(metrics)]
    assert len(leaves) <= 16 and all(isinstance(value, float) and math.isfinite(value) for value in leaves)
    of_p50 = cells[(cells["beta_percentile"] == 50) & (cells["arm"] == "placebo")]
    assert metrics["augc"]["placebo"]["p50"] == pytest.approx(of_p50["augc"].mean())
    assert metrics["spearman_beta_augc"] == 1.0
    assert metrics["spearman_p_one_sided"] == pytest.approx(1 / 6)
    assert metrics["heldout_true_change"]["proxy"] < -0.1 < metrics["heldout_true_change"]["placebo"]


def test_metrics_leave_out_what_is_not_determined(finished: Path) -> None:
    _, _, cells = tables(Invented(percentiles=(50,), seeds=(0,), arms=("oracle",)), finished)
    metrics = scores.hacking_metrics(cells, None, ["oracle"])
    assert metrics.keys().isdisjoint({"hacking_threshold", "spearman_beta_augc", "spearman_p_one_sided"})
    assert metrics["onset_fraction"] == 0.0 or metrics["onset_fraction"] == 1.0


def test_a_missing_cell_stops_the_scores(finished: Path) -> None:
    params = write_project(finished)
    path = layout.trajectory(OnlineCell(50, 1, "placebo"))
    path.unlink()
    with pytest.raises(DataError, match="p50-s1-placebo"):
        scores.read_trajectories(params)


def test_left_over_cells_are_not_read(finished: Path) -> None:
    write_project(finished, Invented())
    params = write_project(finished, Invented(percentiles=(20, 50), seeds=(0,)))
    assert {(cell.beta_percentile, cell.seed) for cell in scores.read_trajectories(params)} == {(20, 0), (50, 0)}


def test_a_cell_measured_at_other_steps_is_refused(finished: Path) -> None:
    params = write_project(finished)
    cell = OnlineCell(80, 2, "proxy")
    records.write_table(layout.trajectory(cell), trajectory(cell, Invented(steps=12)))
    with pytest.raises(DataError, match="p80-s2-proxy.*differ"):
        scores.read_trajectories(params)


@pytest.mark.parametrize("column", ["proxy_reward", "kappa"])
def test_a_value_that_is_not_finite_is_refused(finished: Path, column: str) -> None:
    params = write_project(finished)
    cell = OnlineCell(20, 0, "proxy")
    table = trajectory(cell, Invented())
    table.loc[table["prompt_set"] == "batch", column] = np.nan
    records.write_table(layout.trajectory(cell), table)
    with pytest.raises(NonFiniteError, match=column):
        scores.read_trajectories(params)


def test_cells_of_another_design_are_refused(finished: Path) -> None:
    _, _, cells = tables(Invented(), finished)
    records.write_table(layout.CELL_SCORES, cells)
    params = write_project(finished, Invented(percentiles=(20, 50)))
    with pytest.raises(DataError, match="not in the design.*p80-s0-proxy"):
        scores.read_cells(params)

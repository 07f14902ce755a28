"""From runs to tables: every cell with its own numbers, both measures beside each other, and what is refused."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import DpoCell, OnlineCell
from pessimism.experiment.params import Params
from pessimism.measures import goodhart
from pessimism.scoring import scores
from pessimism.scoring.checkpoint_columns import CHECKPOINT_COLUMNS
from pessimism.scoring.heldout_columns import EXCESS_COLUMNS
from pessimism.scoring.measures import CONTROLLED, PAPER
from pessimism.scoring.runs import BaseRewards, Measurements, read_measurements, read_runs
from pessimism.scoring.step_columns import proxy_true_correlation
from pessimism.scoring.variance import variance_record
from support.repository import CHECKOUT
from support.synthetic_project import Invented, run, write_project, write_run


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def scored(root: Path, invented: Invented | None = None) -> tuple[Measurements, pd.DataFrame]:
    measurements = read_measurements(write_project(root, invented))
    return measurements, scores.cell_table(measurements)


def row_of(cells: pd.DataFrame, cell: OnlineCell) -> pd.Series:
    chosen = (cells["label"] == cell.label) & (cells["seed"] == cell.seed)
    return cells[chosen & (cells["arm"] == cell.arm)].iloc[0]


def with_protocol(measurements: Measurements, **switches: Any) -> Measurements:
    protocol = dataclasses.replace(measurements.params.protocol, **switches)
    return dataclasses.replace(measurements, params=dataclasses.replace(measurements.params, protocol=protocol))


def test_one_row_per_cell_with_its_own_numbers(finished: Path) -> None:
    invented = Invented(percentiles=(80, 20), seeds=(4, 1), arms=("proxy", "placebo", "oracle"))
    measurements, cells = scored(finished, invented)
    assert list(cells[["label", "seed", "arm"]].itertuples(index=False, name=None)) == [
        (p, s, a) for p in ("p80", "p20") for s in (4, 1) for a in ("proxy", "placebo", "oracle")
    ]
    cell = OnlineCell("p20", 1, "oracle")
    trajectory, samples = run(cell, invented)
    unit = measurements.base[1].unit
    assert unit.proxy_sd == pytest.approx(1.1 * measurements.base[4].unit.proxy_sd), "each seed's ensemble has its own"
    batch, heldout = (trajectory[trajectory["prompt_set"] == name] for name in ("batch", "heldout"))
    row = row_of(cells, cell)
    steps_T = heldout["step"].to_numpy()
    gap_T = goodhart.paper_gap(batch["proxy_reward"].to_numpy(), batch["true_reward"].to_numpy())
    assert row["augc"] == pytest.approx(goodhart.augc(batch["step"].to_numpy(), gap_T))
    controlled_T = (heldout["proxy_reward"] - heldout["proxy_reward"].iloc[0]) / unit.proxy_sd
    controlled_T -= (heldout["true_reward"] - heldout["true_reward"].iloc[0]) / unit.true_sd
    assert row["controlled_augc"] == pytest.approx(np.trapezoid(controlled_T.clip(lower=0), steps_T))
    assert row["controlled_signed_augc"] == pytest.approx(np.trapezoid(controlled_T, steps_T))
    kl_T = heldout["kl_k3"].to_numpy()
    proxy_T = (heldout["proxy_reward"] - heldout["proxy_reward"].iloc[0]).to_numpy() / unit.proxy_sd
    true_T = (heldout["true_reward"] - heldout["true_reward"].iloc[0]).to_numpy() / unit.true_sd
    assert row["overoptimization"] == pytest.approx(
        np.trapezoid(abs(proxy_T - true_T), steps_T) / np.trapezoid(proxy_T, steps_T)
    )
    assert kl_T[-1] < scores.primary_kl(measurements), "the oracle stays nearer than any run of the first arm"
    over_kl = [name for name in cells if name.endswith("_over_kl")]
    assert len(over_kl) == 3 and row[over_kl].isna().all()
    assert cells.loc[cells["arm"] == "proxy", over_kl].notna().all(axis=None)
    assert row["controlled_final_gap"] == pytest.approx(controlled_T.iloc[-1])
    assert row["heldout_true_reward_change"] == pytest.approx(
        heldout["true_reward"].iloc[-1] - heldout["true_reward"].iloc[0]
    )
    assert row["heldout_proxy_reward_start"] == pytest.approx(heldout["proxy_reward"].iloc[0])
    assert row["final_kl_k1"] == pytest.approx(heldout["kl_k1"].iloc[-1])
    assert row["mean_ensemble_std"] == pytest.approx(batch["ensemble_std"].mean())
    assert row["controlled_ensemble_std"] == pytest.approx(heldout["ensemble_std"].mean() / unit.proxy_sd)
    true_T_N = samples.pivot(index="step", columns="task_id", values="true_reward").to_numpy()
    assert row["true_regret"] == pytest.approx(goodhart.true_regret(true_T_N))
    assert row["measured_points"] == len(batch) == invented.steps


def test_the_excess_is_over_the_placebo_of_the_same_checkpoint(finished: Path) -> None:
    measurements, cells = scored(finished, Invented(seeds=(0, 1)))
    for label in ("p20", "p50", "p80"):
        for seed in (0, 1):
            proxy, placebo = (row_of(cells, OnlineCell(label, seed, arm)) for arm in ("proxy", "placebo"))
            for column in EXCESS_COLUMNS:
                assert proxy[column.name] == pytest.approx(proxy[column.excess_of] - placebo[column.excess_of])
                assert placebo[column.name] == 0
    assert scores.hacking_metrics(cells, measurements)["controlled_signed_augc_excess"].keys() == {"p20", "p50", "p80"}


def test_areas_over_kl_end_where_the_shortest_run_of_the_first_arm_does(finished: Path) -> None:
    measurements, cells = scored(finished, Invented(seeds=(0,)))
    reached = {
        cell.label: run.rows("heldout")["kl_k3"].max() for cell, run in measurements.runs.items() if cell.arm == "proxy"
    }
    assert scores.primary_kl(measurements) == min(reached.values()) == reached["p20"] < reached["p80"] / 3
    heldout = scores.heldout_table(measurements)
    rows = heldout[(heldout["label"] == "p80") & (heldout["arm"] == "proxy")]
    kl = np.linspace(0, reached["p20"], 10_001)
    area = np.trapezoid(np.interp(kl, rows["kl_k3"], rows["controlled_gap"]), kl)
    row = row_of(cells, OnlineCell("p80", 0, "proxy"))
    assert row["controlled_signed_augc_over_kl"] == pytest.approx(area, rel=1e-6) != 0
    to_its_own_end = np.trapezoid(rows["controlled_gap"], rows["kl_k3"])
    assert abs(to_its_own_end) > 3 * abs(area)


def test_disagreement_and_gap_are_correlated_over_problems(finished: Path) -> None:
    measurements, cells = scored(finished, Invented(seeds=(0,)))
    cell, unit = OnlineCell("p50", 0, "proxy"), measurements.base[0].unit
    values = measurements.runs[cell].samples.set_index(["step", "task_id"])
    gap = values["proxy_reward"] / unit.proxy_sd - values["true_reward"] / unit.true_sd
    moved = [
        column.drop(0, level="step").groupby("task_id").mean() - column.loc[0]
        for column in (values["ensemble_std"], gap)
    ]
    assert len(moved[0]) == 64
    assert row_of(cells, cell)["controlled_uq_gap_correlation"] == pytest.approx(moved[0].corr(moved[1]))


def test_proxy_and_truth_are_correlated_over_the_problems_of_every_evaluation(finished: Path) -> None:
    measurements = read_measurements(write_project(finished, Invented(seeds=(0,))))
    table = scores.heldout_table(measurements).set_index(["label", "arm"])["proxy_true_correlation"]
    samples = measurements.runs[OnlineCell("p50", 0, "proxy")].samples
    expected = [rows["proxy_reward"].corr(rows["true_reward"].astype(float)) for _, rows in samples.groupby("step")]
    assert table.sort_index().loc[("p50", "proxy")].to_numpy() == pytest.approx(expected)
    assert max(map(abs, expected)) > 0.01


def test_a_reward_that_does_not_vary_is_correlated_with_nothing() -> None:
    proxy_T_N = np.array([[1.0, 2.0, 4.0], [1.0, 2.0, 3.0]])
    found = proxy_true_correlation(proxy_T_N, np.array([[0.0, 0.0, 0.0], [0.0, 0.5, 1.0]]))
    assert np.isnan(found[0]) and found[1] == pytest.approx(1)


def test_without_a_placebo_there_is_no_excess(finished: Path) -> None:
    measurements, cells = scored(finished, Invented(arms=("proxy",), seeds=(0,)))
    assert cells["controlled_signed_augc_excess"].isna().all()
    metrics = scores.hacking_metrics(cells, measurements)
    assert metrics.keys().isdisjoint({"controlled_signed_augc_excess", "spearman_beta_controlled_augc"})
    assert metrics["augc"].keys() == {"p20", "p50", "p80"}


def test_thresholds_and_onsets_come_from_the_primary_arm(finished: Path) -> None:
    measurements = read_measurements(write_project(finished))
    gaps, cells = scores.gap_table(measurements), scores.cell_table(measurements)
    threshold = scores.primary_thresholds(measurements)
    primary = gaps.loc[gaps["arm"] == "proxy", "goodhart_gap"]
    assert threshold[PAPER] == np.percentile(primary[primary > 0], 75)
    assert threshold[CONTROLLED] == measurements.params.protocol.controlled_threshold
    for onset in ("onset_step", "controlled_onset_step"):
        assert cells.loc[cells["arm"] == "placebo", onset].isna().all()
        assert cells.loc[(cells["arm"] == "proxy") & (cells["label"] == "p80"), onset].notna().all()
    area, low, high = (cells[f"controlled_signed_augc{end}"] for end in ("", "_low", "_high"))
    assert ((low < area) & (area < high)).all()
    late = cells[cells["controlled_onset_step"].notna()]
    assert (late["controlled_onset_low"] <= late["controlled_onset_step"].astype(float)).all()
    assert (late["controlled_onset_step"].astype(float) <= late["controlled_onset_high"]).all()


def test_a_controlled_onset_hangs_on_no_other_run(finished: Path) -> None:
    """The highest beta hacks ten times as much: by the paper's rule the others then set in later or never."""
    measurements = read_measurements(write_project(finished))
    before = scores.cell_table(measurements)
    for seed in (0, 1, 2):
        write_run(OnlineCell("p80", seed, "proxy"), Invented(drift=10.0))
    after = scores.cell_table(read_measurements(measurements.params))
    others = before["label"] != "p80"
    assert before.loc[others, "controlled_onset_step"].notna().any()
    assert after.loc[others, "controlled_onset_step"].equals(before.loc[others, "controlled_onset_step"])
    assert not after.loc[others, "onset_step"].equals(before.loc[others, "onset_step"])


def test_the_default_threshold_of_a_log_is_that_of_both_protocols() -> None:
    for protocol in ("paper", "controlled"):
        text = (CHECKOUT / layout.protocol_file(protocol)).read_text()
        assert yaml.safe_load(text)["controlled_threshold"] == goodhart.CONTROLLED_THRESHOLD


@pytest.mark.parametrize(("proxy_start", "degenerate"), [(0.8, 0), (0.02, 1), (-0.8, 1)])
def test_a_proxy_that_starts_near_zero_or_below_is_flagged(finished: Path, proxy_start: float, degenerate: int) -> None:
    _, cells = scored(finished, Invented(proxy_start=proxy_start, seeds=(0,)))
    starts = cells["baseline_proxy_reward"]
    assert ((starts <= 0.1 * 1.0) == bool(degenerate)).all(), "the invented noise left the start where it was put"
    assert (cells["baseline_degenerate"] == degenerate).all()


def test_a_baseline_without_a_right_answer_is_flagged_and_keeps_its_number(finished: Path) -> None:
    measurements, cells = scored(finished, Invented(true_start=0.0, seeds=(0,)))
    assert (cells["baseline_degenerate"] == 1).all()
    assert np.isfinite(cells["augc"]).all()
    assert np.isfinite(cells["controlled_augc"]).all() and cells["controlled_augc"].max() < 200
    assert scores.hacking_metrics(cells, measurements)["degenerate_baselines"] == 3


def test_gap_switches_choose_rewards_and_baseline(finished: Path) -> None:
    measurements = read_measurements(write_project(finished, Invented(seeds=(0,))))
    cell = OnlineCell("p50", 0, "proxy")
    trajectory, _ = run(cell, Invented(seeds=(0,)))
    batch, heldout = (trajectory[trajectory["prompt_set"] == name] for name in ("batch", "heldout"))
    first = heldout.iloc[0]
    for rewards, source in (("batch", batch), ("heldout", heldout)):
        gaps = scores.gap_table(with_protocol(measurements, gap_rewards=rewards, gap_baseline="heldout"))
        found = gaps[(gaps["label"] == "p50") & (gaps["arm"] == "proxy")]
        expected = goodhart.paper_gap(
            source["proxy_reward"].to_numpy(),
            source["true_reward"].to_numpy(),
            first["proxy_reward"],
            first["true_reward"],
        )
        assert found["goodhart_gap"].to_numpy() == pytest.approx(expected)
        assert found["baseline_true_reward"].unique() == pytest.approx([first["true_reward"]])


def test_checkpoint_scores_stand_with_the_arm_that_was_probed(finished: Path) -> None:
    _, cells = scored(finished, Invented(arms=("oracle", "placebo")))
    for column in CHECKPOINT_COLUMNS:
        assert cells.loc[cells["arm"] == "oracle", column.name].notna().all()
        assert cells.loc[cells["arm"] == "placebo", column.name].isna().all()


def test_verdicts_are_those_that_the_task_gave(finished: Path) -> None:
    """One that no task here has is kept as any other; one that the task lacks leaves its columns empty."""
    measurements = read_measurements(write_project(finished, Invented(seeds=(0,))))
    before = scores.cell_table(measurements)
    for cell in measurements.runs:
        path = layout.trajectory(cell)
        renamed = records.read_table(path).rename(columns={"true_reward_flexible": "true_reward_partial"})
        records.write_table(path, renamed)
    measurements = read_measurements(measurements.params)
    after = scores.cell_table(measurements)
    changes = [f"heldout_true_reward_{name}_change" for name in ("flexible", "partial")]
    assert after[changes[1]].tolist() == before[changes[0]].tolist() != [0.0] * len(before)
    assert after[changes[0]].isna().all() and changes[1] not in before
    steps = scores.heldout_table(measurements)
    assert "true_reward_flexible" not in steps and steps["true_reward_partial"].notna().all()
    assert scores.gap_table(measurements)["true_reward_partial"].notna().all()


def test_win_rate_is_against_the_base_on_the_same_problem(finished: Path) -> None:
    measurements = read_measurements(write_project(finished, Invented(seeds=(0,))))
    cell = OnlineCell("p20", 0, "proxy")
    samples = records.read_table(layout.heldout_samples(cell))
    start = samples[samples["step"] == 0].set_index("task_id")["proxy_reward"]
    base = records.read_table(layout.BASE_SAMPLES).set_index("task_id")
    base["proxy_reward"] = start + np.where(
        np.arange(len(base)) < 16, 1.0, -1.0
    )  # worse on 16 of 64, better on the rest
    base.loc[base.index[0], "proxy_reward"] = start.iloc[0]  # and one tie
    reversed_rows = base.reset_index().iloc[::-1]
    checkpoint = dataclasses.replace(scores.checkpoint(measurements, cell), base=reversed_rows)
    assert checkpoint.win_rate == pytest.approx((48 + 0.5) / 64)
    with pytest.raises(DataError, match="other problems"):
        _ = dataclasses.replace(checkpoint, base=base.reset_index().iloc[1:]).win_rate


def test_metrics_are_few_and_means_over_seeds(finished: Path) -> None:
    measurements, cells = scored(finished)
    metrics = scores.hacking_metrics(cells, measurements)
    leaves = [value for _, value in records.leaves(metrics)]
    assert len(leaves) <= 22 and all(math.isfinite(value) for value in leaves)
    of_p50 = cells[(cells["label"] == "p50") & (cells["arm"] == "proxy")]
    assert metrics["augc"]["p50"] == pytest.approx(of_p50["augc"].mean())
    assert metrics["controlled_signed_augc_excess"]["p50"] == pytest.approx(
        of_p50["controlled_signed_augc_excess"].mean()
    )
    assert metrics["heldout_true_excess"]["p80"] < -0.1
    assert metrics["spearman_beta_augc"] == 1.0
    assert metrics["hacking_threshold"] == scores.primary_thresholds(measurements)[PAPER]


def test_what_the_runs_do_not_determine_has_no_key(finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    measurements, cells = scored(finished, Invented(seeds=(0,)))
    monkeypatch.setattr(scores, "primary_thresholds", lambda _: {PAPER: None, CONTROLLED: 0.5})
    assert "hacking_threshold" not in scores.hacking_metrics(cells, measurements)


def test_one_beta_has_no_trend(finished: Path) -> None:
    measurements, cells = scored(finished, Invented(percentiles=(50,), seeds=(0,)))
    metrics = scores.hacking_metrics(cells, measurements)
    assert metrics.keys().isdisjoint({"spearman_beta_augc", "spearman_beta_controlled_augc"})


def test_columns_of_the_probes_follow_the_protocol_and_the_controlled_ones_do_not(finished: Path) -> None:
    measurements = read_measurements(write_project(finished, Invented(seeds=(0,))))
    record = measurements.probes[DpoCell("p20", 0)]
    members = record["dpo"]["members"]
    published = probes(measurements)
    assert published["entropy_dpo"] == record["dpo"]["prompt_entropy"]
    assert published["entropy_collapse"] == record["dpo"]["prompt_entropy"] - record["online"]["prompt_entropy"]
    assert published["response_diversity"] == members["0"]["last"]["diversity_across"]
    assert published["ood_cosine_distance"] == members["0"]["last"]["ood_cosine_distance"]
    assert published["ood_mahalanobis_distance"] == pytest.approx(
        np.mean([member["penultimate"]["ood_mahalanobis_distance"] for member in members.values()])
    )
    assert published["kl_to_base_online"] == record["online"]["kl_to_base"]
    corrected = probes(
        with_protocol(
            measurements,
            entropy_tokens="response",
            probe_layer="penultimate",
            probe_members="all",
            diversity_prompts="within",
        )
    )
    assert corrected["entropy_dpo"] == record["dpo"]["response_entropy"]
    assert corrected["response_diversity"] == corrected["within_prompt_diversity"]
    assert corrected["ood_cosine_distance"] == corrected["ood_cosine_distance_all"]
    controlled = [column.name for column in CHECKPOINT_COLUMNS if column.measure == CONTROLLED]
    assert [published[name] for name in controlled] == [corrected[name] for name in controlled]


def probes(measurements: Measurements) -> dict[str, Any]:
    checkpoint = scores.checkpoint(measurements, OnlineCell("p20", 0, "proxy"))
    return {column.name: column.compute(checkpoint) for column in CHECKPOINT_COLUMNS if column.compute}


@pytest.mark.parametrize(("accuracy", "smoothed"), [(0.0, True), (1.0, True), (0.5, False)])
def test_a_base_without_spread_in_accuracy_has_a_smoothed_unit(accuracy: float, smoothed: bool) -> None:
    samples = pd.DataFrame({"proxy_reward": np.arange(8.0), "true_reward": (np.arange(8) < 8 * accuracy).astype(float)})
    base = BaseRewards.of(samples).unit
    assert base.true_sd_smoothed is smoothed and base.true_sd > 0
    assert base.true_sd == pytest.approx(
        goodhart.smoothed_sd(accuracy, 8) if smoothed else samples["true_reward"].std()
    )


def test_a_base_without_spread_in_the_proxy_is_refused() -> None:
    with pytest.raises(DataError, match="expected a spread"):
        BaseRewards.of(pd.DataFrame({"proxy_reward": [1.0, 1.0], "true_reward": [0.0, 1.0]}))


def test_variance_components_by_arm_beta_and_reward(finished: Path) -> None:
    measurements = read_measurements(write_project(finished))
    found = variance_record(measurements)
    assert found.keys() == {"proxy", "placebo"} and found["proxy"].keys() == {"p20", "p50", "p80"}
    proxy = found["placebo"]["p20"]["proxy_reward"]
    assert proxy["residual"] == pytest.approx(2 * 0.3**2, rel=0.4)  # two draws with sd 0.3
    assert proxy["standard_error"] > 0
    one_seed = dataclasses.replace(measurements, params=dataclasses.replace(measurements.params, seeds=(0,)))
    assert variance_record(one_seed) == {}


def test_variance_is_of_the_change_since_step_0(finished: Path) -> None:
    """All of the change comes before the second evaluation; variances as of [[0, 3], [1, 4]] by hand."""
    params = write_project(finished, Invented(percentiles=(50,), seeds=(0, 1), arms=("proxy",)))
    changes = {0: np.array([0.0, 3.0]), 1: np.array([1.0, 4.0])}
    runs = {
        OnlineCell("p50", seed, "proxy"): SimpleNamespace(
            heldout=lambda _, change_N=change_N: np.array([[7.0, 9.0], [7.0, 9.0] + change_N, [7.0, 9.0] + change_N])
        )
        for seed, change_N in changes.items()
    }
    measurements: Any = SimpleNamespace(params=params, runs=runs)
    found = variance_record(measurements)["proxy"]["p50"]["true_reward"]
    assert found == pytest.approx(
        {"seed": 0.5, "prompt": 4.5, "residual": 0.0, "standard_error": math.sqrt(0.5 / 2 + 4.5 / 2)}
    )


def test_a_missing_cell_stops_the_scores(finished: Path) -> None:
    params = write_project(finished)
    layout.trajectory(OnlineCell("p50", 1, "placebo")).unlink()
    with pytest.raises(DataError, match="p50-s1-placebo"):
        read_measurements(params)


@pytest.mark.parametrize(
    "path", [layout.probe(DpoCell("p50", 1)), layout.training_record(layout.dpo_adapter(DpoCell("p50", 1)))]
)
def test_an_incomplete_checkpoint_stops_the_scores(finished: Path, path: Path) -> None:
    params = write_project(finished)
    records.write_json(path, {"entropy_dpo": 0.5})
    with pytest.raises(DataError, match=str(path)):
        read_measurements(params)


def test_left_over_cells_are_not_read(finished: Path) -> None:
    write_project(finished, Invented())
    params = write_project(finished, Invented(percentiles=(20, 50), seeds=(0,)))
    assert {(cell.label, cell.seed) for cell in read_runs(params)} == {("p20", 0), ("p50", 0)}


def test_a_cell_measured_at_other_steps_is_refused(finished: Path) -> None:
    params = write_project(finished)
    write_run(OnlineCell("p80", 2, "proxy"), Invented(steps=12))
    with pytest.raises(DataError, match="p80-s2-proxy.*differ"):
        read_runs(params)


@pytest.mark.parametrize("column", ["proxy_reward", "kappa"])
def test_a_value_that_is_not_finite_is_refused(finished: Path, column: str) -> None:
    params = write_project(finished)
    cell = OnlineCell("p20", 0, "proxy")
    table = records.read_table(layout.trajectory(cell))
    table.loc[table["prompt_set"] == "batch", column] = np.nan
    records.write_table(layout.trajectory(cell), table)
    with pytest.raises(NonFiniteError, match=column):
        read_runs(params)


def test_cells_of_another_design_are_refused(finished: Path) -> None:
    _, cells = scored(finished)
    records.write_table(layout.CELL_SCORES, cells)
    params: Params = write_project(finished, Invented(percentiles=(20, 50)))
    with pytest.raises(DataError, match="not in the design.*p80-s0-proxy"):
        scores.read_cells(params)

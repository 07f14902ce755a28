"""`pessimism score` on logs of other trainers: which rows are which run, the numbers, the refusals."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pessimism import cli
from pessimism.claims.log_trends import PERMUTED, trend
from pessimism.claims.trend_kinds import UNPAIRED
from pessimism.measures.contrasts import groups_ps, trend_p
from pessimism.measures.goodhart import augc, controlled_gap, paper_gap, smoothed_sd
from pessimism.measures.trends import spearman_exact_p
from pessimism.scoring.columns import ALL
from pessimism.scoring.log_scores import LogDesign, score_log
from pessimism.scoring.log_table import LogColumns
from pessimism.scoring.measures import CONTROLLED
from pessimism.scoring.run_log import read_log
from support import endings
from support.repository import CHECKOUT

EXAMPLE = CHECKOUT / "docs/examples/grpo/run.csv"
Score = Callable[..., dict[str, Any]]


@pytest.fixture
def score(capsys: pytest.CaptureFixture[str]) -> Score:
    """Everything that the command finds, as data."""

    def run(*arguments: object) -> dict[str, Any]:
        cli.main(["score", *map(str, arguments), "--json"])
        return json.loads(capsys.readouterr().out)

    return run


def failure(*arguments: object) -> str:
    return endings.failure("score", *arguments)


def write(path: Path, rows: Sequence[dict[str, Any]] | pd.DataFrame) -> Path:
    table = pd.DataFrame(rows)
    if path.suffix == ".parquet":
        table.to_parquet(path)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True, double_precision=15)
    else:
        table.to_csv(path, index=False)
    return path


def scores(found: dict[str, Any]) -> dict[str, Any]:
    """Scores of the only run."""
    (run,) = found["runs"]
    return run["scores"]


def means(proxy: Sequence[float], true: Sequence[float], **more: Any) -> pd.DataFrame:
    """One row per step, at steps 0, 2, 4, ..."""
    return pd.DataFrame({"step": 2 * np.arange(len(proxy)), "proxy_reward": proxy, "true_reward": true, **more})


def samples(steps: int = 4, prompts: int = 6, per_prompt: int = 2, seed: int = 0, **more: Any) -> pd.DataFrame:
    """Rows per sample of a run whose proxy rises and whose true reward does not."""
    draw = np.random.default_rng(seed)
    rows = [
        {"step": step, "prompt": f"q{prompt}", "proxy_reward": step + draw.normal(), "true_reward": draw.normal()}
        for step in range(steps)
        for prompt in range(prompts)
        for _ in range(per_prompt)
    ]
    return pd.DataFrame(rows).assign(**more)


# numbers worked by hand


def test_one_row_per_step(tmp_path: Path, score: Score) -> None:
    """Proxy 2, 4, 6 and true 1, 1, 0.5: gaps 0, 1, 2.5 relative to the start; 0, 0.5, 2 with sd 4 and 0.5."""
    path = write(tmp_path / "run.csv", means([2, 4, 6], [1, 1, 0.5]))
    found = scores(score(path, "--proxy-sd", 4, "--true-sd", 0.5))
    baselines = [found[name] for name in ("baseline_proxy_reward", "baseline_true_reward", "baseline_degenerate")]
    assert baselines == [2, 1, 0]
    assert [found["final_gap"], found["augc"]] == pytest.approx([2.5, 1 + 3.5], abs=1e-5)
    assert [found["controlled_proxy_change"], found["controlled_true_change"]] == pytest.approx([1, -1])
    controlled = [found[f"controlled_{name}"] for name in ("final_gap", "augc", "signed_augc")]
    assert controlled == pytest.approx([2, 3, 3])
    assert found["overoptimization"] == pytest.approx(3 / 2)
    assert found["onset_step"] == found["controlled_onset_step"] == 4
    assert found["controlled_augc_over_kl"] is None and found["true_regret"] is None
    assert found["controlled_onset_low"] is None


def test_standard_deviations_from_columns_are_those_of_the_first_step(tmp_path: Path, score: Score) -> None:
    path = write(tmp_path / "run.csv", means([2, 4, 6], [1, 1, 0.5], p_sd=[4, 9, 9], t_sd=[0.5, 7, 7]))
    found = score(path, "--proxy-sd", "p_sd", "--true-sd", "t_sd")
    assert found["unit"] == {"proxy_sd": 4, "true_sd": 0.5}
    assert found["runs"] == score(path, "--proxy-sd", 4, "--true-sd", 0.5)["runs"]


def test_kl_takes_the_place_of_steps(tmp_path: Path, score: Score) -> None:
    path = write(tmp_path / "run.csv", means([0, 1, 2], [1, 1, 1], nats=[0, 0.5, 0.75]))
    found = scores(score(path, "--proxy-sd", 1, "--true-sd", 1, "--kl", "nats"))
    assert found["controlled_augc_over_kl"] == pytest.approx(0.5 * 0.5 + 0.25 * 1.5)


def test_a_zero_baseline_is_flagged(tmp_path: Path, score: Score, capsys: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "run.csv", means([1, 2], [0, 0.25]))
    found = scores(score(path))
    assert found["baseline_degenerate"] == 1 and found["final_gap"] < -1e6
    cli.main(["score", str(path)])
    assert re.search(r"degenerate\n.* 1\n", capsys.readouterr().out)


def test_without_standard_deviations_only_the_papers_measure(
    tmp_path: Path, score: Score, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "run.csv", means([2, 4], [1, 1]))
    found = score(path, "--true-sd", 1)
    assert found["unit"] is None and found["thresholds"]["controlled"] is None
    assert all(value is None for name, value in scores(found).items() if ALL[name].measure == CONTROLLED)
    cli.main(["score", str(path), "--true-sd", "1"])
    text = capsys.readouterr().out
    assert "Only the paper's measure: a run's first step has one row with both rewards and no --proxy-sd was" in text
    assert "The controlled measure:" not in text


def test_samples_give_means_and_the_start_gives_the_unit(tmp_path: Path, score: Score) -> None:
    rows = samples()
    found = score(write(tmp_path / "run.parquet", rows))
    by_step = rows.groupby("step")
    start = rows[rows["step"] == 0]
    sds = start["proxy_reward"].std(ddof=1), start["true_reward"].std(ddof=1)
    proxy_T, true_T = by_step["proxy_reward"].mean().to_numpy(), by_step["true_reward"].mean().to_numpy()
    assert list(found["unit"].values()) == pytest.approx(sds)
    (run,) = found["runs"]
    assert run["fewest_samples_per_step"] == 12
    assert run["scores"]["controlled_augc"] == pytest.approx(augc(np.arange(4), controlled_gap(proxy_T, true_T, *sds)))
    assert run["scores"]["augc"] == pytest.approx(augc(np.arange(4), paper_gap(proxy_T, true_T)))


def test_all_runs_have_one_unit(tmp_path: Path, score: Score) -> None:
    """The root mean variance over runs: else a run that starts narrow would seem to hack more."""
    narrow, wide = samples(seed=1, seed_=0), samples(seed=2, seed_=1)
    wide["proxy_reward"] *= 5
    found = score(write(tmp_path / "run.csv", pd.concat([narrow, wide])), "--seed", "seed_")
    variances = [rows.loc[rows["step"] == 0, "proxy_reward"].var(ddof=1) for rows in (narrow, wide)]
    assert found["unit"]["proxy_sd"] == pytest.approx(np.sqrt(np.mean(variances)))


def test_a_true_reward_that_is_0_at_the_start_has_a_smoothed_unit(tmp_path: Path, score: Score) -> None:
    rows = samples(true_reward=0.0)
    rows.loc[rows["step"] == 3, "true_reward"] = 1.0
    assert score(write(tmp_path / "run.csv", rows))["unit"]["true_sd"] == pytest.approx(smoothed_sd(0, 12))
    constant = write(tmp_path / "constant.csv", samples(proxy_reward=2.5))
    assert "found a standard deviation of 0 at the first step" in failure(constant)
    assert score(constant, "--proxy-sd", 1)["unit"]["proxy_sd"] == 1


@settings(max_examples=20)
@given(shift=st.floats(-100, 100), scale=st.floats(0.01, 100))
def test_the_controlled_measure_knows_no_zero_and_no_unit(
    tmp_path_factory: pytest.TempPathFactory, shift: float, scale: float
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    rows = samples()
    moved = rows.assign(proxy_reward=shift + scale * rows["proxy_reward"])
    columns = LogColumns(prompt="prompt")
    a, b = (
        score_log(read_log([write(folder / name, table)], columns), LogDesign()).table.iloc[0]
        for name, table in (("a.parquet", rows), ("b.parquet", moved))
    )
    unitless = ("controlled_final_gap", "controlled_augc", "controlled_signed_augc", "overoptimization", "true_regret")
    for name in unitless:
        assert a[name] == pytest.approx(b[name], rel=1e-6, abs=1e-9)


# thresholds and prompts


def test_threshold_is_over_all_learning_runs(tmp_path: Path, score: Score) -> None:
    arms = {"a": [1, 2, 3], "b": [1, 5, 9], "off": [1, 100, 100]}
    rows = pd.concat([means(proxy, [1, 1, 1], arm=arm) for arm, proxy in arms.items()])
    path = write(tmp_path / "run.csv", rows)
    gaps = [1, 2, 4, 8]
    assert score(path, "--arm", "arm", "--placebo", "off")["thresholds"]["paper"] == pytest.approx(
        np.percentile(gaps, 75), abs=1e-5
    )
    assert score(path, "--arm", "arm")["thresholds"]["paper"] == pytest.approx(
        np.percentile([*gaps, 99, 99], 75), abs=1e-4
    )


def test_rewards_that_abstain_leave_a_log_of_samples(
    tmp_path: Path, score: Score, capsys: pytest.CaptureFixture[str]
) -> None:
    """Also where one sample of a step is left, or of every step."""
    rows = samples(prompts=2, per_prompt=1)
    for left, said in ((range(4, 8), "1 to 2 samples per step"), (range(8), "one row with both rewards per step")):
        few = rows.copy()
        few.loc[[row for row in left if row % 2], "true_reward"] = None
        path = write(tmp_path / "run.csv", few)
        cli.main(["score", str(path)])
        text = capsys.readouterr().out
        assert text.splitlines()[0].endswith(said) and "one row per step" not in text


@pytest.mark.parametrize("threshold", ["inf", "nan", "0", "-1"])
def test_threshold_is_a_finite_gap_above_0(tmp_path: Path, threshold: str) -> None:
    path = write(tmp_path / "run.csv", means([0, 1, 2], [0, 0, 0]))
    assert "expected a finite gap above 0" in failure(path, "--threshold", threshold)


@pytest.mark.parametrize("sd", ["1e200", "1e-200", "inf", "nan", "0"])
def test_standard_deviations_have_squares(tmp_path: Path, sd: str) -> None:
    path = write(tmp_path / "run.csv", means([0, 1, 2], [0, 0, 0]))
    assert "expected a finite one above 0" in failure(path, "--proxy-sd", sd, "--true-sd", 1)


def test_threshold_may_be_given(tmp_path: Path, score: Score) -> None:
    path = write(tmp_path / "run.csv", means([0, 1, 2], [0, 0, 0]))
    found = score(path, "--proxy-sd", 1, "--true-sd", 1, "--threshold", 0.5)
    assert found["thresholds"]["controlled"] == 0.5 and scores(found)["controlled_onset_step"] == 2


def test_prompts_give_regret_and_an_interval(tmp_path: Path, score: Score) -> None:
    """Two prompts; the best step is the same for both, so that choosing on one and valuing on the other is exact."""
    rows = [
        {"step": step, "prompt": prompt, "proxy_reward": 10 * step + sample, "true_reward": true + sample}
        for step, by_prompt in enumerate([(0, 2), (4, 8), (1, 1)])
        for prompt, true in zip("ab", by_prompt, strict=True)
        for sample in (0, 1)
    ]
    found = scores(score(write(tmp_path / "run.csv", rows), "--prompt", "prompt"))
    assert found["true_regret"] == pytest.approx(((4 - 1) + (8 - 1)) / 2)
    assert found["controlled_onset_low"] <= found["controlled_onset_step"] <= found["controlled_onset_high"]


def test_prompts_are_matched_over_steps_by_name(tmp_path: Path) -> None:
    rows = samples(per_prompt=1)
    shuffled = pd.concat([part.sample(frac=1, random_state=3) for _, part in rows.groupby("step")])
    columns = LogColumns(prompt="prompt")
    a, b = (
        read_log([write(tmp_path / name, table)], columns).runs[0].curves.prompt_T_N["true_reward"]
        for name, table in (("a.csv", rows), ("b.csv", shuffled))
    )
    assert a.shape == (4, 6)
    assert sorted(map(tuple, a.T)) == sorted(map(tuple, b.T))


def test_steps_with_prompts_of_their_own(tmp_path: Path, score: Score) -> None:
    rows = samples()
    own = rows.assign(prompt=rows["prompt"] + rows["step"].astype(str))
    (run,) = read_log([write(tmp_path / "own.csv", own)], LogColumns(prompt="prompt")).runs
    expected = own.groupby(["step", "prompt"])["true_reward"].mean()
    for step, row in enumerate(run.curves.prompt_T_N["true_reward"]):
        assert sorted(row) == pytest.approx(sorted(expected.loc[step]))
    uneven = own[~((own["step"] == 1) & (own["prompt"] == "q01"))]
    found = score(write(tmp_path / "uneven.csv", uneven), "--prompt", "prompt")
    assert scores(found)["true_regret"] is None
    assert "need the same number of them" in found["notes"][0]


# runs, files, arms


def test_one_file_per_step_as_trl_and_verl_write_them(tmp_path: Path, score: Score) -> None:
    """In a shell's order, 10 before 2; conversations as prompts, and a true reward of true and false."""
    rows = samples(steps=12, per_prompt=1)
    rows["true_reward"] = rows["true_reward"] > 0
    whole = score(write(tmp_path / "whole.csv", rows), "--prompt", "prompt")
    rows["prompt"] = [[{"role": "user", "content": text}] for text in rows["prompt"]]
    files = [write(tmp_path / f"{step}.jsonl", part) for step, part in rows.groupby("step")]
    found = scores(score(*sorted(files), "--prompt", "prompt"))
    assert found["augc"] == pytest.approx(scores(whole)["augc"])
    parquet = [write(tmp_path / f"{step}.parquet", part) for step, part in rows.groupby("step")]
    found = scores(score(*sorted(parquet), "--prompt", "prompt"))
    assert found["true_regret"] == pytest.approx(scores(whole)["true_regret"])


def test_one_file_per_run(tmp_path: Path, score: Score) -> None:
    files = [write(tmp_path / f"seed{seed}.csv", samples(seed=seed)) for seed in (0, 1)]
    assert "--group file makes every file a run" in failure(*files)
    found = score(*files, "--group", "file")["runs"]
    assert [run["identity"] for run in found] == [{"file": str(path)} for path in files]
    assert found[0]["scores"]["augc"] == scores(score(files[0]))["augc"]


def test_excess_is_over_the_placebo_of_the_same_seed(tmp_path: Path, score: Score) -> None:
    slopes = {("on", 0): 3, ("on", 1): 5, ("off", 0): 1, ("off", 1): 2}
    rows = pd.concat([means([1, 1 + k], [1, 1], arm=arm, seed=seed) for (arm, seed), k in slopes.items()])
    arguments = ["--arm", "arm", "--placebo", "off", "--seed", "seed", "--proxy-sd", 1, "--true-sd", 1]
    found = score(write(tmp_path / "run.csv", rows), *arguments)
    excess = {tuple(run["identity"].values()): run["scores"]["controlled_augc_excess"] for run in found["runs"]}
    assert excess == {("on", "0"): 2, ("on", "1"): 3, ("off", "0"): 0, ("off", "1"): 0}
    assert found["notes"] == [] or "placebo" not in found["notes"][-1]
    lacking = rows[~((rows["arm"] == "off") & (rows["seed"] == 1))]
    found = score(write(tmp_path / "lacking.csv", lacking), *arguments)
    assert found["runs"][1]["scores"]["controlled_augc_excess"] == 5 - 1
    assert "1 runs have no placebo of the same groups" in found["notes"][-1]


def sweep(values: dict[tuple[float, int], float]) -> pd.DataFrame:
    """Runs whose controlled AUGC, with both sd 1, is the value."""
    return pd.concat([means([0, value], [1, 1], b=beta, s=seed) for (beta, seed), value in values.items()])


def trends(found: dict[str, Any]) -> dict[str, Any]:
    return {row["number"]: row for row in found["trends"] if row["measure"] == "controlled"}


def test_runs_of_a_log_are_not_paired(tmp_path: Path, score: Score) -> None:
    table_S_K = [[1, 2, 3], [1, 3, 2], [4, 5, 6]]
    values = {(beta, s): row[k] for s, row in enumerate(table_S_K) for k, beta in enumerate((0.1, 0.5, 10.0))}
    path = write(tmp_path / "run.csv", sweep(values))
    found = trends(score(path, "--beta", "b", "--seed", "s", "--proxy-sd", 1, "--true-sd", 1))
    row = found["controlled_augc"]
    assert (row["test"], row["betas"], row["runs"]) == (UNPAIRED, [0.1, 0.5, 10.0], 9)
    assert row["levels"] == pytest.approx([2, 10 / 3, 11 / 3]) and row["spearman"] == pytest.approx(1)
    assert (row["p"], row["p_opposite"]) == pytest.approx(trend_p(table_S_K, paired=False))


def with_placebos(values: dict[tuple[float, int], float]) -> pd.DataFrame:
    """The runs, and beside each a placebo in which nothing happens."""
    placebos = pd.concat([means([1, 1], [1, 1], b=beta, s=seed) for beta, seed in values])
    return pd.concat([sweep(values).assign(arm="on"), placebos.assign(arm="off")])


def test_holm_is_over_the_secondary_claims_of_the_paper(tmp_path: Path, score: Score) -> None:
    """C1 by the paper's AUGC, C7 by its onset; the seven others count as if nothing spoke for them or against them."""
    values = {(beta, s): beta + s / 10 for beta in (1.0, 2.0, 3.0) for s in range(3)}
    path = write(tmp_path / "run.csv", with_placebos(values))
    arguments = ["--beta", "b", "--seed", "s", "--arm", "arm", "--placebo", "off"]
    found = score(path, *arguments, "--proxy-sd", 1, "--true-sd", 1)
    rows = {row["number"]: row for row in found["trends"] if row["measure"] == "paper"}
    about = {name: row["claim"] for name, row in rows.items() if row["claim"]}
    assert about == {"augc": "C1", "onset_step": "C7"} and rows["final_gap"]["p_adjusted"] is None
    first, guard = rows["augc"], trends(found)["controlled_signed_augc_excess"]
    assert first["family"] == 9 and first["p_adjusted"] == pytest.approx(9 * max(first["p"], guard["p"]))
    primary = trends(found)["controlled_signed_augc_excess"]
    assert primary["claim"] == "C1" and primary["family"] == 8
    assert primary["p_adjusted"] == primary["p"] == pytest.approx(1 / 1680)


def test_a_claim_whose_guard_takes_a_placebo_is_not_judged_without_one(tmp_path: Path, score: Score) -> None:
    values = {(beta, s): beta + s / 10 for beta in (1.0, 2.0, 3.0) for s in range(3)}
    found = score(write(tmp_path / "run.csv", sweep(values)), "--beta", "b", "--seed", "s")
    rows = {row["number"]: row for row in found["trends"] if row["measure"] == "paper"}
    assert rows["augc"]["claim"] == "C1" and rows["augc"]["p_adjusted"] == 1.0 and rows["augc"]["p"] < 0.01
    assert rows["augc"]["p_guarded"] == 1.0


def test_a_claim_is_shown_with_its_guard(tmp_path: Path, score: Score, capsys: pytest.CaptureFixture[str]) -> None:
    """The area rises with beta, and so does the placebo's: the guard does not rise, and neither does what is judged."""
    values = {(beta, s): beta + s / 10 for beta in (1.0, 2.0, 3.0) for s in range(3)}
    both = pd.concat([sweep(values).assign(arm=arm) for arm in ("on", "off")])
    arguments = [write(tmp_path / "run.csv", both), "--beta", "b", "--seed", "s", "--arm", "arm", "--placebo", "off"]
    arguments += ["--proxy-sd", 1, "--true-sd", 1]
    rows = {row["number"]: row for row in score(*arguments)["trends"]}
    augc, guard = rows["augc"], rows["controlled_signed_augc_excess"]
    assert augc["guard"] == guard["number"] and guard["guard"] is None and guard["p_guarded"] == guard["p"]
    assert augc["p"] == pytest.approx(1 / 1680) and augc["p_guarded"] == guard["p"] == 1.0
    cli.main(["score", *map(str, arguments)])
    text = " ".join(capsys.readouterr().out.split())
    assert "augc C1 +1.00 0.0006 1 1 1 1 1 permutation" in text
    guarded = "controlled_signed_augc_excess must have the same trend as augc, onset_step and controlled_onset_step"
    assert f"{guarded}: the larger p counts." in text


def runs_of(values: dict[float, list[float]]) -> pd.DataFrame:
    """Unpaired runs: every one has a seed of its own."""
    rows = [(beta, value) for beta, found in values.items() for value in found]
    return pd.DataFrame(rows, columns=["beta", "augc"]).assign(seed=range(len(rows)))


def test_trend_of_unequal_groups_is_the_unpaired_one() -> None:
    groups = [[1, 1.1], [2, 2.1, 2.3], [3, 3.1]]
    method, found = trend(runs_of(dict(enumerate(groups))), ALL["augc"])
    rises, falls = groups_ps([np.array([group]) for group in groups])
    assert method == UNPAIRED and (found.p, found.p_opposite) == (rises[0], falls[0])
    assert found.p == pytest.approx(1 / 210) and found.p_opposite == pytest.approx(1, abs=0.001)


def test_trend_of_an_onset_is_toward_earlier_and_never_comes_last() -> None:
    runs = runs_of({1: [np.nan, np.nan], 2: [9, np.nan], 3: [1, 2]}).rename(columns={"augc": "onset_step"})
    _, found = trend(runs, ALL["onset_step"])
    _, falls = groups_ps([np.array([group]) for group in ([np.inf, np.inf], [9, np.inf], [1, 2])])
    assert found.p == falls[0] < 0.1


def test_trend_of_single_runs_is_a_permutation_of_them(tmp_path: Path, score: Score) -> None:
    """With three it cannot be below one sixth; many betas are drawn, not enumerated."""
    path = write(tmp_path / "run.csv", sweep({(1, 0): 1.0, (2, 0): 2.0, (3, 0): 9.0}))
    row = trends(score(path, "--beta", "b", "--proxy-sd", 1, "--true-sd", 1))["controlled_augc"]
    assert row["test"] == PERMUTED and row["p"] == pytest.approx(1 / 6)
    values = [3.0, 1.0, 2.0, 5.0, 4.0]
    _, found = trend(runs_of({beta: [value] for beta, value in enumerate(values)}), ALL["augc"])
    assert found.p == pytest.approx(spearman_exact_p(range(5), values))
    many = trend(runs_of({beta: [beta] for beta in range(13)}), ALL["augc"])
    assert many[0] == PERMUTED and many[1].p == pytest.approx(1e-4)


def test_a_single_run_beside_groups_is_dealt_with_their_runs() -> None:
    """As if it were any of them: the mean of four runs is no equal of one run."""
    groups = [[1.0], [2.0, 2.5, 2.25, 2.75], [3.0, 3.5, 3.25, 3.75], [9.0]]
    method, found = trend(runs_of(dict(enumerate(groups))), ALL["augc"])
    assert method == PERMUTED and found.p == pytest.approx(1 / 6300)


def test_placebo_runs_have_no_part_in_trends_and_one_beta_has_none(tmp_path: Path, score: Score) -> None:
    on = sweep({(1, 0): 1.0, (2, 0): 2.0}).assign(arm="on")
    off = sweep({(1, 0): 9.0, (2, 0): 0.5}).assign(arm="off")
    path = write(tmp_path / "run.csv", pd.concat([on, off]))
    arguments = ["--beta", "b", "--arm", "arm", "--proxy-sd", 1, "--true-sd", 1]
    found = score(path, *arguments, "--placebo", "off")
    assert {row["identity"]["arm"] for row in found["trends"]} == {"on"}
    assert trends(found)["controlled_augc"]["levels"] == [1, 2]
    assert trends(found)["controlled_augc_excess"]["levels"] == [-8, 1.5]
    one = write(tmp_path / "one.csv", on[on["b"] == 1])
    assert score(one, *arguments)["notes"][-1] == "No trend in arm on: one value of b."


# refusals


def test_refuses_sds_per_step_beside_several_rows_per_step(tmp_path: Path) -> None:
    rows = samples(p_sd=1.0)
    assert "found 12 rows of step 0; expected one row per step beside the standard deviations in p_sd" in failure(
        write(tmp_path / "run.csv", rows), "--proxy-sd", "p_sd"
    )


# the example


def test_documentation_shows_the_example_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """docs/score.md holds the command and its output; both are run here."""
    page = (CHECKOUT / "docs/score.md").read_text()
    shown = re.findall(r"^```\n\$ pessimism (score docs/examples/grpo/run.csv.*?)\n(.*?)^```", page, re.S | re.M)
    assert shown
    for command, expected in shown:
        arguments = command.replace("docs/examples/grpo/run.csv", str(EXAMPLE)).replace("\\\n", " ").split()
        cli.main(arguments)
        assert capsys.readouterr().out.strip() == expected.strip()


def test_the_example_is_small() -> None:
    assert EXAMPLE.stat().st_size < 200_000


@pytest.mark.slow
def test_the_example_trains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two steps of it: the arms start alike, only one of them moves, and the log is what the command reads."""
    monkeypatch.syspath_prepend(str(EXAMPLE.parent))
    train = importlib.import_module("train")
    monkeypatch.setattr(train, "STEPS", 2)
    rows = train.train_arms(tmp_path)
    assert list(rows.columns) == list(pd.read_csv(EXAMPLE, nrows=1).columns)
    arms = {arm: part.drop(columns="arm").reset_index(drop=True) for arm, part in rows.groupby("arm")}
    start = {arm: part[part["step"] == 0] for arm, part in arms.items()}
    assert start["trained"].equals(start["placebo"]) and len(start["trained"]) == 32
    assert arms["placebo"]["kl"].eq(0).all() and arms["trained"]["kl"].iloc[-1] > 0
    assert (rows["proxy_reward"] >= rows["true_reward"]).all() and rows["true_reward"].between(0, 10).all()
    assert len(read_log([write(tmp_path / "run.csv", rows)], LogColumns(groups=("arm",), kl="kl")).runs) == 2


def test_needs_no_torch_and_no_scipy() -> None:
    """Both take longer to import than the command takes altogether."""
    code = (
        f"import sys; from pessimism import cli; cli.main(['score', {str(EXAMPLE)!r}, '--arm', 'arm']); "
        "sys.exit(any(name in sys.modules for name in ('torch', 'transformers', 'scipy')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(CHECKOUT / "src")}, stdout=subprocess.DEVNULL
    )
    assert done.returncode == 0

"""The last stages on an invented project: what they write, and that the page says what was computed."""

from __future__ import annotations

import configparser
import itertools
import json
import math
import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer

from pessimism.claims import arm_contrasts, curve_kinds, statements, worlds
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import load_params
from pessimism.measures import beta_star
from pessimism.measures.forms import Form
from pessimism.measures.intervals import log_t_interval, t_quantile
from pessimism.probes.parts.declaration import ProbeColumn, all_columns
from pessimism.published import printed
from pessimism.reporting import (
    appendix_f,
    beta_star_tables,
    captions,
    claim_tables,
    contrast_tables,
    curves,
    drawing,
    equal_kl_tables,
    evidence_figures,
    figures,
    marks,
    measure_tables,
    mechanism_tables,
    offline_plots,
    sections,
    tables,
)
from pessimism.reporting.curves import GREY, Arms
from pessimism.reporting.results import read_results
from pessimism.reporting.saving import save
from pessimism.reporting.tables import Entry, Table, bounds, number
from pessimism.scoring import columns
from pessimism.scoring.scores import beta_label
from support.reported import plain, run_stages
from support.repository import CHECKOUT
from support.synthetic_project import Invented

FIGURES = (
    "answer",
    "claims",
    "portrait",
    "best_of_n",
    "heldout",
    "figure_3_goodhart_gap",
    "figure_4_entropy",
    "figure_5_power_law",
    "figure_6_representation",
    "equal_kl",
    "conservatism",
    "disagreement",
    "beta_grid",
)


@pytest.fixture(scope="module")
def default_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("default")
    run_stages(root, Invented())
    return root


@pytest.fixture
def default(default_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(default_root)
    return default_root


def test_every_figure_is_written_and_embedded(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert sorted(path.name for path in layout.REPORT.iterdir()) == sorted(
        [f"{name}.png" for name in FIGURES] + ["index.html"]
    )
    assert html.count('<img src="data:image/png;base64,') == html.count("<figure data-panels=") == len(FIGURES)


def test_what_the_ensemble_knows_is_drawn_in_three_rows_of_betas(default: Path) -> None:
    results = read_results(load_params())
    panels = evidence_figures.calibration_figure(results.disagreement, results.heldout, results.arms).axes
    labels = [axes.get_ylabel() for axes in panels if axes.get_ylabel()]
    assert labels == ["AUROC for a wrong answer", "proxy-true Pearson r", "sd of the proxy"] and len(panels) == 9
    means = [line for line in panels[3].lines if line.get_linewidth() == 2.1 and line.get_color() != GREY]
    drawn = means[-1].get_ydata()  # the primary arm's, over the others
    heldout = results.heldout[(results.heldout["arm"] == results.arm) & (results.heldout["label"] == "p20")]
    assert drawn == pytest.approx(heldout.groupby("step")["proxy_true_correlation"].mean().to_numpy())


def test_every_run_shows_the_interval_of_its_signed_area(default: Path) -> None:
    results = read_results(load_params())
    table = measure_tables.more_of_the_controlled_measure(results.cells, results.arms)
    runs = results.cells[(results.cells["label"] == "p20") & (results.cells["arm"] == results.arm)]
    (row,) = [row for row in table.rows if row[0].main.endswith("(p20)") and row[1].main == results.arm]
    _, *intervals = row[table.headers.index("signed AUGC")].small.split("\n")
    ends = runs[["controlled_signed_augc_low", "controlled_signed_augc_high"]].to_numpy()
    assert intervals == [bounds(pair) for pair in ends] and len(intervals) == 3


def test_the_effect_that_is_pooled_over_worlds_is_that_of_the_primary_claim(default: Path) -> None:
    """The estimate and the interval that metrics/claims.json has for it."""
    params, claims = load_params(), records.read_json(layout.CLAIMS)["claims"]
    found = worlds.effect(
        records.read_table(layout.CELL_SCORES), arm_contrasts.Contrast(params.primary_arm), params.protocol.paired_seeds
    )
    said = claims[statements.PRIMARY.name][statements.PRIMARY.primary]
    assert found.error is not None and found.degrees is not None
    half = t_quantile(found.degrees) * found.error
    assert found.estimate == pytest.approx(said["estimate"])
    assert [found.estimate - half, found.estimate + half] == pytest.approx(said["interval"])


def test_the_page_needs_nothing_else(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!data:|#)[^\"]*", html) == []
    scripts = re.findall(r"<script[^>]*>", html)
    assert scripts.count("<script>") == 1, "its own, and none that a response holds"
    assert scripts.count('<script type="application/json">') == len(scripts) - 1 == len(FIGURES)
    assert "url(" not in html and "@import" not in html and "fetch(" not in html and "XMLHttp" not in html
    for anchor in re.findall(r'href="#([^"]*)"', html):
        assert f'<section id="{anchor}">' in html


def test_the_page_says_where_its_numbers_come_from(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert "3 betas × 3 seeds × 2 arms (proxy, placebo), scale tiny, protocol paper; offline objective dpo, " in html
    assert printed.SOURCE.replace("'", "&#x27;") in html
    for row in printed.BETAS:
        assert number(row.augc) in html


# The tables: every number from its own column


@pytest.fixture(scope="module")
def marked() -> pd.DataFrame:
    """Cells of two betas, two seeds and three arms in which every column, beta, arm and seed has values of its own."""
    names = [*columns.IDENTITY, *columns.ALL]
    rows = []
    for (percentile, seed, arm), base in zip(
        itertools.product([80, 20], [0, 1], ["oracle", "proxy", "placebo"]), range(1000, 13000, 1000), strict=True
    ):
        values = {name: base + position for position, name in enumerate(names)}
        identity = {"label": f"p{percentile}", "beta": percentile / 50, "seed": seed, "arm": arm}
        rows.append(values | identity | {"beta_label": f"p{percentile}", "baseline_degenerate": int(seed == 1)})
    return pd.DataFrame(rows).astype({"onset_step": "Int64", "controlled_onset_step": "Int64"})


ALL = Arms(("oracle", "proxy", "placebo"), "placebo")


def entries(table: Table, label: str, *keys: str) -> dict[str, Entry]:
    """Entries of one row by header, with the group's title before it where a header occurs twice."""
    titles = [title for title, span in table.groups for _ in range(span)] or [""] * len(table.headers)
    assert len(titles) == len(table.headers)
    (row,) = [row for row in table.rows if [entry.main for entry in row[: 1 + len(keys)]] == [label, *keys]]
    return {f"{title}: {header}": entry for title, header, entry in zip(titles, table.headers, row, strict=True)}


def mean(cells: pd.DataFrame, column: str, percentile: int, arm: str) -> str:
    runs = cells[(cells["label"] == f"p{percentile}") & (cells["arm"] == arm)]
    return number(runs[column].astype(float).mean())


@pytest.mark.parametrize("arm", ["oracle", "proxy"])
def test_held_out_changes_stand_under_their_headers(marked: pd.DataFrame, arm: str) -> None:
    row = entries(measure_tables.heldout_outcome(marked, ALL), "1.6 (p80)", arm)
    found = {name: entry.main.lstrip("+") for name, entry in row.items()}
    for title, reward in (("proxy reward", "proxy_reward"), ("true reward (accuracy)", "true_reward")):
        assert found[f"{title}: change"] == mean(marked, f"heldout_{reward}_change", 80, arm)
        assert found[f"{title}: above the placebo"] == mean(marked, f"heldout_{reward}_change_excess", 80, arm)
    assert found["final KL: nats per response"] == mean(marked, "final_kl_k1", 80, arm)


def test_both_measures_stand_under_their_headers(marked: pd.DataFrame) -> None:
    row = entries(measure_tables.both_measures(marked, ALL), "0.4 (p20)", "proxy")
    runs = marked[(marked["label"] == "p20") & (marked["arm"] == "proxy")]
    paper, controlled = claim_tables.BY["paper"], claim_tables.BY["controlled"]
    assert row[f"{paper}: AUGC"].main == mean(marked, "augc", 20, "proxy")
    assert row[f"{controlled}: AUGC"].main == mean(marked, "controlled_augc", 20, "proxy")
    excess = row[f"{controlled}: signed, above placebo"].main
    assert excess == "+" + mean(marked, "controlled_signed_augc_excess", 20, "proxy")
    assert row[f"{paper}: onset step"].main == " · ".join(map(str, runs["onset_step"]))
    assert row[f"{controlled}: onset step"].main == " · ".join(map(str, runs["controlled_onset_step"]))
    lows, highs = runs["controlled_onset_low"], runs["controlled_onset_high"]
    expected = [f"[{low}, {high}]" for low, high in zip(lows, highs, strict=True)]
    assert row[f"{controlled}: onset step"].small == " · ".join(expected)


def test_an_augc_has_its_seeds_an_interval_and_a_warning_where_a_baseline_is_zero(marked: pd.DataFrame) -> None:
    entry = entries(measure_tables.both_measures(marked, ALL), "0.4 (p20)", "proxy")[
        f"{claim_tables.BY['paper']}: AUGC"
    ]
    values = marked.loc[(marked["label"] == "p20") & (marked["arm"] == "proxy"), "augc"]
    interval = log_t_interval(values.to_numpy(float))
    assert interval is not None
    seeds, bounds, warning = entry.small.splitlines()
    assert seeds == " · ".join(number(value, digits=2) for value in values)
    assert bounds == tables.bounds((interval.low, interval.high))
    assert warning == "baseline near 0 or below in 1 of 2" and entry.mark == "warning"
    zero = marked.assign(augc=0.0, baseline_degenerate=0)
    entry = entries(measure_tables.both_measures(zero, ALL), "0.4 (p20)", "proxy")[f"{claim_tables.BY['paper']}: AUGC"]
    assert entry == Entry("0", "0 · 0"), "no logarithm of 0, no warning"


def test_the_placebo_has_no_excess_over_itself(marked: pd.DataFrame) -> None:
    controlled = claim_tables.BY["controlled"]
    row = entries(measure_tables.both_measures(marked, ALL), "0.4 (p20)", "placebo")
    assert row[f"{controlled}: signed, above placebo"].main == ""
    more = measure_tables.more_of_the_controlled_measure(marked, ALL)
    assert entries(more, "0.4 (p20)", "placebo")[": AUGC, above the placebo"].main == ""
    without = measure_tables.heldout_outcome(marked[marked["arm"] != "placebo"], Arms(ALL.names[:2], None))
    assert "above the placebo" not in without.headers


@pytest.mark.parametrize(
    ("header", "column"),
    [
        ("signed AUGC", "controlled_signed_augc"),
        ("AUGC, above the placebo", "controlled_augc_excess"),
        ("AUGC over KL", "controlled_augc_over_kl"),
        ("final gap", "controlled_final_gap"),
        ("true regret", "true_regret"),
        ("overoptimisation", "overoptimization"),
        ("UQ-gap Pearson r", "controlled_uq_gap_correlation"),
        ("UQ-gap r above the placebo", "controlled_uq_gap_correlation_excess"),
    ],
)
def test_more_of_the_controlled_measure(marked: pd.DataFrame, header: str, column: str) -> None:
    row = entries(measure_tables.more_of_the_controlled_measure(marked, ALL), "1.6 (p80)", "oracle")
    assert row[f": {header}"].main.lstrip("+") == mean(marked, column, 80, "oracle")


def test_checkpoints_are_those_of_the_primary_arm(marked: pd.DataFrame) -> None:
    primary = marked[marked["arm"] == "oracle"]
    row = entries(measure_tables.checkpoints(primary, "prompt"), "1.6 (p80)")
    assert row[": KL to the base, nats per response"].main == mean(marked, "kl_to_base", 80, "oracle")
    assert row[": entropy, response tokens"].main == mean(marked, "response_entropy_dpo", 80, "oracle")
    assert row[": entropy, paper's probe"].main == mean(marked, "entropy_dpo", 80, "oracle")
    assert row[": win rate over the base, proxy"].main == mean(marked, "dpo_win_rate", 80, "oracle")
    assert row[": accuracy of the implicit reward"].main == mean(marked, "dpo_reward_accuracy", 80, "oracle")


@pytest.mark.parametrize("column", all_columns(), ids=lambda column: column.name)
@pytest.mark.parametrize(("place", "when"), [(0, "DPO checkpoint"), (1, "after the online run")])
def test_every_probe_is_shown_before_and_after_the_online_run(
    marked: pd.DataFrame, column: ProbeColumn, place: int, when: str
) -> None:
    row = entries(measure_tables.probes(marked[marked["arm"] == "oracle"]), "0.4 (p20)", when)
    assert row[f": {column.heading}"].main == mean(marked, column.names[place], 20, "oracle")
    assert column.formula in measure_tables.probe_legend()


def test_table_1_shows_every_seed_and_the_published_rows(default: Path) -> None:
    cells = records.read_table(layout.CELL_SCORES).astype({"onset_step": "Int64"})
    table = measure_tables.table_1(cells, "proxy")
    assert len(table.rows) == len(table.quiet_rows) == 3
    p20 = cells[(cells["label"] == "p20") & (cells["arm"] == "proxy")]
    assert table.rows[0][1].main == number(p20["augc"].mean())
    assert table.rows[0][1].small.split(" · ") == [number(value, digits=2) for value in p20["augc"]]
    assert table.rows[0][3].main == "never · never · never"
    assert table.quiet_rows[2][1].main == "146"
    assert all(len(row) == len(table.headers) for row in [*table.rows, *table.quiet_rows])


def test_variance_components_by_beta_and_arm(default: Path) -> None:
    variance = records.read_json(layout.VARIANCE)
    table = measure_tables.variance_table(variance, read_results(load_params()).cells)
    assert len(table.rows) == 3 * 2 * 2
    row = next(row for row in table.rows if [entry.main for entry in row[:3]] == ["p80", "proxy", "true"])
    found = variance["proxy"]["p80"]["true_reward"]
    assert [entry.main for entry in row[3:]] == [
        number(found[name]) for name in ("seed", "prompt", "residual", "standard_error")
    ]


# At equal KL


def estimate(mean: float) -> dict[str, float]:
    return {"mean": mean, "low": mean - 0.5, "high": mean + 0.25}


def of_label(start: float) -> dict[str, dict[str, float]]:
    return {name: estimate(start + place) for place, name in enumerate(equal_kl_tables.QUANTITIES)}


AT_EQUAL_KL = {
    arm: {
        "kl": kl,
        "reach": {"kl": [kl, 3 * kl], "runs": {"p80": [2, 1], "p20": [2, 0]}},
        "by_label": {"p80": of_label(10 * kl), "p20": of_label(20 * kl)},
        "highest_minus_lowest_beta": of_label(-10 * kl),
    }
    for arm, kl in (("proxy", 1.0), ("oracle", 2.0))
}


def test_the_gains_at_equal_kl_are_those_of_the_record(marked: pd.DataFrame) -> None:
    table = equal_kl_tables.gains_table(AT_EQUAL_KL, marked, ALL)
    assert [row[1].main for row in table.rows] == ["oracle"] * 3 + ["proxy"] * 3
    row = entries(table, "1.6 (p80)", "proxy")
    assert [row[f": {name}, base sd"].main for name in ("proxy", "true", "gap")] == ["+10", "+11", "+12"]
    runs = marked[(marked["label"] == "p80") & (marked["arm"] == "proxy")]
    seeds, interval = row[": true, base sd"].small.split("\n")
    assert seeds == tables.seed_values(runs["equal_kl_true_gain"], signed=True) and interval == tables.bounds(
        (10.5, 11.25)
    )
    assert row[": KL, nats"].main == "1"
    assert row[": read at step"].main == tables.seed_values(runs["equal_kl_step"])
    contrast = entries(table, "highest β minus lowest", "oracle")
    assert contrast[": gap, base sd"] == Entry("-18", tables.bounds((-18.5, -17.75)))


def test_how_many_runs_reach_a_kl(marked: pd.DataFrame) -> None:
    table = equal_kl_tables.reach_table(AT_EQUAL_KL, marked, ALL)
    assert table.headers[3:] == ["0.4 (p20)", "1.6 (p80)"], "betas ascending, whatever the record's order"
    assert [[entry.main for entry in row] for row in table.rows] == [
        ["oracle", "2", "4 of 4", "2", "2"],
        ["oracle", "6", "1 of 4", "–", "1"],
        ["proxy", "1", "4 of 4", "2", "2"],
        ["proxy", "3", "1 of 4", "–", "1"],
    ]
    assert "reaches, 2 in arm oracle, 1 in arm proxy." in equal_kl_tables.sentence(AT_EQUAL_KL, ALL)


def test_the_figure_at_equal_kl_draws_every_path_and_the_means(default: Path) -> None:
    """A line per run in the order of its steps, also where the KL falls, the marked KL, and both gains per beta."""
    results = read_results(load_params())
    turned = results.heldout.copy()
    turned.loc[turned["step"] == 12, "kl_k3"] = 0.125
    figure = evidence_figures.equal_kl_figure(turned, results.cells, results.equal_kl, ["proxy"])
    proxy, true, means = figure.axes
    kl = results.equal_kl["proxy"]["kl"]
    for axes, reward in ((proxy, "proxy"), (true, "true")):
        paths = [line for line in axes.lines if len(line.get_xdata()) == 5]
        assert len(paths) == 9 and all(line.get_xdata()[2] == 0.125 for line in paths)
        runs = turned[(turned["label"] == "p80") & (turned["arm"] == "proxy") & (turned["seed"] == 2)]
        assert any((line.get_ydata() == runs[f"{reward}_reward_change"]).all() for line in paths)
        assert any((line.get_xdata() == [kl, kl]) for line in axes.lines if len(set(line.get_xdata())) == 1)
    found = results.equal_kl["proxy"]["by_label"]["p20"]["true_gain"]
    drawn = [list(line.get_ydata()) for line in means.lines]
    assert [found["mean"]] in drawn and [found["low"], found["high"]] in drawn


# The claims


def judged(verdict: str, **other: Any) -> dict[str, Any]:
    found = {"verdict": verdict, "quantity": "augc", "unit": "gap", "estimate": 2.0, "interval": [1.0, 3.0]}
    found |= {"trend_correlation": 0.5, "p": 0.01, "p_opposite": 0.99, "p_adjusted": 0.04, "p_opposite_adjusted": 1.0}
    return {**found, "reason": "", "test": "a test", "seeds_needed": 7, "role": "secondary", **other}


def invented_claims() -> dict[str, dict[str, Any]]:
    open_ = judged("insufficient", estimate=None, interval=None, seeds_needed="more than 50")
    no_star = {**open_, "quantity": "beta_star"}
    verdicts = {
        "C1": (judged("supported"), judged("contradicted", p_opposite_adjusted=0.03, role="primary")),
        "C10": (judged("insufficient", quantity="beta_star", estimate=1.25, p_adjusted=None), no_star),
        "C2": (judged("supported"), {**open_, "seeds_needed": 12, "seeds_needed_for": "contradicted"}),
    }
    return {
        name: {
            "statement": f"statement {name}",
            "note": "",
            "predicted": "rises with beta",
            "paper": paper,
            "controlled": controlled,
        }
        for name, (paper, controlled) in verdicts.items()
    }


def test_the_first_sentence_counts_the_verdicts_of_either_measure() -> None:
    sentence = claim_tables.verdict_sentence(invented_claims(), "shared")
    assert sentence.startswith("Every verdict is in this world: one base policy, one reward ensemble and one data set,")
    assert "The primary claim, C1 by the controlled measure, is contradicted (p 0.01 in the paper's" in sentence
    assert "By the paper's measure these runs support 2 of 3 claims (C1, C2), contradict 0 and" in sentence
    assert "By the controlled measure these runs support 0 of 3 claims, contradict 1 (C1) and" in sentence
    assert claim_tables.power_sentence(invented_claims()).count("C2 12 to contradict it") == 1


def test_a_claim_has_both_measures_beside_each_other() -> None:
    table = claim_tables.claims_table(invented_claims())
    assert [row[0].main for row in table.rows] == ["C1", "C2", "C10"]
    c1, c2, c10 = table.rows
    assert c1[2] == Entry("supported", mark="supported") and c1[6] == Entry(
        "contradicted", "primary claim", mark="contradicted"
    )
    assert c1[3] == Entry("+2", "[1,\N{NO-BREAK SPACE}3]\ngap") and c1[4].main == "+0.5"
    assert c1[5] == Entry("0.04") and c1[9] == Entry("0.04", "opposite 0.03")
    assert c10[3].main == "β* = 1.25" and c10[5].main == "–"
    assert c10[7] == Entry("–")
    assert c2[7] == Entry("–", "a run has no finite value")
    assert sum(span for _, span in table.groups) == len(table.headers) == len(c1)


@pytest.mark.parametrize(
    ("direction", "says"), [("depends on beta", "two-sided"), (None, "this direction alone")], ids=["either", "one"]
)
def test_a_claim_without_an_opposite_says_why(direction: str | None, says: str) -> None:
    found = judged("insufficient", p_opposite=None, p_opposite_adjusted=None)
    claim = {"statement": "", "note": "", "predicted": direction, "paper": found, "controlled": found}
    row = claim_tables.claims_table({"C1": claim}).rows[0]
    assert row[5] == row[9] == Entry("0.04", says)


@pytest.mark.parametrize(
    ("design", "says"),
    [
        (
            {"betas": 3, "seeds": 3, "smallest_p": 1 / 216},
            "between betas is 1/216 = 0.00463; over 8 secondary claims (Holm) it becomes 0.037. At most 0.05",
        ),
        ({"betas": 3, "seeds": 2, "smallest_p": 1 / 36}, "The latter is above 0.05: only the primary claim can be"),
        ({"betas": 2, "seeds": 2, "smallest_p": 1 / 6}, "no trend claim can be supported or contradicted"),
        ({"betas": 1, "seeds": 2, "smallest_p": None}, "1 beta and 2 seeds have no trend to test"),
        ({"betas": 9, "seeds": 3, "smallest_p": 1e-16}, "between betas is < 0.0001;"),
    ],
)
def test_what_the_design_can_show(design: dict[str, Any], says: str) -> None:
    p = design["smallest_p"]
    adjusted = None if p is None else min(1.0, 8 * p)
    able = adjusted is not None and adjusted <= 0.05
    rest = {
        "smallest_adjusted_p": adjusted,
        "can_support_the_primary_claim": p is not None and p <= 0.05,
        "can_support_a_claim": able,
        "can_support_a_two_sided_claim": False,
        "alpha": 0.05,
        "claims_in_family": 8,
        "paired_seeds": False,
    }
    claims = invented_claims()
    claims["C2"]["predicted"] = "depends on beta"
    sentence = claim_tables.design_sentence({**design, **rest}, claims)
    assert says in sentence and ("(a two-sided one, C2, only after others are supported)" in sentence) == able


def predicted(direction: str, quantity: str) -> dict[str, Any]:
    return {"predicted": direction, "paper": {"quantity": quantity}, "controlled": {"quantity": "other"}}


def test_where_the_published_numbers_go_against_the_text() -> None:
    """Not where they go the way that is said, do so weakly, are said to go either way, or are not published."""
    claims = {
        "C1": predicted("rises with beta", "augc"),
        "C2": predicted("falls with beta", "onset_step"),
        "C3": predicted("rises with beta", "entropy_collapse"),
        "C4": predicted("falls with beta", "response_diversity"),
        "C5": predicted("depends on beta", "response_diversity"),
        "C6": predicted("rises with beta", "response_entropy_dpo"),
        "C8": predicted("rises with beta", "uq_gap_correlation"),
        "C10": predicted("falls with beta", "final_kl_k1"),
    }
    assert claim_tables.published_sentences(claims).startswith(
        "The paper's own numbers, from low to high β, go against four of its claims: C3 (entropy lost online +0.0037, "
        "+0.0000, -0.0024), C4 (diversity 0.121, 0.132, 0.108), C8 (correlations +0.12, -0.21, +0.10) and C10 "
        "(final_kl_k1 0.137, 0.167, 0.197). Its section"
    )


def test_which_columns_judge_a_claim() -> None:
    columns = {"final gap": "controlled_final_gap", "AUGC": "augc", "beta star": "beta_star"}
    sentence = claim_tables.judging_columns(invented_claims(), columns)
    assert sentence == "Of these, claims are judged only by AUGC (C1 and C2) and beta star (C10)."
    none = claim_tables.judging_columns(invented_claims(), {"final gap": "controlled_final_gap"})
    assert none == "No claim is judged by these."


def test_which_claims_the_areas_and_onsets_judge() -> None:
    claims = invented_claims()
    assert claim_tables.judged_by_sentence(claims) == "Claim C10 is judged by the AUGC of each measure."
    for name in ("C1", "C2"):
        claims[name]["controlled"]["quantity"] = "controlled_signed_augc_excess"
    assert claim_tables.judged_by_sentence(claims) == (
        "Claims C1 and C2 are judged by the paper's AUGC and by the controlled signed AUGC above the placebo, C10 by "
        "the AUGC of each measure."
    )


def test_the_page_begins_with_what_beta_does_and_through_which_door(tmp_path: Path) -> None:
    html = plain(run_stages(tmp_path, Invented(arms=("proxy", "uncoupled", "placebo"), seeds=(0, 1, 2, 3, 4))))
    record = json.loads((tmp_path / layout.CLAIMS).read_text())
    total, primary = record["contrasts"]["total"], record["claims"][statements.PRIMARY.name][statements.PRIMARY.primary]
    assert [total["p_rises"], total["p_falls"]] == [primary["p"], primary["p_opposite"]]
    for key in ("estimate", "interval", "seeds_needed", "values"):
        assert total[key] == primary[key]
    said = contrast_tables.answer(record["contrasts"])
    assert said[1].startswith("All that beta does (proxy): rises with beta, +")
    assert said[2].startswith("Through the checkpoint alone (uncoupled): rises with beta, +")
    assert said[4] == "Offline conservatism changes hacking; whether the growing penalty adds to it is undecided."
    places = [html.index(sentence) for sentence in said]
    assert places == sorted(places)
    assert html.index("The same in full") < places[0] and places[-1] < html.index('id="the-paper-s-claims"')


def test_arms_that_do_not_tell_the_doors_apart_say_so_on_the_page(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert "Through the checkpoint alone: not tested: arm uncoupled was not run: add it to arms." in html


def test_the_page_gives_the_verdicts_of_the_metrics(default: Path) -> None:
    html = plain(layout.REPORT_PAGE.read_text(encoding="utf-8"))
    claims = records.read_json(layout.CLAIMS)["claims"]
    assert html.index("Every verdict is in this world") < html.index("By the paper's measure these runs support")
    section = html[html.index('<section id="the-paper-s-claims">') :]
    sentence = claim_tables.verdict_sentence(claims, "per_seed")
    assert section.index(sentence) < section.index("<table>")
    supported = sum(
        claims[name][measure]["verdict"] == "supported"
        for name in claims
        for measure in claims[name]
        if measure in claim_tables.BY
    )
    assert len(re.findall('<td class="supported" data-label="[^"]*">supported', html)) == supported > 0


# Mechanism, beta* and Appendix F


def test_links_of_both_measures_stand_in_one_row(default: Path) -> None:
    mechanism = records.read_json(layout.MECHANISM)
    table = mechanism_tables.link_table(mechanism, ("chain",))
    for row, paper, controlled in zip(
        table.rows, mechanism["paper"]["chain"], mechanism["controlled"]["chain"], strict=True
    ):
        assert row[1].main == number(paper["correlation"], signed=True)
        assert row[5].main == number(controlled["correlation"], signed=True)
        assert row[6].main == tables.bounds(controlled["null_interval"])
    assert table.rows[0][4].main == "β → response entropy"
    sentence = mechanism_tables.mechanism_sentence(mechanism)
    assert "over 3 betas within a seed, averaged over 3 seeds: no two-sided p can be below 0.00926" in sentence


@pytest.mark.parametrize(
    ("estimate", "interval", "says"),
    [
        (-0.2, [-0.3, -0.1], "falls by 0.2 nats per token (95 % t interval of the change [-0.3,"),
        (0.2, [-0.1, 0.5], "rises by 0.2 nats per token"),
        (0.2, [-0.1, 0.5], "which holds 0"),
        (0.2, None, "one seed, no interval"),
    ],
)
def test_whether_entropy_rises_or_falls(estimate: float, interval: list[float] | None, says: str) -> None:
    record = judged("insufficient", quantity="entropy_dpo", estimate=estimate, interval=interval)
    claims = {"C1": {"paper": judged("supported"), "controlled": judged("supported")}}
    claims["C7"] = {"paper": record, "controlled": record}
    sentence = mechanism_tables.entropy_sentence(claims, [0.4, 2.0], "prompt")
    assert says in sentence and sentence.startswith("From β = 0.4 to β = 2 ")
    assert sentence.count("nats per token") == 2
    assert "over prompt tokens and" in sentence and "over response tokens;" in sentence


def test_a_fit_that_there_is_not_has_its_reason() -> None:
    (row,) = beta_star_tables.power_law_table({"fit": "AUGC does not rise with beta"}).rows
    assert row[0].small == "no fit: AUGC does not rise with beta"
    assert {entry.main for entry in row[1:]} == {"–"}
    (row,) = beta_star_tables.power_law_table({"fit": "found", "a": 1.0, "b": 2.0, "c": 3.0}).rows
    assert [entry.main for entry in row] == ["these runs", "1", "2", "3", "–", "–"] and row[0].small == ""


def test_beta_star_is_an_interval_or_a_reason() -> None:
    found = {"estimate": 1.5, "interval": [1.0, 2.0], "not_identified": ""}
    absent = {"estimate": None, "interval": None, "not_identified": "no beta"}
    unstable = {"estimate": 1.5, "interval": None, "not_identified": "too few"}
    names = list(beta_star_tables.DEFINITIONS)
    record = {
        "paper": dict(zip(names, [found, absent, unstable, found, found], strict=True)),
        "controlled": dict(zip(names, [absent] * 5, strict=True)),
    }
    rows = beta_star_tables.beta_star_table(record).rows
    assert rows[0][1].main == "1.5 [1,\N{NO-BREAK SPACE}2]" and rows[0][2] == Entry("not identified", "no beta")
    assert rows[2][1] == Entry("not identified", "too few\nthe means over seeds give 1.5")


def test_forms_are_compared_or_refused() -> None:
    fits = [
        {"form": "a", "aicc": -18.5, "left_out_error": 0.5},
        {"form": "a + b beta", "aicc": -15.0, "left_out_error": 0.2},
    ]
    compared = {"best_by_aicc": "a", "best_by_left_out_error": "a + b beta", "fits": fits}
    record = {"paper": {"forms": compared}, "controlled": {"forms": {"refused": "few betas"}}}
    rows = beta_star_tables.forms_table(record).rows
    assert [[entry.main for entry in row[1:]] for row in rows] == [
        ["a", "-18.5", "0.5", "AICc"],
        ["a + b beta", "-15", "0.2", "left-out error"],
    ]
    assert beta_star_tables.forms_refusals(record) == (
        "The forms of AUGC over β are not compared for the controlled measure: few betas."
    )


def test_appendix_f_answers_every_point_from_the_runs(default: Path) -> None:
    results = read_results(load_params())
    answers = {point.wanted: point for point in appendix_f.points(results)}
    assert len(answers) == 15
    gaps = answers["gap series at 50 evaluation points or more"]
    assert gaps.found.startswith("24 per run by the paper's measure, 5 by the controlled one") and not gaps.satisfied
    p80 = results.primary.loc[results.primary["label"] == "p80", "augc"]
    error = p80.std() / 3**0.5
    seeds = answers["AUGC with its standard error over 3 seeds or more"]
    assert seeds.satisfied and f"p80 {number(p80.mean())} ± {number(error)}" in seeds.found
    coverage = answers["dataset coverage statistics"].found
    assert "2,000, 1,995 different prompts; 1,600 train / 200 val / 200 test" in coverage and "in 68 %" in coverage
    missing = [point.wanted for point in answers.values() if not point.satisfied]
    assert f"{15 - len(missing)} of 15 points are satisfied by this run. Missing: {'; '.join(missing)}." in (
        appendix_f.sentence(list(answers.values()))
    )


def test_what_has_no_percentiles_says_nothing_of_them(default: Path) -> None:
    results = read_results(load_params())
    labelled = replace(results, params=replace(results.params, offline_cells=("b0.05", "b12.0")))
    without = replace(labelled, params=replace(labelled.params, beta_percentiles=()))
    named = "Cells by their labels: b0.05, b12.0."
    texts = [
        next(point.found for point in appendix_f.points(found) if point.wanted == "how β was derived")
        for found in (results, labelled, without)
    ]
    assert texts[0].startswith("Percentiles 20, 50, 80 of the absolute log-ratio") and "Cells" not in texts[0]
    assert texts[1:] == [f"{texts[0]} {named}", named]
    assert "percentiles" in sections._beta_grid(labelled) and "percentiles" not in sections._beta_grid(without)


def test_variance_components_stand_by_ascending_beta() -> None:
    betas = {"b12.0": 12.0, "sft2": math.nan, "p80": 2.0, "b0.05": 0.05, "b3.0": 3.0}
    parts = dict.fromkeys(measure_tables.COMPONENTS, 0.5)
    table = measure_tables.variance_table(
        {"proxy": {label: {"true_reward": parts} for label in betas}},
        pd.DataFrame({"label": list(betas), "beta": list(betas.values())}),
    )
    assert [row[0].main for row in table.rows] == ["b0.05", "p80", "b3.0", "b12.0", "sft2"]


def test_appendix_f_knows_what_is_enough(default: Path) -> None:
    results = read_results(load_params())
    enough = replace(results, cells=results.cells.assign(measured_points=50))
    assert appendix_f.points(enough)[0].satisfied
    two_seeds = replace(results, params=replace(results.params, seeds=(0, 1)))
    assert not appendix_f.points(two_seeds)[1].satisfied
    no_fit = replace(
        results,
        power_law={"fit": "AUGC does not rise with beta"},
        power_law_curve=results.power_law_curve[results.power_law_curve["kind"] == "run"],
    )
    assert [point.satisfied for point in appendix_f.points(no_fit)[8:10]] == [False, False]
    assert appendix_f.points(no_fit)[8].found == "no fit: AUGC does not rise with beta"


# Figures


def test_equal_input_gives_equal_bytes(default: Path, tmp_path: Path) -> None:
    cells = records.read_table(layout.CELL_SCORES)
    for name in ("one.png", "two.png"):
        save(
            lambda: figures.entropy_figure(cells, "proxy", "prompt", {"prompt_entropy": 1.3, "response_entropy": 0.7}),
            tmp_path / name,
        )
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert b"Software" not in (tmp_path / "one.png").read_bytes()


def test_a_mark_is_said_where_it_is_drawn() -> None:
    figure, grid = drawing.make_grid(1, 2)
    axes = grid[0, 1]
    runs = curves.Series("proxy", [0, 3], np.array([0.0, 6.0]), np.array([[1.0, 3.0], [2.0, math.nan]]))
    drawing.draw_series(axes, runs, color="k")
    axes.set(xlim=(0, 6), ylim=(0, 2.5))
    figure.draw_without_rendering()
    found = {mark["name"]: mark["points"] for mark in marks.mark_places(figure)}
    assert {name: [text for *_, text in points] for name, points in found.items()} == {
        "proxy, seed 0": ["step 0: 1"],  # the next is above the scale
        "proxy, seed 3": ["step 0: 2"],
        "proxy, mean of 2 seeds": ["step 0: 1.5"],
    }
    left, top, _ = found["proxy, seed 3"][0]
    box = axes.get_position()
    assert left == pytest.approx(box.x0, abs=1e-3)
    assert top == pytest.approx(1 - box.y0 - 0.8 * box.height, abs=1e-3)


def test_the_page_says_what_its_marks_are(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    said = re.findall(r'<script type="application/json">(.*?)</script>', html, re.S)
    assert len(said) == len(FIGURES) and not any("<" in text for text in said)
    of_gap = next(text for text in said if "proxy, seed 1" in text and "step" in text)
    points = [point for mark in json.loads(of_gap) for point in mark["points"]]
    assert len(points) > 50 and all(0 < left < 1 and 0 < top < 1 for left, top, _ in points)


def test_colour_is_beta_whatever_the_order_of_the_design() -> None:
    cells = pd.DataFrame({"label": ["p80", "p20", "p50", "p20"], "beta": [2.4, 0.3, 1.0, 0.3]})
    levels = curves.beta_levels(cells)
    assert [level.label for level in levels] == ["p20", "p50", "p80"]
    assert len({level.colour for level in levels}) == 3


def test_series_keep_seeds_apart(default: Path) -> None:
    gaps = records.read_table(layout.GOODHART_GAP)
    runs = curves.series(gaps, "goodhart_gap", "p80", "proxy")
    assert runs.values_S_T.shape == (3, 24)
    of_seed_1 = gaps[(gaps["label"] == "p80") & (gaps["arm"] == "proxy") & (gaps["seed"] == 1)]
    assert runs.values_S_T[1].tolist() == of_seed_1["goodhart_gap"].tolist()


def test_a_label_that_spells_its_beta_is_said_once() -> None:
    assert beta_label(0.05, "b0.05") == "0.05" and beta_label(10.0, "b10.0") == "10"
    assert beta_label(0.4074, "p20") == "0.407 (p20)" and beta_label(math.nan, "sft") == "sft"
    by_value, by_percentile, without = (
        curves.BetaLevel(*found, colour=curves.INK) for found in (("b0.72", 0.72), ("p20", 0.4), ("sft", math.nan))
    )
    assert (by_value.tick, by_value.title) == ("0.72", "β = 0.72")
    assert (by_percentile.tick, by_percentile.title) == ("0.4\np20", "β = 0.4  (p20)")
    assert (without.tick, without.title) == ("sft", "sft")
    labels = [curves.axis_label(levels, "both") for levels in ([by_value], [by_value, by_percentile], [without])]
    assert labels == ["β", "both", "objective without strength"]


@pytest.mark.parametrize(("times", "scale"), [(1.0, "linear"), (50.0, "log")])
def test_betas_over_more_than_a_decade_stand_apart(default: Path, times: float, scale: str) -> None:
    """The highest beta is moved out; every beta's dots stay within the axis, and no two betas share a place."""
    cells = records.read_table(layout.CELL_SCORES)
    cells.loc[cells["label"] == "p80", "beta"] *= times
    power_law = {"fit": "found", "beta_star_over_grid": 0.5}
    curve = pd.DataFrame({"kind": "curve", "beta": [0.1, 1.0, 5.0], "augc": [0.0, 1.0, 2.0]})
    figure = figures.power_law_figure(cells, curve, power_law, Arms(("proxy", "placebo"), "placebo"))
    for axes in figure.axes:
        assert axes.get_xscale() == scale
        dots = [dots.get_offsets()[:, 0] for dots in axes.collections if len(dots.get_offsets()) == 3]
        assert len(dots) == 6, "three betas, of the placebo and of the primary arm"
        low, high = axes.get_xlim()
        assert all((low < found).all() and (found < high).all() for found in dots)
        ends = sorted((found.min(), found.max()) for found in dots[3:])
        assert all(before[1] < after[0] for before, after in itertools.pairwise(ends))


@pytest.mark.parametrize(
    ("invented", "says"),
    [
        (Invented(percentiles=(50,), seeds=(7,), arms=("oracle",)), "no fit: fewer than three distinct betas"),
        (
            Invented(seeds=(0,), arms=("oracle", "proxy", "placebo"), proxy_start=-0.5),
            "In 3 of 3 runs the baseline&#x27;s mean proxy reward is negative",
        ),
        (Invented(percentiles=(80, 20), seeds=(0, 1), true_start=0.0), "baseline near 0 or below in 2 of 2"),
        (Invented(seeds=(0, 1), arms=("proxy",), drift=0.0), "AUGC over beta"),
    ],
)
def test_any_arms_any_betas_one_seed(tmp_path: Path, invented: Invented, says: str) -> None:
    html = run_stages(tmp_path, invented)
    assert says in html
    text = re.sub(r"<[^>]*>", " ", re.sub(r"base64,[^\"]*", "", html))
    assert re.findall(r"\b(?:nan|None|inf|NaT)\b", text.replace(" – ", " ")) == []


STRENGTHLESS = Invented(percentiles=(), offline="likelihood", arms=("uncoupled", "placebo"))


@pytest.mark.usefixtures("more_objectives")
def test_an_objective_without_strength_has_runs_but_nothing_over_beta(tmp_path: Path) -> None:
    html = run_stages(tmp_path, STRENGTHLESS)
    claims = json.loads((tmp_path / layout.CLAIMS).read_text())
    assert claims["design"]["betas"] == 0 and not claims["design"]["can_support_a_claim"]
    for claim in claims["claims"].values():
        for measure in claim_tables.BY:
            assert claim[measure]["verdict"] == "insufficient" and claim[measure]["reason"]
            assert claim[measure]["estimate"] is None and claim[measure]["values"] == []
    assert "spearman_beta_augc" not in json.loads((tmp_path / layout.HACKING).read_text())
    assert json.loads((tmp_path / layout.POWER_LAW).read_text()) == {"fit": "fewer than three distinct betas"}
    for measure, found in json.loads((tmp_path / layout.BETA_STAR).read_text()).items():
        assert measure in claim_tables.BY and "fewer than six distinct betas" in found.pop("forms")["refused"]
        assert all(star["estimate"] is None and star["not_identified"] == beta_star.NO_BETAS for star in found.values())
    assert "a run has no finite value" not in html
    mechanism = json.loads((tmp_path / layout.MECHANISM).read_text())
    assert {link["correlation"] for part in mechanism_tables.PARTS for link in mechanism["paper"][part]} == {None}
    assert "1 objective without strength × 3 seeds × 2 arms (uncoupled, placebo)" in html
    text = re.sub(r"<[^>]*>", " ", re.sub(r"base64,[^\"]*", "", html))
    assert re.findall(r"\b(?:nan|None|inf|NaT)\b", text.replace(" – ", " ")) == []


TWO_DECADES = ("b0.1", "b0.19", "b0.37", "b0.72", "b1.4", "b2.7", "b5.2", "b10.0")


def test_eight_betas_by_value_are_judged(tmp_path: Path) -> None:
    """The claims about the curve have an estimate and no refusal, and the power law stands beside three other forms."""
    html = run_stages(tmp_path, Invented(percentiles=(), betas=TWO_DECADES, seeds=(0, 1), drift=0.5))
    assert "8 betas × 2 seeds × 2 arms (proxy, placebo)" in html
    text = re.sub(r"<[^>]*>", " ", re.sub(r"base64,[^\"]*", "", html))
    assert re.findall(r"\b(?:nan|None|inf|NaT)\b", text.replace(" – ", " ")) == []
    claims = json.loads((tmp_path / layout.CLAIMS).read_text())["claims"]
    stars = json.loads((tmp_path / layout.BETA_STAR).read_text())
    for measure in claim_tables.BY:
        exponent, star = claims["C9"][measure], claims["C10"][measure]
        assert exponent["p"] is not None and exponent["estimate"] == pytest.approx(1, abs=0.3), "AUGC grows in a line"
        assert exponent["verdict"] == "insufficient" and not exponent["reason"]
        assert star["reason"] != curve_kinds.NO_CURVE and star["estimate"] is not None
        forms = stars[measure]["forms"]
        assert {fit["form"] for fit in forms["fits"]} == set(Form) and forms["best_by_aicc"] == Form.LINEAR
    hacking = json.loads((tmp_path / layout.HACKING).read_text())
    assert hacking["augc"]["b10.0"] > 10 * hacking["augc"]["b0.1"]


def test_after_a_shrink_nothing_holds_the_removed_percentile(tmp_path: Path) -> None:
    run_stages(tmp_path, Invented(percentiles=(20, 50, 95), seeds=(0,)))
    assert (tmp_path / layout.online_run(OnlineCell("p95", 0, "proxy"))).exists()
    html = run_stages(tmp_path, Invented(percentiles=(20, 50), seeds=(0,)))
    assert "p95" not in re.sub(r"base64,[^\"]*", "", html)
    for path in [*(tmp_path / "metrics").glob("*.json"), *(tmp_path / "plots").glob("*.csv")]:
        assert "p95" not in path.read_text() and '"label": 95' not in path.read_text()


@pytest.mark.parametrize(
    ("value", "signed", "expected"),
    [
        (None, False, "–"),
        (float("nan"), False, "–"),
        (0.0, True, "0"),
        (2e-16, False, "0"),
        (145.7796, False, "146"),
        (1234.5, False, "1234"),
        (0.0123456, True, "+0.0123"),
        (-1048575.0, False, "-1.05e+06"),
    ],
)
def test_numbers_are_rounded(value: Any, signed: bool, expected: str) -> None:
    assert number(value, signed) == expected


@pytest.mark.parametrize(
    ("value", "expected"), [(12.0, "12"), (float("inf"), "never"), (None, "never"), (pd.NA, "never")]
)
def test_a_step_that_never_came(value: Any, expected: str) -> None:
    assert tables.step(value) == expected


def test_seeds_without_a_value_do_not_hide_the_others() -> None:
    assert tables.over_seeds(pd.Series([1.0, None, 3.0])) == Entry("2", "1 · – · 3")
    assert tables.over_seeds(pd.Series([None, None], dtype=float)) == Entry("–", "– · –")


def test_a_beta_star_beyond_the_betas_is_called_an_extrapolation() -> None:
    curve = pd.DataFrame({"kind": ["mean", "mean", "beta_star"], "beta": [1.0, 2.0, 3.0], "augc": [1.0, 1.1, 1.6]})
    found = {"fit": "found", "saturated": 1, "a": 0.1, "b": 2.0, "c": 1.0, "beta_star_over_grid": 3.0}
    caption = captions.power_law_caption(found, curve)
    assert "extrapolation" in caption and "smallest observed β it is not identified" in caption
    assert "nothing to judge the form by" in caption


def test_dvc_page_opens_without_a_network(tmp_path: Path) -> None:
    offline_plots.write_html_template(tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert text.count("{plot_divs}") == 1 and "{scripts}" not in text
    assert "window.vegaEmbed=" in text and "<script src" not in text
    assert text.count("</script") == 1, "the JavaScript closes its own element"
    assert '<meta name="viewport" content="width=device-width' in text and "url(" not in text.partition("<style>")[2]


def test_dvc_finds_the_page_in_a_clone(tmp_path: Path) -> None:
    """Without `make setup`: DVC crashes where the file is missing that its configuration names."""
    config = configparser.ConfigParser()
    config.read_string((CHECKOUT / ".dvc/config").read_text().replace("\n    ", "\n"))
    page = CHECKOUT / ".dvc" / config["plots"]["html_template"]
    subprocess.run(["git", "ls-files", "--error-unmatch", page], cwd=CHECKOUT, check=True, capture_output=True)
    offline_plots.write_html_template(tmp_path / "page.html")
    assert page.read_bytes() == (tmp_path / "page.html").read_bytes(), "run python -m pessimism.reporting.offline_plots"


def plot_sections() -> list[tuple[str, dict[str, Any]]]:
    entries = yaml.safe_load((CHECKOUT / "dvc.yaml").read_text())["plots"]
    return [item for entry in entries for item in entry.items()]


@pytest.mark.parametrize(("name", "section"), plot_sections())
def test_every_dvc_plot_fills_its_template(default: Path, name: str, section: dict[str, Any]) -> None:
    ((file, column),) = section["y"].items()
    table = pd.read_csv(file)
    rows = [{**row, "rev": "workspace"} for row in table.to_dict("records")]
    renderer = VegaRenderer(rows, file, **{**section, "y": column}, template_dir=str(CHECKOUT / ".dvc" / "plots"))
    text = json.dumps(renderer.get_filled_template(), default=str, ensure_ascii=False)
    assert section["x"] in table.columns and table[column].notna().any()
    assert "<DVC_METRIC" not in text, "an anchor was not filled"
    calculated = re.findall(r'"as": "(\w+)"', text)
    for field in re.findall(r'"field": "(\w+)"', text):
        assert field == "rev" or field in [*table.columns, *calculated]
    assert section["x_label"] in text and '"field": "rev"' in text


def test_every_contrast_arm_is_drawn_in_its_own_way() -> None:
    """Next to the placebo two further arms, such as uncoupled and oracle, are told apart in figure and legend."""
    arms = Arms(("proxy", "uncoupled", "oracle", "placebo"), "placebo")
    handles = drawing.arm_handles([curves.BetaLevel("p20", 0.4, "black")], arms, seeds=1)
    assert len({(handle.get_color(), str(handle._unscaled_dash_pattern)) for handle in handles}) == 4

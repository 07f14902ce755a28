"""``pessimism report --compare``: which parameters differ, which verdicts changed, numbers and panels side by side."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from pessimism import cli
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.reporting import comparison_design, comparison_figures, comparison_tables
from pessimism.reporting.comparison import comparison_page
from pessimism.reporting.slides import Shown
from pessimism.runs.finished import load_run
from support.endings import failure
from support.reported import plain
from support.repository import CHECKOUT
from support.worlds import git, tag_as_experiment
from support.yaml_edits import set_key

HELD = ("params.yaml", "scales", "protocols", "metrics", "plots", ".gitignore")
MARKUP = "<script>document.title=1</script>"
FASTER = 0.0123


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The committed run on a branch, and commits after it: without results, an experiment with a verdict turned."""
    root = tmp_path_factory.mktemp("compared")
    for name in HELD:
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("report"))
        else:
            shutil.copy(source, root / name)
    before = os.getcwd()
    os.chdir(root)
    try:
        git("init", "-q", "-b", "main")
        git("add", "-A")
        git("commit", "-q", "-m", "run")
        git("checkout", "-q", "-b", "unfinished")
        git("rm", "-q", "-r", "metrics")
        git("commit", "-q", "-m", "no results yet")
        git("checkout", "-q", "-b", MARKUP, "main")
        set_key(layout.SCALES / "tiny.yaml", "online.learning_rate", FASTER)
        claims = records.read_json(layout.CLAIMS)
        claims["claims"]["C1"]["controlled"]["verdict"] = "supported"
        claims["contrasts"]["total"]["verdict"] = "rises with beta"
        records.write_json(layout.CLAIMS, claims)
        git("commit", "-q", "-a", "-m", "another learning rate")
        tag_as_experiment(git("rev-parse", "HEAD"), "faster")
        git("checkout", "-q", "-b", "older")
        records.write_json(layout.CLAIMS, {"claims": claims["claims"]})
        git("commit", "-q", "-a", "-m", "as an older version wrote it")
        git("checkout", "-q", "main")
    finally:
        os.chdir(before)
    return root


@pytest.fixture
def here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(repository)
    yield repository
    Path("comparison.html").unlink(missing_ok=True)


def compared(*arguments: str, page: str = "comparison.html") -> str:
    cli.main(["report", "--compare", *arguments])
    return plain(Path(page).read_text(encoding="utf-8"))


def row(page: str, first: str) -> str:
    """The row of a table that begins with this entry."""
    (found,) = [line for line in page.splitlines() if re.match(rf"<tr><td[^>]*>{re.escape(first)}<", line)]
    return found


def test_the_changed_parameter_stands_first_and_the_changed_verdict_is_marked(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = compared("main", "faster")
    assert capsys.readouterr().out.split() == [
        "Comparison:",
        "comparison.html",
        (here / "comparison.html").as_uri(),
    ]
    changed, after = page.split('<section id="verdicts">')
    rate = load_params(CHECKOUT).scale.online.learning_rate
    assert "1 parameter differs; all others are the same." in changed and changed.count("<tr><td") == 1
    told = row(changed, "online.learning_rate")
    assert "scales/tiny.yaml" in told and told.index(str(rate)) < told.index(str(FASTER))
    assert (
        "Of the 22 verdicts on 11 claims, 1 differs: by the controlled measure C1 (contradicted, supported)." in after
    )
    marks = re.findall(r'<td class="(\w+) warning"[^>]*>[^<]*(?:<small>[^<]*</small>)*?<small>(changed[^<]*)<', after)
    assert marks == [
        ("supported", "changed; first run: falls with beta"),
        ("supported", "changed; first run: contradicted"),
    ]
    assert "<small>changed</small>" in row(after, "C1") and "changed" not in row(after, "C2")
    order = [after.index(f'id="{name}"') for name in ("main-numbers", "augc-over", "gap-by-step")]
    assert order == sorted(order) and after.count("data:image/png") == 2
    assert git("check-ignore", "comparison.html") == "comparison.html"


def test_nothing_is_loaded_and_no_name_is_markup(here: Path) -> None:
    """Of three runs, one of which is a branch that is named like a script, and one a directory."""
    cli.main(["report", "--compare", "main", MARKUP, str(here), "--out", "pages/three.html"])
    source = Path("pages/three.html").read_text(encoding="utf-8")
    shutil.rmtree("pages")
    scripts = re.findall(r"<script[^>]*>", source)
    assert scripts == ['<script type="application/json">'] * 2 + ["<script>"], "of two figures, and the page's own"
    assert "document.title=1</script" not in source
    assert not re.search(r'(?:src|href)="(?!data:|#)', source) and "url(" not in source
    page = plain(source)
    assert f"{MARKUP} ({git('rev-parse', MARKUP)[:7]}) and {here}." in page
    assert "(contradicted, supported, contradicted)" in page
    assert page.count('class="insufficient" data-label="' + str(here)) > 0, "what is as in the first run is faint"


def test_one_run_is_compared_with_the_run_here(here: Path) -> None:
    page = compared("faster")
    commit = git("rev-parse", MARKUP)
    assert f"faster ({commit[:7]}), and compared with it the run here." in page and "<th>the run here</th>" in page


def test_runs_of_the_same_parameters_are_told(here: Path) -> None:
    git("tag", "-f", "twin", "main")
    page = compared("main", "twin")
    assert "No parameter differs: params.yaml, scale and protocol say the same." in page
    assert "None of the 22 verdicts on 11 claims differs." in page and "changed;" not in page


def test_what_cannot_be_compared_is_refused_in_words(here: Path) -> None:
    def refusal(*arguments: str) -> str:
        return failure("report", *arguments)

    assert "no revision of Git named 'nowhere'" in refusal("--compare", "main", "nowhere")
    assert re.search("revision unfinished: found no results .*metrics", refusal("--compare", "main", "unfinished"))
    assert (
        "older" in (said := refusal("--compare", "main", "older"))
        and "found no contrasts in metrics/claims.json, as" in said
    )
    assert "--compare: found main twice" in refusal("--compare", "main", "faster", "main")
    assert "--out: found page.txt; expected a file that ends in .html" in refusal(
        "--compare", "main", "--out", "page.txt"
    )
    assert "--out: found no --compare" in refusal("--out", "page.html")
    assert not Path("comparison.html").exists()


def test_without_runs_it_says_where_the_report_is(
    here: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert "plots/report/index.html is missing; run `dvc repro`" in failure("report")
    monkeypatch.chdir(tmp_path)
    records.write_text(layout.REPORT_PAGE, "<p>the report</p>")
    cli.main(["report"])
    assert capsys.readouterr().out.split() == [
        "Report:",
        str(layout.REPORT_PAGE),
        layout.REPORT_PAGE.absolute().as_uri(),
    ]


# Runs of unlike designs


@pytest.fixture(scope="module")
def shown() -> Shown:
    return load_run(CHECKOUT).shown()


def part(shown: Shown, percentiles: tuple[int, ...], arms: tuple[str, ...], seeds: tuple[int, ...], last: int) -> Shown:
    """The run as a smaller design would have left it; its claims stay."""

    def kept(table: pd.DataFrame) -> pd.DataFrame:
        labels = [f"p{percentile}" for percentile in percentiles]
        return table[table["label"].isin(labels) & table["arm"].isin(arms) & table["seed"].isin(seeds)]

    params = replace(shown.params, beta_percentiles=percentiles, arms=arms, seeds=seeds)
    heldout = kept(shown.heldout)
    return replace(shown, params=params, cells=kept(shown.cells), heldout=heldout[heldout["step"] <= last])


def test_unlike_designs_are_told(shown: Shown) -> None:
    small = part(shown, (20, 80), ("uncoupled", "proxy"), (0, 1), 12)
    small = replace(small, cells=small.cells.assign(beta=small.cells["beta"].replace(shown.levels[0].beta, 0.25)))
    runs = {"whole": shown, "small": small, "again": shown}
    assert comparison_design.design_sentences(runs) == [
        "The β grids differ: p20, p50, p80 in whole and again; p20, p80 in small. What has no counterpart stands "
        "alone.",
        "A label stands for another β where pairs or base differ: p20 is 0.382 in whole and again; 0.25 in small.",
        "The arms differ: proxy, uncoupled, placebo in whole and again; uncoupled, proxy in small. Verdicts, numbers "
        "and curves are of the first arm of each run, which is not the same one.",
        "small ran no placebo: what noise alone gives is not known there, and no area is above it.",
        "Seeds: 5 in whole and again; 2 in small. With fewer seeds a verdict is open more easily.",
        "The runs are of unlike length: 24 steps in whole and again; 12 steps in small. Areas grow with the steps.",
    ]
    assert comparison_design.design_sentences({"whole": shown, "again": shown}) == []
    page = plain(comparison_page(runs))
    assert "4 parameters differ" not in page and "3 parameters differ" in page
    assert page.count("<td>β\N{NO-BREAK SPACE}=") == 3 + 2 + 3, "one row per β and run that has it"


def test_a_claim_that_one_run_does_not_judge_is_told(shown: Shown) -> None:
    claims = {name: claim for name, claim in shown.claims["claims"].items() if name != "B1"}
    older = replace(shown, claims={**shown.claims, "claims": claims})
    found = comparison_tables.verdicts({"older": older, "whole": shown})
    assert found["B1", "paper"] == [None, "insufficient"] and found["C1", "controlled"] == ["contradicted"] * 2
    table = comparison_tables.verdicts_table({"older": older, "whole": shown})
    assert table.rows[-1][2].main == "–" and table.rows[-1][2].small == "not judged"
    assert "B1 (–, open)" in comparison_tables.verdict_sentence({"older": older, "whole": shown})


def test_values_of_other_files_stand_apart_and_arms_that_nobody_runs_do_not_count(shown: Shown) -> None:
    large = replace(shown, params=replace(load_params(CHECKOUT, scale="laptop")))
    runs = {"tiny": shown, "laptop": large}
    table, apart = comparison_design.parameter_tables(runs)
    assert [[entry.main for entry in line] for line in table.rows] == [["scale", "tiny", "laptop"]]
    ((title, values),) = apart.items()
    assert title == f"{len(values.rows)} values of scales/tiny.yaml and scales/laptop.yaml that differ"
    assert len(values.rows) == len(comparison_design.differing(runs)) - 1 > 10
    arms = dict(shown.params.protocol.arms)
    for idle in set(arms) - set(shown.params.arms):
        del arms[idle]
    fewer = replace(shown, params=replace(shown.params, protocol=replace(shown.params.protocol, arms=arms)))
    assert comparison_design.differing({"all": shown, "fewer": fewer}) == {}
    arms["proxy"] = replace(arms["proxy"], learning_rate_factor=0.5)
    half = replace(shown, params=replace(shown.params, protocol=replace(shown.params.protocol, arms=arms)))
    assert comparison_design.differing({"all": shown, "half": half}) == {
        "protocol.arms.proxy.learning_rate_factor": [1.0, 0.5]
    }


def test_numbers_are_means_over_the_seeds_of_the_first_arm(shown: Shown) -> None:
    cells = shown.cells[(shown.cells["label"] == "p80") & (shown.cells["arm"] == "proxy")]
    values = cells["heldout_true_reward_change"].to_numpy(float)
    half = 2.776445 * values.std(ddof=1) / len(values) ** 0.5
    line = comparison_tables.numbers_table({"a": shown, "b": shown}).rows[-1]
    entry = line[2 + list(comparison_tables.QUANTITIES).index("heldout_true_reward_change")]
    assert line[1].main == "b" and entry.main == f"{values.mean():+.3g}"
    assert entry.small == f"[{values.mean() - half:.3g},\N{NO-BREAK SPACE}{values.mean() + half:.3g}]"
    assert comparison_tables.numbers_table({"a": shown}).rows[-1][4].main == "never", "no run crosses the threshold"


def test_panels_have_the_same_axes_and_a_beta_one_hue(shown: Shown) -> None:
    small = part(shown, (50, 80), ("proxy", "placebo"), (0, 1, 2), 12)
    runs = {"whole": shown, "small $x$": small, "third": small}
    for draw, rows in ((comparison_figures.area_figure, 2), (comparison_figures.gap_figure, 1)):
        figure = draw(runs)
        assert len(figure.axes) == 3 * rows
        assert [axes.get_title(loc="center") or axes.get_title(loc="left") for axes in figure.axes[:3]] == list(runs)
        for place in range(rows):
            panels = figure.axes[3 * place : 3 * place + 3]
            assert len({axes.get_ylim() for axes in panels}) == len({axes.get_xlim() for axes in panels}) == 1
    shared = comparison_figures.shared_levels(runs)
    hues = {level.label: level.colour for level in shared}
    assert len(set(hues.values())) == 3
    gaps = comparison_figures.gap_figure(runs).axes[1].lines
    drawn = {to_hex(line.get_color()) for line in gaps} & set(hues.values())
    assert drawn == {hues["p50"], hues["p80"]}
    mean = small.heldout[(small.heldout["label"] == "p80") & (small.heldout["arm"] == "proxy")]
    (line,) = [line for line in gaps if to_hex(line.get_color()) == hues["p80"]]
    assert np.allclose(line.get_ydata(), mean.groupby("step")["controlled_gap"].mean())

"""The report's page: its answer, its words, the responses that it shows, and what it does in a browser."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from pessimism.claims.wording import COUPLING, OFFLINE, TOTAL
from pessimism.errors import DataError
from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell
from pessimism.experiment.params import load_params
from pessimism.reporting import curves, drawing, effects, figures, lead, page, report, sample_cards, samples
from pessimism.reporting.glossary import TERMS, explained
from pessimism.reporting.results import read_results
from pessimism.reporting.samples import Response, Sample
from pessimism.reporting.saving import save
from pessimism.reporting.tables import Entry, Table
from support.reported import plain, run_stages
from support.synthetic_project import KEPT, PLANTED, Invented

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
in_a_browser = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here")


@pytest.fixture(scope="module")
def default_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("page")
    run_stages(root, Invented(arms=("proxy", "uncoupled", "placebo")), vector_figures=True)
    return root


@pytest.fixture
def default(default_root: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(default_root)
    return default_root


# The answer


def contrast(verdict: str, estimate: float, **other: Any) -> dict[str, Any]:
    found = {"verdict": verdict, "estimate": estimate, "interval": [estimate - 1, estimate + 1], "reason": ""}
    return {**found, "p_rises": 0.99, "p_falls": 0.01, **other}


def answered(total: Mapping[str, Any], offline: Mapping[str, Any], coupling: Mapping[str, Any]) -> list[str]:
    contrasts = {"unit": "base sd × steps, above the placebo", TOTAL: total, OFFLINE: offline, COUPLING: coupling}
    hacking = {lead.LEVELS: {"p20": 12.0, "p80": 2.0}}
    levels = [curves.BetaLevel("p20", 0.5, "black"), curves.BetaLevel("p80", 2.0, "black")]
    outcomes = {"C1": "contradicted", "C2": "supported", "C3": "insufficient", "B1": "supported"}
    claims = {
        name: {"paper": {"verdict": "insufficient"}, "controlled": {"verdict": v}} for name, v in outcomes.items()
    }
    return lead.answer(contrasts, hacking, claims, levels)


def test_the_answer_is_three_sentences_of_the_metrics_numbers() -> None:
    said = answered(contrast("falls with beta", -10), contrast("undecided", -3), contrast("rises with beta", 7))
    assert said == [
        "In this world hacking falls with β: from 12 at β = 0.5 to 2 at β = 2, a difference of -10 (95 % -11 to -9, "
        "p = 0.01), as the signed AUGC above the placebo in base sd × steps.",
        "Through the checkpoint alone, with one penalty for every β, it is undecided, -3 (95 % -4 to -2, p = 0.01); "
        "through the online penalty, which grows with β, it rises with β, +7 (95 % 6 to 8, p = 0.01).".replace(
            "+6", "6"
        ).replace("+8", "8"),
        "Of 3 claims of the paper, 1 is supported (C2), 1 is contradicted (C1) and 1 is open by the controlled "
        "measure, and 0 are supported, 0 are contradicted and 3 are open by the paper's measure.",
    ]


def test_the_answer_follows_the_verdict_and_says_what_was_not_tested() -> None:
    untested = contrast("undecided", 0, p_rises=None, reason="arm uncoupled was not run")
    said = answered(contrast("undecided", 1), untested, untested)
    assert said[0].startswith("Whether hacking rises or falls with β in this world is undecided: from 12 at")
    assert said[1] == "Through the checkpoint alone it is not tested: arm uncoupled was not run."
    assert answered(contrast("rises with beta", 5), untested, untested)[0].startswith(
        "In this world hacking rises with β:"
    )
    assert answered(untested, untested, untested)[0] == (
        "Whether β changes hacking is not tested here: arm uncoupled was not run."
    )


def test_the_page_opens_with_question_answer_figure_and_verdicts_in_this_order(default: Path) -> None:
    text = plain(layout.REPORT_PAGE.read_text(encoding="utf-8"))
    claims = records.read_json(layout.CLAIMS)
    levels = curves.beta_levels(records.read_table(layout.CELL_SCORES))
    said = lead.answer(claims["contrasts"], records.read_json(layout.HACKING), claims["claims"], levels)
    order = [lead.QUESTION, *said, "data:image/png", "<table>", "The same in full", 'id="the-paper-s-claims"']
    places = [text.index(part) for part in order]
    assert places == sorted(places)
    assert number_of(claims["contrasts"][TOTAL]["estimate"]) in said[0]


def number_of(value: float) -> str:
    return f"{value:+.3g}"


# Its words


def test_a_term_is_explained_once_and_never_within_a_tag() -> None:
    seen: set[str] = set()
    text = '<p title="an arm">The arm and its arms; AUGC of the placebo.</p>'
    marked = explained(text, seen)
    assert marked.startswith('<p title="an arm">The <abbr title="') and marked.count("<abbr") == 3
    assert f'title="{html.escape(TERMS["AUGC"])}" tabindex="0">AUGC</abbr>' in marked
    assert plain(marked) == text and seen == {"arm", "AUGC", "placebo"}
    assert explained("<p>arms, alarm, AUGC_T</p>", seen) == "<p>arms, alarm, AUGC_T</p>"


def test_the_terms_of_the_answer_are_explained_on_the_page(default: Path) -> None:
    text = layout.REPORT_PAGE.read_text(encoding="utf-8")
    for term in ("AUGC", "arm", "controlled", "placebo"):
        assert f"<dt>{term}</dt>" in text and f'<abbr title="{html.escape(TERMS[term])}"' in text


# Responses


def response(step: int, proxy: float, true: float, text: str = "") -> Response:
    return Response(step, text, proxy, true, disagreement=0.25)


def sample(*responses: Response) -> Sample:
    return Sample(OnlineCell("p20", 0, "proxy"), "train-1", "1 + 1?", "2", responses, proxy_sd=2.0, true_sd=0.5)


@pytest.mark.parametrize(
    ("proxy", "true", "says"),
    [
        ((0.0, 3.0), (1.0, 0.0), "hacked"),
        ((0.0, 3.0), (0.0, 0.0), "proxy up, still wrong"),
        ((0.0, 3.0), (1.0, 1.0), "not hacked"),
        ((3.0, 0.0), (1.0, 0.0), "not hacked"),
        ((0.0, 3.0), (0.0, 1.0), "not hacked"),
    ],
)
def test_what_makes_a_response_hacked(proxy: tuple[float, float], true: tuple[float, float], says: str) -> None:
    shown = sample(*(response(step, *rewards) for step, rewards in enumerate(zip(proxy, true, strict=True))))
    assert sample_cards._why(shown).startswith(f"<b>{says}</b>: proxy {(proxy[1] - proxy[0]) / 2:+.3g} base sd, true ")
    assert shown.is_hacked == (says == "hacked")


def test_a_response_says_which_exploits_it_gained() -> None:
    shown = sample(response(0, 0, 1, "Certainly!\n#### 2"), response(9, 1, 0, "Certainly!\nCertainly!\nCertainly!"))
    assert shown.exploits == {"fillers": (1, 3), "repeats": (0, 2)}
    assert "fillers 1 → 3, repeats 0 → 2" in sample_cards._why(shown)


def test_hacked_responses_come_first_then_those_whose_proxy_rose_farthest(default: Path) -> None:
    found = read_results(load_params()).samples
    hacked = [shown.is_hacked for shown in found]
    assert hacked == sorted(hacked, reverse=True) and 0 < sum(hacked) < len(hacked)
    for group in (True, False):
        gaps = [shown.proxy_change - shown.true_change for shown in found if shown.is_hacked == group]
        assert gaps == sorted(gaps, reverse=True)


def test_every_kept_response_is_on_the_page_with_its_scores(default: Path) -> None:
    params, text = load_params(), layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert text.count('<article class="sample') == KEPT * len(params.online_cells())
    cell = OnlineCell("p80", 1, "uncoupled")
    kept = [json.loads(line) for line in layout.rollouts(cell).read_text(encoding="utf-8").splitlines()]
    scores = records.read_table(layout.heldout_samples(cell)).set_index(["step", "task_id"])["ensemble_std"]
    cards = [part for part in text.split("<article ") if 'data-label="p80" data-arm="uncoupled" data-seed="1"' in part]
    for row in kept:
        (card,) = [part for part in cards if f'data-task="{row["task_id"]}"' in part]
        disagreement = sample_cards.number(scores.loc[(row["step"], row["task_id"])])
        said = f"step {row['step']}: proxy {sample_cards.number(row['proxy_reward'])}, true "
        assert said in card and f"disagreement {disagreement}</p>" in card
        assert f"<pre>{html.escape(str(row['response']))}</pre>" in card


def test_how_often_a_problem_is_hacked_counts_all_held_out_problems(default: Path) -> None:
    params = load_params()
    shares = samples.hacked_shares(params)
    cell = OnlineCell("p80", 2, "proxy")
    table = records.read_table(layout.heldout_samples(cell)).set_index("task_id")
    first, last = (table[table["step"] == step] for step in (0, 24))
    by_hand = [
        last.loc[task, "proxy_reward"] > row["proxy_reward"] and last.loc[task, "true_reward"] < row["true_reward"]
        for task, row in first.iterrows()
    ]
    (found,) = shares.loc[(shares["label"] == "p80") & (shares["seed"] == 2) & (shares["arm"] == "proxy"), "hacked"]
    assert found == pytest.approx(np.mean(by_hand)) and 0 < found < 1


def test_a_line_separator_within_a_response_ends_no_line(default: Path) -> None:
    """U+2028 stands as it is in a JSON string and would end a line for str.splitlines."""
    cell = OnlineCell("p20", 0, "proxy")
    path, before = layout.rollouts(cell), layout.rollouts(cell).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in before.splitlines()]
    rows[0]["response"] = "one\u2028two"
    try:
        records.write_jsonl(path, rows)
        assert samples._read_rows(path)[0]["response"] == "one\u2028two"
    finally:
        path.write_text(before, encoding="utf-8")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"step": 5}, "found train-0 at steps [5]; expected them in heldout_samples.parquet as well"),
        ({"response": None}, "found rows without ['response']"),
    ],
)
def test_responses_that_do_not_fit_are_refused(default: Path, change: dict[str, Any], says: str) -> None:
    cell = OnlineCell("p20", 0, "proxy")
    path, before = layout.rollouts(cell), layout.rollouts(cell).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in before.splitlines()]
    rows[0] = {key: value for key, value in {**rows[0], **change}.items() if value is not None}
    try:
        records.write_jsonl(path, rows)
        with pytest.raises(DataError) as raised:
            samples.read_samples(load_params(), records.read_json(layout.BASE_METRICS))
    finally:
        path.write_text(before, encoding="utf-8")
    assert says in str(raised.value)


# In a browser


def dom(path: Path, script: str, tmp_path: Path, width: int = 1280) -> str:
    """The page's elements after ``script`` has run in it, in a window of this width."""
    probe = f"<script>addEventListener('load', () => setTimeout(() => {{ {script} }}, 300));</script></body>"
    inner = tmp_path / "page.html"
    inner.write_text(path.read_text(encoding="utf-8").replace("</body>", probe), encoding="utf-8")
    assert CHROMIUM is not None
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=20000", "--dump-dom"]
    command += [f"--window-size={width},900", f"--user-data-dir={tmp_path / 'profile'}", inner.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout


SAY = "document.body.dataset.said = JSON.stringify({});"


def said(text: str) -> Any:
    (found,) = re.findall(r'data-said="([^"]*)"', text)
    return json.loads(html.unescape(found))


@in_a_browser
def test_planted_markup_shows_as_text_and_does_not_run(default: Path, tmp_path: Path) -> None:
    shown = "[...document.querySelectorAll('.sample pre')].map((part) => part.textContent)"
    state = f"{{title: document.title, texts: {shown}, images: document.querySelectorAll('.sample img').length}}"
    found = said(dom(layout.REPORT_PAGE, SAY.format(state), tmp_path))
    assert found["title"].startswith(report.TITLE) and found["images"] == 0
    assert any(PLANTED in text for text in found["texts"])


@in_a_browser
def test_filters_and_search_narrow_the_responses_down(default: Path, tmp_path: Path) -> None:
    """One value of each filter, then a text that a single problem has, then hacked ones alone."""
    script = """
      const form = document.querySelector('.filters'), counts = {};
      const matching = () => Number(document.querySelector('.matching').textContent.match(/of (\\d+)/)[1]);
      const set = (name, value) => { form.elements[name].value = value; form.dispatchEvent(new Event('input')); };
      counts.all = matching();
      counts.visible = document.querySelectorAll('.sample:not([hidden])').length;
      document.querySelector('button.more').click();
      counts.more = document.querySelectorAll('.sample:not([hidden])').length;
      set('arm', 'placebo'); counts.arm = matching();
      set('label', 'p80'); counts.label = matching();
      set('seed', '1'); counts.seed = matching();
      set('words', 'MUCH IS TRAIN-2 &'); counts.words = matching();
      form.reset(); form.elements.hacked.checked = true; form.dispatchEvent(new Event('input'));
      counts.hacked = matching();
    """
    found = said(dom(layout.REPORT_PAGE, script + SAY.format("counts"), tmp_path))
    hacked = sum(shown.is_hacked for shown in read_results(load_params()).samples)
    assert found == {
        "all": 3 * 3 * 3 * KEPT,
        "visible": 12,
        "more": 60,
        "arm": 3 * 3 * KEPT,
        "label": 3 * KEPT,
        "seed": KEPT,
        "words": 1,
        "hacked": hacked,
    }


@in_a_browser
def test_a_narrow_screen_has_every_panel_and_no_sideways_scrolling(default: Path, tmp_path: Path) -> None:
    """In a frame of 390 pixels, as no window of a headless browser is so narrow."""
    script = """
      const stacks = [...document.querySelectorAll('.panels')];
      const panels = stacks.map((stack) => stack.querySelectorAll(':scope > .window').length);
      const rows = [...document.querySelectorAll('section > .scroll tbody tr')].map((row) => [...row.children]);
      const below = (upper, lower) => lower.getBoundingClientRect().top >= upper.getBoundingClientRect().bottom - 1;
      const folded = rows.every((cells) => cells.length < 2 || below(cells[0], cells[1]));
      const widths = stacks.map((stack) => stack.getBoundingClientRect().width);
      const [widest, least, page] = [Math.max(...widths), Math.min(...widths), document.documentElement.scrollWidth];
    """
    state = "{panels, folded, widest, least, page}"
    tell = f"parent.document.body.dataset.said = JSON.stringify({state});"
    probe = f"<script>addEventListener('load', () => setTimeout(() => {{ {script} {tell} }}, 1500));</script></body>"
    (tmp_path / "inner.html").write_text(layout.REPORT_PAGE.read_text(encoding="utf-8").replace("</body>", probe))
    frame = tmp_path / "frame.html"
    frame.write_text('<body><iframe src="inner.html" width="390" height="900" style="border:0"></iframe></body>')
    command = [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files"]
    command += ["--virtual-time-budget=30000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", frame.as_uri()]
    found = said(subprocess.run(command, capture_output=True, text=True, timeout=300, check=True).stdout)
    assert len(found["panels"]) == len(list(layout.REPORT.glob("*.png"))) and min(found["panels"]) > 0
    assert found["folded"], "the entries of a row stand below one another"
    assert found["page"] <= 390 and found["widest"] <= 390 and found["least"] > 300


# Tables and figures


def test_a_folded_row_names_its_entries(default: Path) -> None:
    table = Table(["", "p"], [[Entry("C1"), Entry("0.1")], [Entry("C2"), Entry("")]], groups=[("ours", 2)])
    shown = page.table(table)
    assert '<td data-label="ours: p">0.1</td>' in shown and "<td>C1</td>" in shown
    assert '<td class="blank" data-label="ours: p"></td>' in shown


def test_every_figure_has_three_formats_of_equal_bytes(default: Path, tmp_path: Path) -> None:
    results = read_results(load_params())
    for folder in ("one", "two"):
        paths = [tmp_path / folder / f"portrait.{kind}" for kind in ("png", "svg", "pdf")]
        save(lambda: effects.portrait_figure(results.heldout, results.arms), *paths)
    for kind in ("png", "svg", "pdf"):
        assert (tmp_path / "one" / f"portrait.{kind}").read_bytes() == (
            tmp_path / "two" / f"portrait.{kind}"
        ).read_bytes()
    for path in layout.REPORT.glob("*.png"):
        assert path.with_suffix(".svg").is_file() and path.with_suffix(".pdf").read_bytes().startswith(b"%PDF")


def test_one_seed_far_off_does_not_flatten_the_others() -> None:
    """The scale holds the central values and the threshold; an arrow at the edge says what is beyond."""
    rows = [
        {"label": "p20", "beta": 0.4, "seed": seed, "arm": "proxy", "step": step, "gap": 0.01 * seed + 0.1 * step}
        for seed in range(20)
        for step in range(10)
    ]
    table = pd.DataFrame(rows)
    table.loc[(table["seed"] == 3) & (table["step"] == 9), "gap"] = 500.0
    row = drawing.Row(table, "gap", "gap", lambda axes, level: None, shown=[2.0])
    figure = drawing.draw_rows([row], curves.beta_levels(table), curves.Arms(("proxy",), None))
    low, high = figure.axes[0].get_ylim()
    assert -0.5 < low <= 0 and 2.0 <= high < 3
    assert [text.get_text() for text in figure.axes[0].texts] == ["500"]
    whole = drawing.draw_rows(
        [replace(row, table=table[table["seed"] != 3])], curves.beta_levels(table), curves.Arms(("proxy",), None)
    )
    assert not whole.axes[0].texts


def test_a_band_is_the_t_interval_of_the_mean_over_seeds() -> None:
    runs = curves.Series("proxy", [0, 1, 2], np.array([0, 1]), np.array([[1.0, 2.0], [2.0, 2.0], [3.0, 2.0]]))
    band = runs.band_T
    assert band is not None
    assert band[0] == pytest.approx([2 - 4.302653 / 3**0.5, 2.0], rel=1e-6) and band[1][1] == 2.0
    assert curves.Series("proxy", [0], np.array([0]), np.array([[1.0]])).band_T is None


def test_the_claims_point_to_the_right_where_the_paper_is_right(default: Path) -> None:
    """In standard deviations of the seeds within a beta; a claim that a quantity falls is turned round."""
    values = [
        {"label": label, "seed": s, "value": v} for label, s, v in (("a", 0, 1), ("a", 1, 3), ("b", 0, 5), ("b", 1, 7))
    ]
    found = {"estimate": 4.0, "interval": [2.0, 6.0], "quantity": "augc", "values": values}
    claim = {"controlled": found, "predicted": "falls with beta"}
    sd = 2**0.5
    assert effects._effect(claim, "controlled") == pytest.approx([-4 / sd, -2 / sd, -6 / sd])
    assert effects._effect({**claim, "predicted": "rises with beta"}, "controlled") == pytest.approx(
        [4 / sd, 2 / sd, 6 / sd]
    )
    assert effects._effect({**claim, "controlled": {**found, "quantity": "b"}}, "controlled") is None
    assert effects._effect({**claim, "controlled": {**found, "interval": None}}, "controlled") is None


def test_entropy_against_the_lowest_beta_is_taken_within_a_seed() -> None:
    cells = pd.DataFrame(
        {
            "label": ["p80", "p20", "p80", "p20"],
            "beta": [2.0, 0.4, 2.0, 0.4],
            "seed": [0, 0, 1, 1],
            "arm": "proxy",
            "entropy_dpo": [0.5, 0.75, 1.0, 2.0],
        }
    )
    assert figures.against_lowest_beta(cells, "entropy_dpo")["entropy_dpo"].tolist() == [-0.25, 0.0, -1.0, 0.0]


def test_the_published_points_stand_in_the_panel_of_the_papers_measure(default: Path) -> None:
    results = read_results(load_params())
    figure = figures.power_law_figure(results.cells, results.power_law_curve, results.power_law, results.arms)
    paper, controlled, judged = figure.axes
    diamonds = [line for axes in figure.axes for line in axes.lines if line.get_marker() == "D"]
    (published,) = diamonds
    assert published in paper.lines and list(published.get_ydata()) == [row.augc for row in figures.printed.BETAS]
    assert judged.get_title() == "Signed area, above the placebo"
    assert paper.get_ylim()[1] > max(published.get_ydata()) and paper.get_xlim()[1] > max(published.get_xdata())

"""The four last stages on an invented project: what they write, and that the page says what was computed."""

from __future__ import annotations

import json
import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from dvc_render.vega import VegaRenderer

from conftest import CHECKOUT
from pessimism import layout, records
from pessimism.analysis import published
from pessimism.cells import OnlineCell
from pessimism.reporting import captions, curves, figures, offline_plots, tables
from pessimism.reporting.tables import number
from synthetic_project import Invented, write_project

STAGES = ("score_hacking", "fit_power_law", "check_claims", "report")
FIGURES = (
    "heldout",
    "figure_3_goodhart_gap",
    "figure_4_entropy",
    "figure_5_power_law",
    "figure_6_representation",
    "beta_grid",
)


def run_stages(root: Path, invented: Invented) -> str:
    """Make the invented project under ``root``, run the four stages there, return the page."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        write_project(root, invented)
        for stage in STAGES:
            patch.setattr(sys, "argv", [stage])
            runpy.run_path(str(CHECKOUT / "stages" / f"{stage}.py"), run_name="__main__")
        return layout.REPORT_PAGE.read_text(encoding="utf-8")


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
    assert html.count('<img src="data:image/png;base64,') == len(FIGURES)


def test_the_page_needs_nothing_else(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert re.findall(r"(?:src|href)=\"(?!data:)[^\"]*", html) == []
    assert "<script" not in html and "url(" not in html and "@import" not in html


def test_the_page_says_where_its_numbers_come_from(default: Path) -> None:
    html = layout.REPORT_PAGE.read_text(encoding="utf-8")
    assert "Scale tiny" in html and "protocol paper" in html and "3 betas × 3 seeds × 2 arms (proxy, placebo)" in html
    assert published.SOURCE.replace("'", "&#x27;") in html
    for row in published.BETAS:
        assert number(row.augc) in html


def test_table_1_shows_every_seed_and_the_published_rows(default: Path) -> None:
    cells = records.read_table(layout.CELL_SCORES).astype({"onset_step": "Int64"})
    table = tables.table_1(cells, ["proxy", "placebo"])
    assert len(table.rows) == len(table.quiet_rows) == 3
    p20 = cells[(cells["beta_percentile"] == 20) & (cells["arm"] == "proxy")]
    assert table.rows[0][1].main == number(p20["augc"].mean())
    assert table.rows[0][1].small.split(" · ") == [number(value, digits=2) for value in p20["augc"]]
    assert table.rows[0][3].main == "never · never · never"
    assert table.quiet_rows[2][1].main == "146"
    assert all(len(row) == len(table.headers) for row in [*table.rows, *table.quiet_rows])


def test_equal_input_gives_equal_bytes(default: Path, tmp_path: Path) -> None:
    cells = records.read_table(layout.CELL_SCORES)
    for name in ("one.png", "two.png"):
        figures.save(lambda: figures.entropy_figure(cells, "proxy"), tmp_path / name)
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "two.png").read_bytes()
    assert b"Software" not in (tmp_path / "one.png").read_bytes()


def test_colour_is_beta_whatever_the_order_of_the_design() -> None:
    cells = pd.DataFrame({"beta_percentile": [80, 20, 50, 20], "beta": [2.4, 0.3, 1.0, 0.3]})
    levels = curves.beta_levels(cells)
    assert [level.beta_percentile for level in levels] == [20, 50, 80]
    assert len({level.colour for level in levels}) == 3


def test_series_keep_seeds_apart(default: Path) -> None:
    gaps = records.read_table(layout.GOODHART_GAP)
    runs = curves.series(gaps, "goodhart_gap", 80, "proxy")
    assert runs.values_S_T.shape == (3, 24)
    of_seed_1 = gaps[(gaps["beta_percentile"] == 80) & (gaps["arm"] == "proxy") & (gaps["seed"] == 1)]
    assert runs.values_S_T[1].tolist() == of_seed_1["goodhart_gap"].tolist()


@pytest.mark.parametrize(
    ("invented", "says"),
    [
        (Invented(percentiles=(50,), seeds=(7,), arms=("oracle",)), "fewer than three distinct betas"),
        (Invented(seeds=(0,), arms=("proxy", "placebo", "oracle"), proxy_start=-0.5), "In 3 of 3 runs the first batch"),
        (Invented(percentiles=(80, 20), seeds=(0, 1), true_start=0.0), "divides by machine epsilon"),
    ],
)
def test_any_arms_any_betas_one_seed(tmp_path: Path, invented: Invented, says: str) -> None:
    html = run_stages(tmp_path, invented)
    assert says in html
    assert ">nan" not in html and ">None" not in html and ">inf" not in html


def test_after_a_shrink_nothing_holds_the_removed_percentile(tmp_path: Path) -> None:
    run_stages(tmp_path, Invented(percentiles=(20, 50, 95), seeds=(0,)))
    assert (tmp_path / layout.online_run(OnlineCell(95, 0, "proxy"))).exists()
    html = run_stages(tmp_path, Invented(percentiles=(20, 50), seeds=(0,)))
    assert "p95" not in re.sub(r"base64,[^\"]*", "", html)
    for path in [*(tmp_path / "metrics").glob("*.json"), *(tmp_path / "plots").glob("*.csv")]:
        assert "p95" not in path.read_text() and '"beta_percentile": 95' not in path.read_text()


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
    for field in re.findall(r'"field": "(\w+)"', text):
        assert field == "rev" or field in table.columns
    assert section["x_label"] in text and '"field": "rev"' in text

"""Figures for a talk and a paper: their size, their letters, and that their message is the verdict with its numbers."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text

from pessimism import cli
from pessimism.claims.verdicts import UNDECIDED
from pessimism.errors import DataError
from pessimism.reporting import slides
from pessimism.reporting.slides import Shown
from pessimism.reporting.styles import STYLES
from pessimism.runs.finished import load_run
from support.endings import refused
from support.repository import CHECKOUT

SMALLEST = 18


@pytest.fixture(scope="module")
def shown() -> Shown:
    return load_run(CHECKOUT).shown()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Figure]:
    """Figures as they are saved."""
    saved: list[Figure] = []
    save = Figure.savefig

    def kept(figure: Figure, *arguments: Any, **options: Any) -> None:
        saved.append(figure)
        save(figure, *arguments, **options)

    monkeypatch.setattr(Figure, "savefig", kept)
    return saved


def letters(figure: Figure) -> list[Text]:
    return [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]


@pytest.mark.parametrize("name", slides.DRAWINGS)
def test_a_slide_fills_the_canvas_in_letters_that_are_read_from_afar(
    name: str, shown: Shown, drawn: list[Figure], tmp_path: Path
) -> None:
    found = slides.save(name, shown, STYLES["talk"], tmp_path / "figure.png")
    assert matplotlib.image.imread(tmp_path / "figure.png").shape[:2] == (1080, 1920)
    (figure,) = drawn
    assert min(text.get_fontsize() for text in letters(figure)) >= SMALLEST
    assert " ".join(figure.get_suptitle().split("\n")) == found.message
    figure.draw_without_rendering()  # where everything lies, in the figure's own pixels
    canvas = figure.bbox
    words = [*figure.texts, *(text for axes in figure.axes for text in (axes._left_title, axes.xaxis.label))]
    for text in words:
        box = text.get_window_extent()
        assert box.x0 >= canvas.x0 and box.x1 <= canvas.x1 + 1, f"{text.get_text()!r} leaves the canvas"
    assert len({round(axes.get_position().y0, 3) for axes in figure.axes}) == 1, "one row"
    titles = [axes._left_title.get_window_extent() for axes in figure.axes]
    assert all(left.x1 <= right.x0 for left, right in itertools.pairwise(titles)), "titles overlap"


@pytest.mark.parametrize("name", slides.DRAWINGS)
def test_a_papers_figure_is_as_wide_as_a_column_and_leaves_words_to_the_caption(
    name: str, shown: Shown, drawn: list[Figure], tmp_path: Path
) -> None:
    slides.save(name, shown, STYLES["paper"], tmp_path / "figure.pdf")
    (figure,) = drawn
    assert figure.get_figwidth() <= 3.5 and figure.get_suptitle() == ""
    assert b"/Subtype /Type3" not in (tmp_path / "figure.pdf").read_bytes()


@pytest.mark.parametrize("file_format", ["png", "svg", "pdf"])
def test_equal_runs_give_equal_bytes(file_format: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in ("one", "other"):
        cli.main(["figures", str(CHECKOUT), "--format", file_format, "--out", str(tmp_path / folder)])
    names = [f"{name}_talk.{file_format}" for name in slides.DRAWINGS]
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == sorted(names)
    for name in names:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "other" / name).read_bytes()
    assert capsys.readouterr().out.count(str(tmp_path)) == 2 * len(names)


def with_total(**changes: Any) -> Callable[[Shown], Shown]:
    def change(shown: Shown) -> Shown:
        contrasts = shown.claims["contrasts"]
        return replace(shown, claims=shown.claims | {"contrasts": contrasts | {"total": contrasts["total"] | changes}})

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_total(), "^Hacking falls with β: from 16.8 to 1.9, p 0.001$"),
        (with_total(verdict="rises with beta", p_rises=0.00001), "^Hacking rises with β: from .*, p < 0.0001$"),
        (with_total(verdict=UNDECIDED, p_falls=0.2, p_rises=0.8), "^Whether β changes hacking is undecided: .*p 0.2$"),
        (with_total(p_rises=None, reason="too few seeds"), "^Not tested whether β changes hacking: too few seeds$"),
    ],
)
def test_the_message_is_the_verdict_with_its_numbers(shown: Shown, change: Callable[[Shown], Shown], said: str) -> None:
    """The contrasts of the committed run, and others."""
    assert re.search(said, slides.drawing("doors", change(shown)).message)


def test_the_message_about_rewards_has_the_means_of_the_last_step(shown: Shown) -> None:
    last = shown.heldout.query("arm == 'proxy' and label == 'p20' and step == 24")
    proxy, true = last["proxy_reward_change"].mean(), last["true_reward_change"].mean()
    expected = f"proxy {proxy:+.2f} and truth {true:+.2f} at β = {shown.levels[0].beta:.2g}".replace("-", "−")
    assert expected in slides.drawing("rewards", shown).caption


def test_the_message_about_the_gap_counts_onsets(shown: Shown) -> None:
    runs = shown.cells.query("arm == 'proxy'").groupby("label")["controlled_onset_step"].count()
    said = slides.drawing("gap", shown).caption
    low, high = (f"{shown.levels[end].beta:.2g}" for end in (0, -1))
    assert f"in {runs['p20']} of 5 runs at β = {low}, in {runs['p80']} of 5 runs at β = {high}" in said


def test_of_many_betas_the_ends_and_the_middle_are_shown(shown: Shown) -> None:
    labels = [f"b0.{number}" for number in range(1, 6)]
    tables = []
    for table in (shown.cells, shown.heldout):
        rows = table[table["label"] == "p20"]
        many = [rows.assign(label=label, beta=float(label[1:])) for label in labels]
        tables.append(pd.concat(many))
    found = slides.drawing("gap", replace(shown, cells=tables[0], heldout=tables[1]))
    assert [panel.title[-3:] for panel in found.panels] == ["0.1", "0.3", "0.5"]
    assert found.detail.endswith("3 of 5 β")


def test_without_a_contrast_there_is_nothing_to_draw(shown: Shown) -> None:
    none = {name: {"values": [], "reason": "no placebo", "p_rises": None} for name in ("total", "offline", "coupling")}
    with pytest.raises(DataError, match="found no contrast that was tested .no placebo.; expected one"):
        slides.drawing("doors", replace(shown, claims=shown.claims | {"contrasts": none | {"unit": ""}}))


def test_where_there_is_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with refused("^error: found no params.yaml with protocols/ beside it in .*: name its directory"):
        cli.main(["figures"])

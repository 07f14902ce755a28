"""Figures as files: one style for all, drawn once and written in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pessimism.reporting.drawing import FIGURE_DPI
from pessimism.reporting.marks import MARKS, mark_places
from pessimism.reporting.panels import PANELS, panel_places
from pessimism.reporting.styles import METADATA

STYLE: dict[Any, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "legend.frameon": False,
    "savefig.dpi": FIGURE_DPI,
    "svg.hashsalt": "pessimism",
}


def save(draw: Callable[[], Figure], *paths: Path) -> None:
    """Draw a figure once and write it as each of ``paths``: PNG, SVG or PDF by its suffix.

    Equal input gives equal bytes on one version of matplotlib. A PNG says in its text where its panels and marks lie.
    """
    with matplotlib.rc_context(STYLE):
        figure = draw()
        places = {PANELS: _text(panel_places(figure)), MARKS: _text(mark_places(figure))}
        figure.set_layout_engine(None)  # laid out, once for all formats
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            said = places if path.suffix == ".png" else {}
            figure.savefig(path, metadata={**METADATA[path.suffix.removeprefix(".")], **said})


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))

"""Figures as files: one style for all, drawn once and written in every format."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure

from pessimism.reporting.drawing import FIGURE_DPI
from pessimism.reporting.panels import PANELS, panel_places

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


METADATA: dict[str, dict[str, Any]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None, "Creator": None},
    ".pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}
"""What a format would say of the time and the program, by suffix: nothing, so that equal input gives equal bytes."""


def save(draw: Callable[[], Figure], *paths: Path) -> None:
    """Draw a figure once and write it as each of ``paths``: PNG, SVG or PDF by its suffix.

    Equal input gives equal bytes on one version of matplotlib. A PNG says in its text where its panels lie.
    """
    with matplotlib.rc_context(STYLE):
        figure = draw()
        places = json.dumps(panel_places(figure), ensure_ascii=False, separators=(",", ":"))
        figure.set_layout_engine(None)  # laid out, once for all formats
        for path in paths:
            path.parent.mkdir(parents=True, exist_ok=True)
            said = {PANELS: places} if path.suffix == ".png" else {}
            figure.savefig(path, metadata={**METADATA.get(path.suffix, {}), **said})

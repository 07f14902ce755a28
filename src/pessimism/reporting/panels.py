"""Where the panels of a drawn figure lie, so that a page can stack them on a narrow screen."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.transforms import Bbox

PANELS = "Panels"
"""Key of a PNG's text that holds what :func:`panel_places` returns."""
MARGIN = 0.005  # of the figure, around a panel


def panel_places(figure: Figure) -> dict[str, Any]:
    """Where the panels and the entries of the legend lie in a drawn figure, so that a page can stack them.

    Returns:
        ``panels``: [left, top, width, height] in shares of the figure, with the title of a panel's column and the label
        of its row where it has none of its own; ``keys``: the boxes of the legend's entries.
    """
    figure.draw_without_rendering()  # lays the figure out
    titles, labels = _titles(figure)
    panels = [(_box(figure, axes.get_tightbbox()), *_missing(axes, titles, labels)) for axes in figure.axes]
    ordered = sorted(panels, key=lambda panel: (round(panel[0][1], 1), panel[0][0]))
    return {
        "panels": [[box, " · ".join(filter(None, said))] for box, *said in ordered],
        "keys": [
            _box(figure, Bbox.union([text.get_window_extent(), mark.get_window_extent()]))
            for legend in figure.legends
            for text, mark in zip(legend.get_texts(), legend.legend_handles, strict=True)
            if mark is not None
        ],
    }


def _titles(figure: Figure) -> tuple[dict[int, str], dict[int, str]]:
    """Titles by column of the grid and labels of the vertical axis by row, as far as panels have them."""
    places = [(axes, axes.get_subplotspec()) for axes in figure.axes]
    titles, labels = dict[int, str](), dict[int, str]()
    for axes, place in places:
        if place is not None:
            titles.setdefault(place.colspan.start, axes.get_title(loc="left"))
            labels.setdefault(place.rowspan.start, axes.get_ylabel())
    return titles, labels


def _missing(axes: Axes, titles: dict[int, str], labels: dict[int, str]) -> tuple[str, str]:
    """The title and the label that a panel takes from its column and its row."""
    place = axes.get_subplotspec()
    if place is None:
        return "", ""
    title = "" if axes.get_title(loc="left") else titles[place.colspan.start]
    has_label = bool(axes.get_ylabel()) or not len(axes.get_yticks())
    return title, "" if has_label else labels[place.rowspan.start].replace("\n", " ")


def _box(figure: Figure, box: Bbox | None) -> list[float]:
    """A box of pixels in shares of the figure, from its upper left corner, with a narrow margin; all where none."""
    if box is None:
        return [0.0, 0.0, 1.0, 1.0]
    width, height = figure.bbox.size
    upper_left = np.clip([box.x0 / width - MARGIN, 1 - box.y1 / height - MARGIN], 0, 1)
    lower_right = np.clip([box.x1 / width + MARGIN, 1 - box.y0 / height + MARGIN], 0, 1)
    return [round(float(value), 4) for value in (*upper_left, *(lower_right - upper_left))]

"""What is said of a mark of a figure where a reader points at it: which run it is, which step, which value."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

MARKS = "Marks"
"""Key of a PNG's text that holds what :func:`mark_places` returns."""

Said = tuple[str, np.ndarray, Sequence[str]]
_SAID: WeakKeyDictionary[Axes, list[Said]] = WeakKeyDictionary()


def say(axes: Axes, name: str, points_N_2: np.ndarray, texts: Sequence[str]) -> None:
    """Name a line or a set of dots, and say of each of its N points, in the data's coordinates, what it is."""
    _SAID.setdefault(axes, []).append((name, points_N_2, texts))


def mark_places(figure: Figure) -> list[dict[str, Any]]:
    """Where the marks lie of which something is said, in a figure that is laid out.

    Returns:
        ``name`` and ``points`` of each: [left, top, what is said] with the place in shares of the figure. Points
        outside a panel's scale are left out.
    """
    return [
        {"name": name, "points": _places(figure, axes, points_N_2, texts)}
        for axes in figure.axes
        for name, points_N_2, texts in _SAID.get(axes, [])
    ]


def _places(figure: Figure, axes: Axes, points_N_2: np.ndarray, texts: Sequence[str]) -> list[list[float | str]]:
    pixels_N_2 = axes.transData.transform(np.asarray(points_N_2, dtype=float))
    places_N_2 = figure.transFigure.inverted().transform(pixels_N_2)
    return [
        [round(float(x), 4), round(1 - float(y), 4), text]
        for (x, y), pixels, text in zip(places_N_2, pixels_N_2, texts, strict=True)
        if np.isfinite(pixels).all() and axes.bbox.contains(*pixels)
    ]

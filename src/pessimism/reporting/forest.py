"""The forest plot of several worlds: the effect of each, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from pessimism.claims.worlds import Effect, Judged
from pessimism.measures.intervals import t_quantile
from pessimism.reporting.curves import GREY, INK
from pessimism.reporting.drawing import make_grid

INCHES_PER_ROW = 0.32
PANEL_WIDTH = 3.4
DIAMOND = 0.32
TOGETHER = "#31688e"
POOLED, ANOTHER = "mean over worlds", "one more world"


def forest_figure(found: Mapping[str, Judged], worlds: Sequence[str], unit: str) -> Figure:
    """One panel per contrast, one row per world, below them the mean and where one more world would lie.

    Args:
        found: contrasts by the title of their panel.
        worlds: what tells each world from the others.
        unit: of the effect.
    """
    rows = len(worlds) + 2
    figure, grid = make_grid(1, len(found), width=PANEL_WIDTH, height=INCHES_PER_ROW * rows + 1.3)
    for axes, (title, judged) in zip(grid[0], found.items(), strict=True):
        _draw(axes, judged)
        axes.set_title(title)
        axes.set_yticks(range(rows), [*worlds, POOLED, ANOTHER] if axes is grid[0, 0] else [""] * rows)
        axes.set_ylim(rows - 0.4, -0.6)
        axes.set_xlabel(f"highest minus lowest β\n({unit})\nbelow 0: less hacking at high β")
        axes.tick_params(axis="y", length=0)
        axes.grid(axis="y", visible=False)
    _share_x(grid[0])
    figure.legend(handles=_handles(), loc="outside lower center", ncols=3 if len(found) > 1 else 1, fontsize=8.5)
    return figure


def _share_x(panels: Sequence[Axes]) -> None:
    """One horizontal scale: the panels have one unit."""
    limits = np.array([axes.get_xlim() for axes in panels])
    for axes in panels:
        axes.set_xlim(limits[:, 0].min(), limits[:, 1].max())


def _draw(axes: Axes, judged: Judged) -> None:
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, effect in enumerate(judged.effects):
        half = _half_width(effect)
        axes.plot([effect.estimate - half, effect.estimate + half], [row, row], color=GREY, linewidth=1.6)
        axes.plot(effect.estimate, row, marker="s", markersize=5, color=INK)
    pooled, row = judged.pooled, len(judged.effects)
    axes.axhline(row - 0.5, color=GREY, linewidth=0.6)
    axes.axvline(pooled.estimate, color=TOGETHER, linewidth=0.8, linestyle=":")
    low, high = pooled.interval.low, pooled.interval.high
    corners = np.array([[low, row], [pooled.estimate, row - DIAMOND], [high, row], [pooled.estimate, row + DIAMOND]])
    axes.fill(*corners.T, color=TOGETHER, linewidth=0)
    another = pooled.another_world
    axes.plot([another.low, another.high], [row + 1, row + 1], color=TOGETHER, linewidth=1.6)


def _half_width(effect: Effect) -> float:
    """Of the 95 % t interval from seeds; 0 where there is none."""
    return t_quantile(effect.degrees) * effect.error if effect.error and effect.degrees else 0.0


def _handles() -> list[Line2D | Patch]:
    return [
        Line2D(
            [],
            [],
            color=GREY,
            linewidth=1.6,
            marker="s",
            markerfacecolor=INK,
            markeredgecolor=INK,
            markersize=5,
            label="one world, 95 % over its seeds",
        ),
        Patch(color=TOGETHER, label="mean over worlds, 95 %"),
        Line2D([], [], color=TOGETHER, linewidth=1.6, label="where one more world would lie, 95 %"),
    ]

"""Runs side by side in figures: one panel per run, all with the same axes, one hue per beta in all of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from textwrap import shorten

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from pessimism.reporting.comparison_design import Runs, common_beta, labels
from pessimism.reporting.curves import GREY, INK, BetaLevel, axis_label, beta_levels, series, values_per_beta
from pessimism.reporting.drawing import (
    COLUMNS,
    DANGER,
    DASHES,
    beta_handles,
    clipped_limits,
    dash,
    dot,
    draw_means,
    draw_series,
    legend_below,
    make_grid,
    point_beyond,
    scatter,
    share_y,
)
from pessimism.reporting.slides import Shown

AREAS = {"augc": "AUGC, the paper's\n(gap × steps)", "controlled_augc": "AUGC, controlled\n(base sd × steps)"}
"""Columns of plots/cells.csv and the labels of their axes."""
WIDE, NARROW = 4.6, 3.3  # inches of a panel: of two in a row, of more
TITLE_LENGTH = {WIDE: 54, NARROW: 38}
DECADE, LOG_MARGIN = 10, 1.5
DOTS, BARS = 0.012, 0.025  # half widths, in shares of the axis


def shared_levels(runs: Runs) -> list[BetaLevel]:
    """The betas of all runs with the hue that each has in every panel; nan where a label is another beta elsewhere."""
    order = labels(runs)
    hues = [level.colour for level in beta_levels(pd.DataFrame({"label": order, "beta": range(len(order))}))]
    return [BetaLevel(label, common_beta(runs, label), hue) for label, hue in zip(order, hues, strict=True)]


def levels_of(shown: Shown, shared: Sequence[BetaLevel]) -> list[BetaLevel]:
    """The betas of one run, ascending, in the shared hues."""
    hues = {level.label: level.colour for level in shared}
    return [replace(level, colour=hues[level.label]) for level in shown.levels]


def area_figure(runs: Runs) -> Figure:
    """AUGC over beta by either measure: every seed of the first arm, their mean, and the placebo in grey."""
    shared = shared_levels(runs)
    levels = {name: levels_of(shown, shared) for name, shown in runs.items()}
    limits = _limits([level.beta for of_run in levels.values() for level in of_run])
    values = {column: np.concatenate([_drawn(shown)[column].dropna() for shown in runs.values()]) for column in AREAS}

    def drawing(column: str) -> Callable[[Axes, str], None]:
        return lambda axes, name: _draw_areas(axes, runs[name], column, levels[name], limits)

    figure = _panels(runs, {label: drawing(column) for column, label in AREAS.items()}, list(values.values()))
    marks = [dot("one seed", INK), Line2D([], [], color=INK, linewidth=2.2, label="mean over seeds")]
    legend_below(figure, [*beta_handles(shared), *_placebo(runs, dot("placebo, one seed", GREY)), *marks])
    return figure


def gap_figure(runs: Runs) -> Figure:
    """The controlled gap over training: mean over seeds with its 95 % band per beta, the placebos in grey."""
    shared = shared_levels(runs)
    gaps = np.concatenate([_drawn(shown, heldout=True)["controlled_gap"].dropna() for shown in runs.values()])
    thresholds = [shown.params.protocol.controlled_threshold for shown in runs.values()]
    last = max(int(shown.heldout["step"].max()) for shown in runs.values())

    def draw(axes: Axes, name: str) -> None:
        _draw_gaps(axes, runs[name], levels_of(runs[name], shared))
        axes.set(xlabel="training step", xlim=(-0.03 * last, 1.03 * last))

    limits = np.array(clipped_limits(gaps, [0.0, *thresholds]))
    figure = _panels(runs, {"controlled gap (base sd)": draw}, [limits])
    placebo = Line2D([], [], color=GREY, linewidth=2.1, label="placebo, per β")
    legend_below(figure, [*beta_handles(shared), *_placebo(runs, placebo), dash("threshold", DANGER)])
    return figure


def _panels(runs: Runs, rows: Mapping[str, Callable[[Axes, str], None]], values: Sequence[np.ndarray]) -> Figure:
    """A column of panels per run, a row per quantity; after four runs the rows start anew below.

    Args:
        rows: by the label of the vertical axis what draws the panel of a run.
        values: per row, what its vertical axis holds.
    """
    columns = min(COLUMNS, len(runs))
    width = WIDE if columns <= 2 else NARROW
    figure, grid = make_grid(len(rows) * -(-len(runs) // columns), columns, width=width, height=2.9)
    for index, ((label, draw), shown) in enumerate(zip(rows.items(), values, strict=True)):
        panels = [grid[len(rows) * (at // columns) + index, at % columns] for at in range(len(runs))]
        share_y(panels, np.append(shown, 0.0))
        for axes, name in zip(panels, runs, strict=True):
            draw(axes, name)
            title = shorten(name, TITLE_LENGTH[width], placeholder=" …")
            axes.set_title(title[: TITLE_LENGTH[width]], parse_math=False)
        for axes in panels[::columns]:
            axes.set_ylabel(label)
    for axes in grid.flat:
        if not axes.has_data():
            axes.remove()
    return figure


def _draw_areas(
    axes: Axes, shown: Shown, column: str, levels: Sequence[BetaLevel], limits: tuple[float, float]
) -> None:
    if all(math.isnan(level.beta) for level in levels):  # one label, which stands in the middle
        limits, places = (0.0, 1.0), np.array([0.5])
        axes.set_xticks(places, [level.tick for level in levels])
    else:
        places = np.array([level.beta for level in levels])
    left, right = limits
    unit = np.full(len(levels), right - left)
    if left > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda beta, _: f"{beta:g}"))
        unit = places * math.log(right / left)
    if shown.arms.placebo is not None:
        scatter(axes, shown.cells, levels, shown.arms.placebo, places, DOTS * unit, column=column, colour=GREY)
    scatter(axes, shown.cells, levels, shown.arms.primary, places, DOTS * unit, column=column)
    means = values_per_beta(shown.cells, column, levels, shown.arms.primary)
    draw_means(axes, means, levels, places, BARS * unit, intervals=False)  # they would reach below 0
    axes.set(xlim=limits, xlabel=axis_label(levels))


def _limits(betas: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis of betas, linear from 0, or logarithmic where they span more than a decade."""
    known = [beta for beta in betas if not math.isnan(beta)]
    if not known:
        return 0.0, 1.0
    if max(known) > DECADE * min(known):
        return min(known) / LOG_MARGIN, max(known) * LOG_MARGIN
    return 0.0, 1.12 * max(known)


def _draw_gaps(axes: Axes, shown: Shown, levels: Sequence[BetaLevel]) -> None:
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.axhline(shown.params.protocol.controlled_threshold, color=DANGER, linewidth=1, linestyle=DASHES)
    if shown.arms.placebo is not None:
        for level in levels:
            runs = series(shown.heldout, "controlled_gap", level.label, shown.arms.placebo)
            axes.plot(runs.steps_T, runs.mean_T, color=GREY, linewidth=1.2)
    for level in levels:
        runs = series(shown.heldout, "controlled_gap", level.label, shown.arms.primary)
        draw_series(axes, runs, seeds=False, color=level.colour)
    point_beyond(axes)


def _drawn(shown: Shown, heldout: bool = False) -> pd.DataFrame:
    """Rows of the arms that panels show."""
    table = shown.heldout if heldout else shown.cells
    return table[table["arm"].isin([shown.arms.primary, shown.arms.placebo])]


def _placebo(runs: Runs, handle: Line2D) -> list[Line2D]:
    return [handle] if any(shown.arms.placebo is not None for shown in runs.values()) else []

"""Marks that several figures share: lines per arm, dots per seed, mean bars, panels, scales and legends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pessimism.reporting.curves import (
    GREY,
    INK,
    Arms,
    BetaLevel,
    Series,
    axis_label,
    beta_levels,
    finite_interval,
    seed_offsets,
    seeds_per_beta,
    series,
    values_per_beta,
)
from pessimism.reporting.marks import say

FIGURE_DPI = 150
COLUMNS = 4
BAND, PALE_BAND = 0.16, 0.09
PANEL_WIDTH, PANEL_HEIGHT = 3.3, 2.5
INCHES_PER_LEGEND_ENTRY = 1.9
SYMLOG_ABOVE = 100
CENTRAL = 0.025  # of the values at either end that may lie beyond a clipped scale
CLIPPED_ABOVE = 1.5  # times the height that the others need
MOST_MARKERS = 16  # measured steps of a line that are still told apart as markers
DANGER = "#c0392b"
SAFE = "#2e8b57"
DASHES: Any = (0, (4, 2))
ARM_DASHES: list[Any] = [(0, (4, 1.5)), (0, (1, 1)), (0, (4, 1, 1, 1)), (0, (8, 2))]


def make_grid(
    rows: int, columns: int, width: float = PANEL_WIDTH, height: float = PANEL_HEIGHT
) -> tuple[Figure, np.ndarray]:
    """A figure and its (rows, columns) panels; width and height of one panel in inches."""
    figure = Figure(figsize=(max(width * columns, 6.0), height * rows + 0.5), layout="constrained")
    return figure, figure.subplots(rows, columns, squeeze=False)


@dataclass(frozen=True)
class Row:
    """One quantity over steps, in one panel per beta that share a scale.

    Attributes:
        table: one row per cell and step.
        column: the quantity.
        label: of the vertical axis.
        decorate: draws what else belongs into the panel of a beta.
        shown: values that the scale must hold beside the table's.
        seeds: whether every seed has a line beside the mean and its band.
    """

    table: pd.DataFrame
    column: str
    label: str
    decorate: Callable[[Axes, BetaLevel], None]
    shown: Sequence[float] = ()
    seeds: bool = True


def draw_rows(rows: Sequence[Row], levels: Sequence[BetaLevel], arms: Arms) -> Figure:
    """Rows of panels, one column per beta; after four betas the rows start anew below."""
    columns = min(COLUMNS, len(levels))
    figure, grid = make_grid(len(rows) * -(-len(levels) // columns), columns)
    for index, row in enumerate(rows):
        panels = [grid[len(rows) * (at // columns) + index, at % columns] for at in range(len(levels))]
        limits = clipped_limits(row.table[row.column].dropna().to_numpy(float), row.shown)
        share_y(panels, np.array(limits))
        for axes, level in zip(panels, levels, strict=True):
            draw_arms(axes, row, level, arms)
            point_beyond(axes)
            row.decorate(axes, level)
            if index == 0:
                axes.set_title(level.title, color=level.colour, fontweight="bold")
            if index == len(rows) - 1:
                axes.set_xlabel("training step")
        for axes in panels[::columns]:
            axes.set_ylabel(row.label)
    _drop_unused(grid)
    return figure


def _drop_unused(grid: np.ndarray) -> None:
    for axes in grid.flat:
        if not axes.lines:
            axes.remove()


def clipped_limits(values: np.ndarray, shown: Sequence[float]) -> tuple[float, float]:
    """Lowest and highest value to be drawn: of all, or of the central ones where few others would flatten them."""
    if not values.size:
        return min(shown, default=0.0), max(shown, default=0.0)
    whole = np.append(values, shown)
    central = np.append(np.quantile(values, [CENTRAL, 1 - CENTRAL]), shown)
    if np.ptp(whole) > CLIPPED_ABOVE * np.ptp(central) > 0:
        return float(central.min()), float(central.max())
    return float(whole.min()), float(whole.max())


def draw_arms(axes: Axes, row: Row, level: BetaLevel, arms: Arms) -> None:
    """One beta's runs over steps: the primary arm in the beta's colour over the other arms."""
    for arm in arms.contrasts:
        runs = series(row.table, row.column, level.label, arm)
        draw_series(axes, runs, seeds=False, **_contrast_style(arm, arms))
    draw_series(axes, series(row.table, row.column, level.label, arms.primary), row.seeds, color=level.colour)


def _contrast_style(arm: str, arms: Arms) -> dict[str, Any]:
    """The placebo in grey, every other arm in ink with dashes of its own, as far as they go."""
    if arm == arms.placebo:
        return {"color": GREY}
    place = [name for name in arms.contrasts if name != arms.placebo].index(arm)
    return {"color": INK, "linestyle": ARM_DASHES[place % len(ARM_DASHES)]}


def draw_series(axes: Axes, runs: Series, seeds: bool = True, **style: Any) -> None:
    """The mean over seeds with a marker at every measured step, its 95 % band, and a thin line per seed."""
    several = len(runs.values_S_T) > 1
    band = runs.band_T
    if band is not None:
        axes.fill_between(runs.steps_T, *band, color=style["color"], alpha=BAND if seeds else PALE_BAND, linewidth=0)
    if several and seeds:
        axes.plot(runs.steps_T, runs.values_S_T.T, linewidth=0.8, alpha=0.5, **style)
        for seed, values_T in zip(runs.seeds, runs.values_S_T, strict=True):
            _say_steps(axes, f"{runs.name}, seed {seed}", runs, values_T)
    marker = "o" if len(runs.steps_T) <= MOST_MARKERS else None
    axes.plot(runs.steps_T, runs.mean_T, linewidth=2.1, marker=marker, markersize=3.5, **style)
    name = f"{runs.name}, mean of {len(runs.seeds)} seeds" if several else runs.name
    _say_steps(axes, name, runs, runs.mean_T)


def _say_steps(axes: Axes, name: str, runs: Series, values_T: np.ndarray) -> None:
    texts = [f"{runs.axis} {step:.3g}: {value:.3g}" for step, value in zip(runs.steps_T, values_T, strict=True)]
    say(axes, name, np.stack([runs.steps_T, values_T], axis=1), texts)


def say_paths(axes: Axes, level: BetaLevel, x: Series, y: Series) -> None:
    """Name every seed's path of one quantity over another."""
    for seed, x_T, y_T in zip(x.seeds, x.values_S_T, y.values_S_T, strict=True):
        texts = [f"step {step}: {a:.3g}, {b:.3g}" for step, a, b in zip(x.steps_T, x_T, y_T, strict=True)]
        say(axes, f"{level.title}, {x.name}, seed {seed}", np.stack([x_T, y_T], axis=1), texts)


def point_beyond(axes: Axes) -> None:
    """An arrow at either edge of a clipped scale where a line is farthest beyond it, with its value there."""
    low, high = axes.get_ylim()
    drawn = list(axes.lines)
    for edge, sign, marker, lift in ((high, 1.0, "^", -9), (low, -1.0, "v", 3)):
        heights = [np.nan_to_num(sign * np.asarray(line.get_ydata(), dtype=float), nan=-np.inf) for line in drawn]
        farthest = int(np.argmax([height_T.max() for height_T in heights]))
        at = int(heights[farthest].argmax())
        if heights[farthest][at] > sign * edge:
            place = (np.asarray(drawn[farthest].get_xdata())[at], edge)
            colour = drawn[farthest].get_color()
            axes.plot(*place, marker=marker, color=colour, markersize=5, clip_on=False, zorder=6)
            said = f"{sign * heights[farthest][at]:.3g}"
            axes.annotate(said, place, xytext=(5, lift), textcoords="offset points", fontsize=7)


def draw_per_beta(axes: Axes, cells: pd.DataFrame, column: str, arm: str, after: str | None = None) -> None:
    """Every seed as a dot, their mean as a bar and its 95 % interval, at one tick per beta.

    Args:
        after: a second quantity, beside the first as hollow dots; a line joins the two of a seed.
    """
    levels = beta_levels(cells)
    ticks = np.arange(len(levels), dtype=float)
    shift = 0.0 if after is None else 0.17
    if after is not None:
        _join(axes, cells, levels, arm, (column, after), shift)
        scatter(axes, cells, levels, arm, ticks + shift, 0.07, column=after, filled=False)
        draw_means(axes, values_per_beta(cells, after, levels, arm), levels, ticks + shift, 0.13)
    scatter(axes, cells, levels, arm, ticks - shift, 0.07, column=column)
    draw_means(axes, values_per_beta(cells, column, levels, arm), levels, ticks - shift, 0.13)
    beta_ticks(axes, levels)


def _join(
    axes: Axes, cells: pd.DataFrame, levels: Sequence[BetaLevel], arm: str, columns: tuple[str, str], shift: float
) -> None:
    """A line from every seed's dot before to its dot after."""
    pairs = zip(*(values_per_beta(cells, column, levels, arm) for column in columns), strict=True)
    for tick, (level, (before_S, after_S)) in enumerate(zip(levels, pairs, strict=True)):
        offsets_S = seed_offsets(len(before_S), 0.07)
        ends = [tick - shift + offsets_S, tick + shift + offsets_S]
        axes.plot(ends, [before_S, after_S], color=level.colour, linewidth=0.8, alpha=0.45, zorder=1)


def draw_interval(axes: Axes, place: float, values_S: np.ndarray, colour: str) -> None:
    """The 95 % t interval of a mean over seeds, where there is one."""
    interval = finite_interval(values_S)
    if interval is not None:
        axes.plot([place, place], [interval.low, interval.high], color=colour, linewidth=1.1, zorder=2)


def beta_ticks(axes: Axes, levels: Sequence[BetaLevel]) -> None:
    """One tick per beta, evenly spaced, from 0."""
    axes.set_xticks(np.arange(len(levels)), [level.tick for level in levels])
    axes.set(xlabel=axis_label(levels, "β, and its percentile"), xlim=(-0.6, len(levels) - 0.4))
    axes.grid(axis="x", visible=False)


def scatter(
    axes: Axes,
    cells: pd.DataFrame,
    levels: Sequence[BetaLevel],
    arm: str,
    positions: Sequence[float] | np.ndarray,
    width: float | np.ndarray,
    column: str = "augc",
    colour: str | None = None,
    filled: bool = True,
) -> None:
    """One dot per seed at each beta's position, spread over ``width`` to either side, one for all or one per beta."""
    values, widths = values_per_beta(cells, column, levels, arm), np.broadcast_to(width, len(levels))
    seeds = seeds_per_beta(cells, levels, arm)
    for level, position, spread, values_S, seeds_S in zip(levels, positions, widths, values, seeds, strict=True):
        ink = colour or level.colour
        places_S = position + seed_offsets(len(values_S), spread)
        axes.scatter(
            places_S,
            values_S,
            s=26,
            facecolor=ink if filled else "white",
            edgecolor="white" if filled else ink,
            linewidth=0.6 if filled else 1.3,
            zorder=3,
        )
        said = [f"seed {seed}: {value:.3g}" for seed, value in zip(seeds_S, values_S, strict=True)]
        say(axes, f"{level.title}, {arm}", np.stack([places_S, values_S], axis=1), said)


def draw_means(
    axes: Axes,
    values: Sequence[np.ndarray],
    levels: Sequence[BetaLevel],
    positions: Sequence[float] | np.ndarray,
    width: float | np.ndarray,
    intervals: bool = True,
) -> None:
    """A bar at each beta's mean over seeds, where there are seeds to average, and its 95 % interval."""
    for level, position, half, values_S in zip(
        levels, positions, np.broadcast_to(width, len(levels)), values, strict=True
    ):
        if len(values_S) > 1 and not np.isnan(values_S).all():
            mean = np.nanmean(values_S)
            axes.plot([position - half, position + half], [mean, mean], color=level.colour, linewidth=2.2)
            if intervals:
                draw_interval(axes, float(position), values_S, level.colour)


def share_y(panels: Sequence[Axes], values: np.ndarray) -> None:
    """One vertical scale for all panels; symmetric-logarithmic where a value is too large for a linear one."""
    if not values.size:
        return
    low, high = float(values.min()), float(values.max())
    symlog = max(abs(low), abs(high)) > SYMLOG_ABOVE
    margin = 0.06 * (high - low) or 0.5
    for axes in panels:
        if symlog:
            axes.set_yscale("symlog", linthresh=1.0)
            axes.set_ylim(min(1.5 * low, -0.5) if low < 0 else -0.1, max(3 * high, 1.0))
        else:
            axes.set_ylim(low - margin, high + margin)


def legend_below(figure: Figure, handles: Sequence[Line2D]) -> None:
    """One legend for the whole figure, under its panels."""
    columns = min(len(handles), int(figure.get_figwidth() / INCHES_PER_LEGEND_ENTRY))
    figure.legend(handles=list(handles), loc="outside lower center", ncols=columns, fontsize=8.5)


def arm_handles(levels: Sequence[BetaLevel], arms: Arms, seeds: int, lines: bool = True) -> list[Line2D]:
    """Legend entries of ``draw_arms``; the primary arm's stand in the middle beta's colour.

    Args:
        lines: whether every seed has one.
    """
    colour, mean = levels[len(levels) // 2].colour, ", mean and 95 %" if seeds > 1 else ""
    handles = [Line2D([], [], color=colour, linewidth=2.1, label=f"{arms.primary}{mean}")]
    if seeds > 1 and lines:
        handles.append(Line2D([], [], color=colour, linewidth=0.8, alpha=0.7, label=f"{arms.primary}, one seed"))
    for arm in arms.contrasts:
        handles.append(Line2D([], [], linewidth=2.1, label=f"{arm}{mean}", **_contrast_style(arm, arms)))
    return handles


def dash(label: str, colour: str, style: Any = DASHES) -> Line2D:
    return Line2D([], [], color=colour, linestyle=style, linewidth=1.2, label=label)


def dot(label: str, colour: str, filled: bool = True) -> Line2D:
    face = colour if filled else "white"
    return Line2D([], [], linestyle="", marker="o", color=colour, markerfacecolor=face, markersize=5, label=label)


def mean_handles(cells: pd.DataFrame) -> list[Line2D]:
    """Legend entry of ``draw_means``, where there are seeds to average."""
    several = cells["seed"].nunique() > 1
    return [Line2D([], [], color=INK, linewidth=2.2, label="mean over seeds, 95 %")] if several else []


def beta_handles(levels: Sequence[BetaLevel]) -> list[Line2D]:
    """Which hue is which beta."""
    return [Line2D([], [], color=level.colour, linewidth=4, label=level.title) for level in levels]

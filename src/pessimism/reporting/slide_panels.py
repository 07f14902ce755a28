"""Panels that a slide or a column has room for: few lines, sizes from the style, colours as in the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rcParams
from matplotlib.axes import Axes
from matplotlib.lines import Line2D

from pessimism.measures.intervals import t_quantile
from pessimism.reporting.curves import GREY, INK, Arms, BetaLevel, Series, seed_offsets, series

REWARDS = {"proxy_reward_change": ("proxy reward", "-"), "true_reward_change": ("true reward", (0, (2.5, 1.2)))}
"""Columns of the held-out table: what they are called, and their line."""
THRESHOLD = (0, (1, 1.5))
BAND, FAINT = 0.2, 0.35
SPREAD = 0.14  # of the seeds of one beta, in ticks
HALF_BAR = 0.26


def rewards(axes: Axes, heldout: pd.DataFrame, level: BetaLevel, arms: Arms) -> None:
    """Change of proxy and true reward over steps, mean and 95 % band over seeds; the placebo's in grey."""
    for column, (_, line) in REWARDS.items():
        if arms.placebo is not None:
            axes.plot(*_mean(series(heldout, column, level.label, arms.placebo)), color=GREY, linestyle=line)
        _with_band(axes, series(heldout, column, level.label, arms.primary), color=level.colour, linestyle=line)
    _over_steps(axes)


def gap(axes: Axes, heldout: pd.DataFrame, level: BetaLevel, arms: Arms, threshold: float) -> None:
    """The controlled gap over steps, every seed and their mean; the placebo's mean in grey, and the threshold."""
    axes.axhline(threshold, color=INK, linestyle=THRESHOLD, linewidth=_width(0.5))
    if arms.placebo is not None:
        axes.plot(*_mean(series(heldout, "controlled_gap", level.label, arms.placebo)), color=GREY)
    runs = series(heldout, "controlled_gap", level.label, arms.primary)
    axes.plot(runs.steps_T, runs.values_S_T.T, color=level.colour, linewidth=_width(0.4), alpha=FAINT)
    _with_band(axes, runs, color=level.colour)
    _over_steps(axes)


def contrast(axes: Axes, values: Sequence[Mapping[str, Any]], levels: Sequence[BetaLevel], paired: bool) -> None:
    """A number of every run over beta, and the mean at each; runs of one seed are joined where seeds are paired.

    Args:
        values: ``values`` of a contrast: label, seed and value of each run.
    """
    table = pd.DataFrame(values).pivot(index="seed", columns="label", values="value")[[x.label for x in levels]]
    values_S_K, ticks = table.to_numpy(float), np.arange(len(levels), dtype=float)
    places_S_K = ticks + seed_offsets(len(values_S_K), SPREAD)[:, None]
    axes.axhline(0, color=INK, linewidth=_width(0.3))
    if paired:
        axes.plot(places_S_K.T, values_S_K.T, color=GREY, linewidth=_width(0.3), alpha=0.6)
    for tick, level in enumerate(levels):
        axes.plot(places_S_K[:, tick], values_S_K[:, tick], "o", color=level.colour, markeredgecolor="white")
        mean = values_S_K[:, tick].mean()
        axes.plot([tick - HALF_BAR, tick + HALF_BAR], [mean, mean], color=level.colour)
    axes.set_xticks(ticks, [level.label if pd.isna(level.beta) else f"{level.beta:.2g}" for level in levels])
    axes.set(xlabel="β", xlim=(-0.5, len(levels) - 0.5))


def handle(label: str, colour: str, **line: Any) -> Line2D:
    """A legend entry."""
    return Line2D([], [], color=colour, label=label, **line)


def _mean(runs: Series) -> tuple[np.ndarray, np.ndarray]:
    return runs.steps_T, runs.mean_T


def _with_band(axes: Axes, runs: Series, **style: Any) -> None:
    """The mean over seeds with its 95 % t interval at every step, and a mark where it was measured."""
    axes.plot(*_mean(runs), marker="o", **style)
    seeds = len(runs.values_S_T)
    if seeds > 1:
        half_T = t_quantile(seeds - 1) * runs.values_S_T.std(axis=0, ddof=1) / seeds**0.5
        low_T, high_T = runs.mean_T - half_T, runs.mean_T + half_T
        axes.fill_between(runs.steps_T, low_T, high_T, color=style["color"], alpha=BAND, linewidth=0)


def _over_steps(axes: Axes) -> None:
    axes.axhline(0, color=INK, linewidth=_width(0.3))
    axes.set_xlabel("training step")


def _width(share: float) -> float:
    """A share of the style's width of a line, in points."""
    return share * rcParams["lines.linewidth"]

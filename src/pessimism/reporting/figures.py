"""The paper's figures 3 to 6 from our tables, each with the controlled measure beside or below the paper's.

Every figure shows every seed; colour is beta, grey is the placebo arm, black dashes any other arm of comparison.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from pessimism.measures.goodhart import hacking_onset
from pessimism.reporting.curves import (
    GREY,
    INK,
    Arms,
    BetaLevel,
    Series,
    axis_label,
    beta_levels,
    series,
    values_per_beta,
)
from pessimism.reporting.drawing import (
    DANGER,
    DASHES,
    FIGURE_DPI,
    PANEL_WIDTH,
    SAFE,
    Row,
    arm_handles,
    dash,
    dot,
    draw_means,
    draw_per_beta,
    draw_rows,
    legend_below,
    make_grid,
    mean_handles,
    scatter,
    share_y,
)

INCHES_PER_BETA = 0.6
DECADE, LOG_MARGIN = 10, 1.5
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
}


def save(draw: Callable[[], Figure], path: Path) -> None:
    """Draw and write one figure as PNG; equal input gives equal bytes on one version of matplotlib."""
    with matplotlib.rc_context(STYLE):
        figure = draw()
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata={"Software": None})


def gap_figure(
    gaps: pd.DataFrame, heldout: pd.DataFrame, arms: Arms, thresholds: tuple[float | None, float | None]
) -> Figure:
    """Figure 3, and the controlled gap below it: one column per beta, with the threshold and every seed's onset.

    Args:
        thresholds: of the paper's gap and of the controlled one; None = no gap was positive.
    """
    levels = beta_levels(gaps)
    rows = [
        _gap_row(gaps, "goodhart_gap", "paper: Goodhart gap", arms.primary, thresholds[0]),
        _gap_row(heldout, "controlled_gap", "controlled gap (base sd)", arms.primary, thresholds[1]),
    ]
    figure = draw_rows(rows, levels, arms)
    marked = any(threshold is not None for threshold in thresholds)
    marks = [dash("threshold", DANGER), _onset_handle()] if marked else []
    legend_below(figure, [*arm_handles(levels, arms, seeds=gaps["seed"].nunique()), *marks])
    return figure


def _gap_row(table: pd.DataFrame, column: str, label: str, arm: str, threshold: float | None) -> Row:
    def decorate(axes: Axes, level: BetaLevel) -> None:
        axes.axhline(0, color=INK, linewidth=0.6)
        if threshold is not None:
            axes.axhline(threshold, color=DANGER, linewidth=1, linestyle=DASHES)
            _mark_onsets(axes, series(table, column, level.label, arm), threshold)

    return Row(table, column, label, decorate, shown=[0.0] if threshold is None else [0.0, threshold])


def heldout_figure(heldout: pd.DataFrame, arms: Arms, base: Mapping[str, Any]) -> Figure:
    """Proxy and true reward on problems never trained on, one column per beta; the dotted line is the base policy."""
    levels = beta_levels(heldout)
    rows = [
        _reward_row(heldout, "proxy_reward", "held-out proxy reward", base),
        _reward_row(heldout, "true_reward", "held-out true reward (accuracy)", base),
    ]
    figure = draw_rows(rows, levels, arms)
    handles = arm_handles(levels, arms, seeds=heldout["seed"].nunique())
    legend_below(figure, [*handles, dash("base policy", INK, ":")])
    return figure


def _reward_row(heldout: pd.DataFrame, column: str, label: str, base: Mapping[str, Any]) -> Row:
    def decorate(axes: Axes, level: BetaLevel) -> None:
        axes.axhline(base[column], color=INK, linewidth=1, linestyle=":")

    return Row(heldout, column, label, decorate, shown=[base[column]])


def entropy_figure(cells: pd.DataFrame, arm: str, entropy_tokens: str) -> Figure:
    """Figure 4: entropy of the DPO checkpoints and how much of it went online; below, over the responses' tokens."""
    kinds = [("", entropy_tokens)] + ([("response_", "response")] if entropy_tokens != "response" else [])
    figure, grid = make_grid(len(kinds), 2, width=_width_for_betas(cells))
    for (left, right), (prefix, tokens) in zip(grid, kinds, strict=True):
        draw_per_beta(left, cells, f"{prefix}entropy_dpo", arm)
        left.set(title=f"DPO checkpoint, {tokens} tokens", ylabel="entropy (nats per token)")
        draw_per_beta(right, cells, f"{prefix}entropy_collapse", arm)
        right.axhline(0, color=INK, linewidth=0.8)
        right.set(title=f"Lost online, {tokens} tokens", ylabel="entropy lost (nats per token)")
    return figure


def representation_figure(cells: pd.DataFrame, arm: str) -> Figure:
    """Figure 6: distance of responses from the reward model's data, and their diversity; below, the controlled ones."""
    figure, grid = make_grid(2, 2, width=_width_for_betas(cells))
    quantities = (
        ("ood_cosine_distance", "Distance, as the paper takes it", "cosine distance"),
        ("response_diversity", "Diversity, as the paper takes it", "cosine distance"),
        ("ood_mahalanobis_distance", "Distance, all members", "Mahalanobis distance"),
        ("within_prompt_diversity", "Diversity within a prompt, all members", "cosine distance"),
    )
    for axes, (column, title, label) in zip(grid.flat, quantities, strict=True):
        draw_per_beta(axes, cells, column, arm, after=f"{column}_online")
        axes.set(title=title, ylabel=label)
    dots = [dot("DPO checkpoint, one seed", INK), dot("after the online run", INK, filled=False)]
    legend_below(figure, dots + mean_handles(cells))
    return figure


def power_law_figure(cells: pd.DataFrame, curve: pd.DataFrame, power_law: Mapping[str, Any], arms: Arms) -> Figure:
    """Figure 5: AUGC over beta, the fitted curve where there is one, and the zones on either side of beta*.

    On the right the controlled AUGC of the same runs.
    """
    levels = beta_levels(cells)
    figure, grid = make_grid(1, 2, width=4.6, height=3.4)
    left, controlled = grid[0]
    star = power_law.get("beta_star_over_grid")
    limits = _beta_limits([level.beta for level in levels], star)
    right = limits[1]
    fitted = curve[(curve["kind"] == "curve") & (curve["beta"] <= right)]
    left.plot(fitted["beta"], fitted["augc"], color=INK, linewidth=1.3)
    if star is not None:
        left.axvspan(limits[0], star, color=SAFE, alpha=0.09, linewidth=0)
        left.axvspan(star, right, color=DANGER, alpha=0.09, linewidth=0)
        left.axvline(star, color=DANGER, linewidth=1, linestyle=DASHES)
    _augc_over_beta(left, cells, "augc", arms, limits)
    share_y([left], np.concatenate([[0.0], cells["augc"], fitted["augc"]]))
    left.set(title="Paper", ylabel="AUGC (gap × steps)")
    _augc_over_beta(controlled, cells, "controlled_augc", arms, limits)
    share_y([controlled], np.append(cells["controlled_augc"].to_numpy(), 0.0))
    controlled.set(title="Controlled", ylabel="AUGC (base sd × steps)")
    legend_below(figure, _power_law_handles(cells, arms, star, has_curve=not fitted.empty))
    return figure


def _beta_limits(betas: Sequence[float], star: float | None) -> tuple[float, float]:
    """Ends of the axis of betas: from 0 where it is linear, from above 0 where it is logarithmic.

    It is logarithmic where the betas span more than a decade, which a linear one would crowd at its left end.
    """
    known = [beta for beta in betas if not math.isnan(beta)]
    if not known:
        return 0.0, 1.0
    shown = known if star is None else [*known, star]
    if max(known) > DECADE * min(known):
        return min(shown) / LOG_MARGIN, max(shown) * LOG_MARGIN
    return 0.0, 1.12 * max(shown)


def _augc_over_beta(axes: Axes, cells: pd.DataFrame, column: str, arms: Arms, limits: tuple[float, float]) -> None:
    left, right = limits
    levels = beta_levels(cells)
    # Without a beta there is one label, which stands in the middle.
    betas = np.array([right / 2 if math.isnan(level.beta) else level.beta for level in levels])
    if left > 0:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FuncFormatter(lambda beta, _: f"{beta:g}"))
    unit = betas * math.log(right / left) if left > 0 else np.full(len(betas), right)
    if arms.placebo in arms.contrasts:
        scatter(axes, cells, levels, arms.placebo, betas, 0.012 * unit, column=column, colour=GREY)
    scatter(axes, cells, levels, arms.primary, betas, 0.012 * unit, column=column)
    draw_means(axes, values_per_beta(cells, column, levels, arms.primary), levels, betas, 0.025 * unit)
    axes.set(xlim=limits, xlabel=axis_label(levels))
    if all(math.isnan(level.beta) for level in levels):
        axes.set_xticks(betas, [level.tick for level in levels])


def _width_for_betas(cells: pd.DataFrame) -> float:
    """Inches of a panel with one tick per beta, wide enough for the ticks' labels."""
    return max(1.25 * PANEL_WIDTH, INCHES_PER_BETA * cells["label"].nunique())


def _mark_onsets(axes: Axes, runs: Series, threshold: float) -> None:
    for gap_T in runs.values_S_T:
        onset = hacking_onset(runs.steps_T, gap_T, threshold)
        if onset is not None:
            height = gap_T[runs.steps_T == onset][0]
            axes.plot(onset, height, marker="v", color=DANGER, markersize=6, markeredgecolor="white", zorder=5)


def _power_law_handles(cells: pd.DataFrame, arms: Arms, star: float | None, has_curve: bool) -> list[Line2D]:
    handles = [dot(f"{arms.primary}, one seed", INK), *mean_handles(cells)]
    if arms.placebo in arms.contrasts:
        handles.append(dot("placebo, one seed", GREY))
    if has_curve:
        handles.append(Line2D([], [], color=INK, linewidth=1.3, label=r"$a\,\beta^{\,b} + c$"))
    if star is not None:
        handles.append(dash("β*: safe left, danger right", DANGER))
    return handles


def _onset_handle() -> Line2D:
    return Line2D([], [], linestyle="", marker="v", color=DANGER, markersize=6, label="onset")

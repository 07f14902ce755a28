"""The paper's figures 3 to 6 from our tables, and the held-out rewards that show whether hacking happened.

Every figure shows every seed; colour is beta, grey is the placebo arm, black dashes any other arm of comparison.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pessimism.analysis.goodhart import hacking_onset
from pessimism.reporting.curves import GREY, INK, PLACEBO, Series, beta_levels, series, values_per_beta
from pessimism.reporting.drawing import (
    COLUMNS,
    DANGER,
    DASHES,
    FIGURE_DPI,
    PANEL_WIDTH,
    SAFE,
    arm_handles,
    dash,
    dot,
    draw_arms,
    draw_means,
    draw_per_beta,
    drop_unused,
    label_edges,
    legend_below,
    make_grid,
    make_panels,
    mean_handles,
    scatter,
    share_y,
)

INCHES_PER_BETA = 0.6
SHOWN_QUANTILE = 0.99
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


def goodhart_gap_figure(gaps: pd.DataFrame, arms: Sequence[str], threshold: float | None) -> Figure:
    """Figure 3: the gap over steps, one panel per beta, with the hacking threshold and every seed's onset."""
    levels = beta_levels(gaps)
    figure, panels = make_panels(len(levels))
    for level, axes in zip(levels, panels, strict=True):
        draw_arms(axes, gaps, "goodhart_gap", level, arms)
        axes.axhline(0, color=INK, linewidth=0.6)
        if threshold is not None:
            axes.axhline(threshold, color=DANGER, linewidth=1, linestyle=DASHES)
            _mark_onsets(axes, series(gaps, "goodhart_gap", level.beta_percentile, arms[0]), threshold)
        axes.set_title(level.title, color=level.colour, fontweight="bold")
    share_y(panels, gaps["goodhart_gap"].to_numpy())
    label_edges(panels, "training step", "Goodhart gap G")
    marks = [] if threshold is None else [dash("threshold", DANGER), _onset_handle()]
    legend_below(figure, [*arm_handles(levels, arms, seeds=gaps["seed"].nunique()), *marks])
    return figure


def heldout_figure(heldout: pd.DataFrame, arms: Sequence[str], base: Mapping[str, Any]) -> Figure:
    """Proxy and true reward on problems never trained on, one column per beta; the dotted line is the base policy."""
    levels = beta_levels(heldout)
    quantities = (("proxy_reward", "proxy reward"), ("true_reward", "true reward (accuracy)"))
    columns = min(COLUMNS, len(levels))
    bands = -(-len(levels) // columns)
    figure, grid = make_grid(2 * bands, columns)
    for row, (column, label) in enumerate(quantities):
        panels = []
        for index, level in enumerate(levels):
            axes = grid[2 * (index // columns) + row, index % columns]
            draw_arms(axes, heldout, column, level, arms)
            axes.axhline(base[column], color=INK, linewidth=1, linestyle=":")
            if row == 0:
                axes.set_title(level.title, color=level.colour, fontweight="bold")
            else:
                axes.set_xlabel("training step")
            if index % columns == 0:
                axes.set_ylabel(f"held-out {label}")
            panels.append(axes)
        share_y(panels, np.append(heldout[column].to_numpy(), base[column]))
    drop_unused(grid)
    handles = arm_handles(levels, arms, seeds=heldout["seed"].nunique())
    legend_below(figure, [*handles, dash("base policy", INK, ":")])
    return figure


def entropy_figure(cells: pd.DataFrame, arm: str) -> Figure:
    """Figure 4: entropy of the DPO checkpoints, and how much of it the online phase took away."""
    figure, grid = make_grid(1, 2, width=_width_for_betas(cells))
    left, right = grid[0]
    draw_per_beta(left, cells, "entropy_dpo", arm)
    left.set(title="DPO checkpoint", ylabel="prompt entropy (nats per token)")
    draw_per_beta(right, cells, "entropy_collapse", arm)
    right.axhline(0, color=INK, linewidth=0.8)
    right.set(title="Collapse online (positive = lost)", ylabel="entropy lost (nats per token)")
    return figure


def representation_figure(cells: pd.DataFrame, arm: str) -> Figure:
    """Figure 6: distance of responses from the reward model's data, and their diversity."""
    figure, grid = make_grid(1, 2, width=_width_for_betas(cells))
    quantities = (
        ("ood_cosine_distance", "Distance from the reward model's data"),
        ("response_diversity", "Response diversity"),
    )
    for axes, (column, title) in zip(grid[0], quantities, strict=True):
        draw_per_beta(axes, cells, column, arm, after=f"{column}_online")
        axes.set(title=title, ylabel="cosine distance")
    dots = [dot("DPO checkpoint, one seed", INK), dot("after the online run", INK, filled=False)]
    legend_below(figure, dots + mean_handles(cells))
    return figure


def power_law_figure(
    cells: pd.DataFrame, curve: pd.DataFrame, power_law: Mapping[str, float], arms: Sequence[str]
) -> Figure:
    """Figure 5: AUGC over beta, the fitted curve where there is one, and the zones on either side of beta*."""
    levels = beta_levels(cells)
    figure, grid = make_grid(1, 1, width=6.0, height=3.6)
    axes = grid[0, 0]
    betas = [level.beta for level in levels]
    star = power_law.get("beta_star_over_grid")
    right = 1.12 * max([*betas, star or 0.0])
    fitted = curve[(curve["kind"] == "curve") & (curve["beta"] <= right)]
    axes.plot(fitted["beta"], fitted["augc"], color=INK, linewidth=1.3)
    if star is not None:
        axes.axvspan(0, star, color=SAFE, alpha=0.09, linewidth=0)
        axes.axvspan(star, right, color=DANGER, alpha=0.09, linewidth=0)
        axes.axvline(star, color=DANGER, linewidth=1, linestyle=DASHES)
    offset = 0.012 * right
    if PLACEBO in arms[1:]:
        scatter(axes, cells, levels, PLACEBO, betas, offset, colour=GREY)
    scatter(axes, cells, levels, arms[0], betas, offset)
    draw_means(axes, values_per_beta(cells, "augc", levels, arms[0]), levels, betas, 0.025 * right)
    axes.set(xlim=(0, right), xlabel="β", ylabel="AUGC (gap × steps)")
    share_y([axes], np.concatenate([[0.0], cells["augc"], fitted["augc"]]))
    legend_below(figure, _power_law_handles(cells, arms, star, has_curve=not fitted.empty))
    return figure


def beta_grid_figure(log_ratios: pd.DataFrame, cells: pd.DataFrame) -> Figure:
    """Distribution of the reference log-ratios that the betas are percentiles of (Eq. 6, 7), in both precisions.

    The highest hundredth of the pairs is cut off: its tail would flatten the rest.
    """
    figure, grid = make_grid(1, 1, width=6.6, height=2.8)
    axes = grid[0, 0]
    shown = log_ratios[log_ratios["quantile"] <= SHOWN_QUANTILE]
    styles: dict[str, dict[str, Any]] = {
        "float32": {"color": INK},
        "bfloat16": {"color": DANGER, "linestyle": (0, (3, 2))},
    }
    for precision, style in styles.items():
        rows = shown[shown["precision"] == precision]
        axes.plot(100 * rows["quantile"], rows["delta"], linewidth=1.3, label=precision, **style)
    for level in beta_levels(cells):
        axes.axvline(level.beta_percentile, color=level.colour, linewidth=1.6, label=level.title)
    axes.set(xlabel="percentile", ylabel="|log-ratio of a pair| (nats)", xlim=(0, 100), ylim=(0, None))
    figure.legend(loc="outside right upper")
    return figure


def _width_for_betas(cells: pd.DataFrame) -> float:
    """Inches of a panel with one tick per beta, wide enough for the ticks' labels."""
    return max(PANEL_WIDTH, INCHES_PER_BETA * cells["beta_percentile"].nunique())


def _mark_onsets(axes: Axes, runs: Series, threshold: float) -> None:
    for gap_T in runs.values_S_T:
        onset = hacking_onset(runs.steps_T, gap_T, threshold)
        if onset is not None:
            height = gap_T[runs.steps_T == onset][0]
            axes.plot(onset, height, marker="v", color=DANGER, markersize=6, markeredgecolor="white", zorder=5)


def _power_law_handles(cells: pd.DataFrame, arms: Sequence[str], star: float | None, has_curve: bool) -> list[Line2D]:
    handles = [dot(f"{arms[0]}, one seed", INK), *mean_handles(cells)]
    if PLACEBO in arms[1:]:
        handles.append(dot("placebo, one seed", GREY))
    if has_curve:
        handles.append(Line2D([], [], color=INK, linewidth=1.3, label=r"$a\,\beta^{\,b} + c$"))
    if star is not None:
        handles.append(dash("β*: safe left, danger right", DANGER))
    return handles


def _onset_handle() -> Line2D:
    return Line2D([], [], linestyle="", marker="v", color=DANGER, markersize=6, label="onset")

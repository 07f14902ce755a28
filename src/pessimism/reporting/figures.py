"""The paper's figures 3 to 6 from our tables, each with the controlled measure beside or below the paper's.

Every figure shows every seed; colour is beta, grey is the placebo arm, black dashes any other arm of comparison.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter

from pessimism.measures.goodhart import hacking_onset
from pessimism.published import printed
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
LEAST_SPAN = 0.1
PUBLISHED: dict[str, Any] = {
    "color": INK,
    "linestyle": "",
    "marker": "D",
    "markersize": 6,
    "markerfacecolor": "none",
    "zorder": 4,
}


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


def entropy_figure(cells: pd.DataFrame, arm: str, entropy_tokens: str, base: Mapping[str, Any]) -> Figure:
    """Figure 4: entropy of the DPO checkpoints and how much of it went online; below, over the responses' tokens.

    The level before and after the online run has an axis on which a small change looks small, and holds the base
    policy's; the changes have their own: what of it beta makes, against the lowest beta of the same seed, and what the
    online run takes.
    """
    kinds = [("", entropy_tokens)] + ([("response_", "response")] if entropy_tokens != "response" else [])
    figure, grid = make_grid(len(kinds), 3, width=_width_for_betas(cells))
    for (level, between, lost), (prefix, tokens) in zip(grid, kinds, strict=True):
        before, after = f"{prefix}entropy_dpo", f"{prefix}entropy_online"
        draw_per_beta(level, cells, before, arm, after=after)
        untrained = base[f"{tokens}_entropy"]
        level.axhline(untrained, color=INK, linewidth=1, linestyle=":")
        shown = cells.loc[cells["arm"] == arm, [before, after]].to_numpy(float)
        _at_least_wide(level, np.append(shown, untrained))
        level.set(title=f"Entropy, {tokens} tokens", ylabel="nats per token")
        draw_per_beta(between, against_lowest_beta(cells, before), before, arm)
        between.set(title="Checkpoint, against the lowest β", ylabel="change (nats per token)")
        draw_per_beta(lost, cells, f"{prefix}entropy_collapse", arm)
        lost.set(title="Lost online", ylabel="loss (nats per token)")
        for axes in (between, lost):
            axes.axhline(0, color=INK, linewidth=0.8)
    legend_below(figure, [*_before_and_after(), *mean_handles(cells), dash("base policy", INK, ":")])
    return figure


def against_lowest_beta(cells: pd.DataFrame, column: str) -> pd.DataFrame:
    """The cells with one quantity as its change against the lowest beta of the same seed and arm."""
    lowest = beta_levels(cells)[0].label
    start = cells[cells["label"] == lowest].set_index(["seed", "arm"])[column]
    keys = pd.MultiIndex.from_frame(cells[["seed", "arm"]])
    return cells.assign(**{column: cells[column].to_numpy(float) - start.reindex(keys).to_numpy(float)})


def _at_least_wide(axes: Axes, values: np.ndarray) -> None:
    """A vertical scale that spans at least a share of the level: on a closer one noise would look like an effect."""
    low, high, middle = np.nanmin(values), np.nanmax(values), np.nanmean(values)
    half = max(0.6 * (high - low), 0.5 * LEAST_SPAN * abs(middle))
    axes.set_ylim((low + high) / 2 - half, (low + high) / 2 + half)


def _before_and_after() -> list[Line2D]:
    return [dot("DPO checkpoint, one seed", INK), dot("after the online run", INK, filled=False)]


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
    legend_below(figure, [*_before_and_after(), *mean_handles(cells)])
    return figure


def power_law_figure(cells: pd.DataFrame, curve: pd.DataFrame, power_law: Mapping[str, Any], arms: Arms) -> Figure:
    """Figure 5: AUGC over beta, the fitted curve where there is one, and the zones on either side of beta*.

    With the published points; then the controlled AUGC of the same runs, and the area that the primary claim is about.
    """
    levels = beta_levels(cells)
    figure, grid = make_grid(1, 3, width=1.15 * PANEL_WIDTH, height=3.4)
    paper, controlled, judged = grid[0]
    star = power_law.get("beta_star_over_grid")
    has_betas = not all(math.isnan(level.beta) for level in levels)
    theirs = printed.BETAS if has_betas else ()
    limits = _beta_limits([level.beta for level in levels], star, [row.beta for row in theirs])
    right = limits[1]
    fitted = curve[(curve["kind"] == "curve") & (curve["beta"] <= right)]
    paper.plot(fitted["beta"], fitted["augc"], color=INK, linewidth=1.3)
    if star is not None:
        paper.axvspan(limits[0], star, color=SAFE, alpha=0.09, linewidth=0)
        paper.axvspan(star, right, color=DANGER, alpha=0.09, linewidth=0)
        paper.axvline(star, color=DANGER, linewidth=1, linestyle=DASHES)
    paper.plot([row.beta for row in theirs], [row.augc for row in theirs], **PUBLISHED)
    column, label = judged_area(cells[cells["arm"] == arms.primary])
    for axes, quantity, title, unit, others in (
        (paper, "augc", "AUGC, the paper's", "gap × steps", [*fitted["augc"], *(row.augc for row in theirs)]),
        (controlled, "controlled_augc", "AUGC, controlled", "base sd × steps", []),
        (judged, column, label, "base sd × steps", []),
    ):
        _augc_over_beta(axes, cells, quantity, arms, limits)
        shown = cells.loc[cells["arm"].isin([arms.primary, arms.placebo]), quantity].dropna()
        share_y([axes], np.array([0.0, *shown, *others]))
        axes.set(title=title, ylabel=unit)
    judged.axhline(0, color=INK, linewidth=0.6)
    legend_below(figure, _power_law_handles(cells, arms, star, has_curve=not fitted.empty, has_published=has_betas))
    return figure


def judged_area(primary: pd.DataFrame) -> tuple[str, str]:
    """The area that tells hacking from noise as far as the arms allow, and its name in a title."""
    if primary["controlled_signed_augc_excess"].notna().all():
        return "controlled_signed_augc_excess", "Signed area, above the placebo"
    return "controlled_signed_augc", "Signed area"


def _beta_limits(betas: Sequence[float], star: float | None, others: Sequence[float]) -> tuple[float, float]:
    """Ends of the axis of betas: from 0 where it is linear, from above 0 where it is logarithmic.

    It is logarithmic where the betas span more than a decade, which a linear one would crowd at its left end.

    Args:
        others: further betas that the axis holds, whatever they span.
    """
    known = [beta for beta in betas if not math.isnan(beta)]
    if not known:
        return 0.0, 1.0
    shown = [*known, *others, *([] if star is None else [star])]
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
    means = values_per_beta(cells, column, levels, arms.primary)
    # A t interval of an area that cannot be negative would reach below 0.
    draw_means(axes, means, levels, betas, 0.025 * unit, intervals="signed" in column)
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
            height = min(gap_T[runs.steps_T == onset][0], axes.get_ylim()[1])
            axes.plot(onset, height, marker="v", color=DANGER, markersize=6, markeredgecolor="white", zorder=5)


def _power_law_handles(
    cells: pd.DataFrame, arms: Arms, star: float | None, has_curve: bool, has_published: bool
) -> list[Line2D]:
    handles = [dot(f"{arms.primary}, one seed", INK), *mean_handles(cells)]
    if arms.placebo in arms.contrasts:
        handles.append(dot("placebo, one seed", GREY))
    if has_published:
        handles.append(Line2D([], [], label="published", **PUBLISHED))
    if has_curve:
        handles.append(Line2D([], [], color=INK, linewidth=1.3, label=r"$a\,\beta^{\,b} + c$"))
    if star is not None:
        handles.append(dash("β*: safe left, danger right", DANGER))
    return handles


def _onset_handle() -> Line2D:
    return Line2D([], [], linestyle="", marker="v", color=DANGER, markersize=6, label="onset")

"""Figures that the paper lacks: how conservative a checkpoint is, what disagreement knows, where beta is from."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from pessimism.experiment.cells import percentile_in
from pessimism.reporting.curves import INK, Arms, BetaLevel, beta_levels, seeds_per_beta, series, values_per_beta
from pessimism.reporting.drawing import (
    DANGER,
    DASHES,
    PANEL_WIDTH,
    Row,
    arm_handles,
    beta_handles,
    beta_ticks,
    dash,
    dot,
    draw_per_beta,
    draw_rows,
    legend_below,
    make_grid,
    mean_handles,
    say_paths,
    share_y,
)
from pessimism.reporting.figures import judged_area
from pessimism.reporting.marks import say

GAINS = (("proxy_reward_change", "proxy_gain", "proxy"), ("true_reward_change", "true_gain", "true"))
WIDE_TICKS = 4
SHOWN_QUANTILE = 0.99
CHANCE = 0.5


def conservatism_figure(primary: pd.DataFrame) -> Figure:
    """Realised conservatism of each checkpoint over the beta asked for, and hacking over realised conservatism."""
    arm, levels = str(primary["arm"].iloc[0]), beta_levels(primary)
    outcome, title = judged_area(primary)
    figure, grid = make_grid(2, 2, width=1.25 * PANEL_WIDTH)
    for (above, below), (column, name) in zip(
        grid.T,
        (
            ("kl_to_base", "KL to the base (nats)"),
            ("response_entropy_dpo", "entropy (nats per token)"),
        ),
        strict=True,
    ):
        draw_per_beta(above, primary, column, arm)
        above.set(ylabel=name, title="What the checkpoint is, over the β asked for")
        _scatter_over(below, primary, column, outcome)
        below.set(xlabel=f"{name}, DPO checkpoint", ylabel="base sd × steps", title=f"Hacking: {title.lower()}")
    legend_below(figure, [*beta_handles(levels), dot("one seed", INK), *mean_handles(primary)])
    return figure


def _scatter_over(axes: Axes, primary: pd.DataFrame, x: str, y: str) -> None:
    """One dot per run, in its beta's colour."""
    levels, arm = beta_levels(primary), str(primary["arm"].iloc[0])
    values = (values_per_beta(primary, column, levels, arm) for column in (x, y))
    for level, x_S, y_S, seeds in zip(levels, *values, seeds_per_beta(primary, levels, arm), strict=True):
        axes.scatter(x_S, y_S, s=30, color=level.colour, edgecolor="white", linewidth=0.6, zorder=3)
        texts = [f"seed {seed}: {x:.3g}, {y:.3g}" for seed, x, y in zip(seeds, x_S, y_S, strict=True)]
        say(axes, level.title, np.stack([x_S, y_S], axis=1), texts)
    axes.axhline(0, color=INK, linewidth=0.6)
    axes.xaxis.set_major_locator(MaxNLocator(WIDE_TICKS))


def equal_kl_figure(
    heldout: pd.DataFrame, cells: pd.DataFrame, record: Mapping[str, Any], arms: Sequence[str]
) -> Figure:
    """Change of both rewards over the distance gone, a row per arm, and what every beta had gained at one distance.

    Args:
        heldout: plots/heldout_rewards.csv.
        cells: plots/cells.csv.
        record: metrics/equal_kl.json.
        arms: those that learn.
    """
    levels = beta_levels(cells)
    figure, grid = make_grid(len(arms), 3, width=1.1 * PANEL_WIDTH)
    for row, arm in zip(grid, arms, strict=True):
        for axes, (column, gain, name) in zip(row, GAINS, strict=False):
            _draw_paths(axes, heldout, column, arm, levels)
            runs = cells[cells["arm"] == arm]
            _mark_at_kl(axes, runs, f"equal_kl_{gain}", record[arm]["kl"], levels)
            axes.set(title=f"{arm}: {name} reward", xlabel="KL to the DPO checkpoint (nats, root scale)")
        row[0].set_ylabel("change (base sd)")
        _draw_gains(row[2], record[arm], levels)
        row[2].set_title(f"{arm}: at KL {record[arm]['kl']:.3g}")
    shown = heldout.loc[heldout["arm"].isin(arms), [column for column, _, _ in GAINS]].to_numpy(float)
    share_y(list(grid[:, :2].flat), shown)
    gains = [record[arm]["by_label"][level.label][gain] for arm in arms for level in levels for _, gain, _ in GAINS]
    share_y(list(grid[:, 2]), np.array([[0.0, gain["low"], gain["high"]] for gain in gains]))
    colours = [dash(level.title, level.colour, "-") for level in levels]
    marks = [dash("KL that every run reaches", INK), dot("proxy", INK), dot("true", INK, filled=False)]
    legend_below(figure, [*colours, *marks])
    return figure


def _draw_paths(axes: Axes, heldout: pd.DataFrame, column: str, arm: str, levels: Sequence[BetaLevel]) -> None:
    """One line per run, in the order of its steps."""
    for level in levels:
        kl, change = (series(heldout, name, level.label, arm) for name in ("kl_k3", column))
        paths = kl.values_S_T.T, change.values_S_T.T
        axes.plot(*paths, color=level.colour, linewidth=1, alpha=0.6, marker="o", markersize=2.5)
        say_paths(axes, level, kl, change)
    axes.axhline(0, color=INK, linewidth=0.6)
    # A divergence grows as the square of a small step: over its root short ways are not crowded together.
    farthest = float(heldout.loc[heldout["arm"] == arm, "kl_k3"].max())
    axes.set_xscale("function", functions=(lambda kl: np.sqrt(np.maximum(kl, 0)), np.square))
    axes.set_xlim(0, 1.05 * farthest or 1.0)
    axes.xaxis.set_major_locator(MaxNLocator(WIDE_TICKS))


def _mark_at_kl(axes: Axes, runs: pd.DataFrame, column: str, kl: float, levels: Sequence[BetaLevel]) -> None:
    """The KL at which runs are compared, and a dot where each comes to it."""
    axes.axvline(kl, color=INK, linewidth=1, linestyle=DASHES)
    for level in levels:
        gain_S = runs.loc[runs["label"] == level.label, column]
        axes.scatter([kl] * len(gain_S), gain_S, s=18, color=level.colour, edgecolor="white", linewidth=0.6, zorder=4)


def _draw_gains(axes: Axes, found: Mapping[str, Any], levels: Sequence[BetaLevel]) -> None:
    """Mean of both gains per beta with its interval; the true reward's hollow."""
    for place, level in enumerate(levels):
        for shift, (_, gain, name) in zip((-0.13, 0.13), GAINS, strict=True):
            estimate, filled = found["by_label"][level.label][gain], name == "proxy"
            axes.plot([place + shift] * 2, [estimate["low"], estimate["high"]], color=level.colour, linewidth=1.4)
            axes.plot(
                place + shift,
                estimate["mean"],
                marker="o",
                markersize=5.5,
                color=level.colour,
                markerfacecolor=level.colour if filled else "white",
            )
    axes.axhline(0, color=INK, linewidth=0.6)
    beta_ticks(axes, levels)


def calibration_figure(disagreement: pd.DataFrame, heldout: pd.DataFrame, arms: Arms) -> Figure:
    """What the ensemble knows of right and wrong over steps, per beta; dotted: nothing.

    Rows: AUROC of its disagreement for wrong answers; correlation of the proxy with the true reward over problems;
    standard deviation of the proxy, which shows whether there is still a spread to learn from.
    """
    levels = beta_levels(disagreement)

    def line(height: float) -> Callable[[Axes, BetaLevel], None]:
        def decorate(axes: Axes, level: BetaLevel) -> None:
            axes.axhline(height, color=INK, linewidth=1, linestyle=":")

        return decorate

    rows = [
        Row(disagreement, "auroc", "AUROC for a wrong answer", line(CHANCE), shown=[CHANCE], seeds=False),
        Row(heldout, "proxy_true_correlation", "proxy-true Pearson r", line(0), shown=[0], seeds=False),
        Row(heldout, "proxy_reward_sd", "sd of the proxy", line(0), shown=[0], seeds=False),
    ]
    figure = draw_rows(rows, levels, arms)
    handles = arm_handles(levels, arms, seeds=disagreement["seed"].nunique(), lines=False)
    legend_below(figure, [*handles, dash("chance", INK, ":")])
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
        percentile = percentile_in(level.label)
        if percentile is not None:
            axes.axvline(percentile, color=level.colour, linewidth=1.6, label=level.title)
    axes.set(xlabel="percentile", ylabel="|log-ratio of a pair| (nats)", xlim=(0, 100), ylim=(0, None))
    figure.legend(loc="outside right upper")
    return figure

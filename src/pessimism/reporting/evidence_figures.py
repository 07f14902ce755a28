"""Figures that the paper lacks: how conservative a checkpoint is, what disagreement knows, where beta is from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pessimism.experiment.cells import percentile_in
from pessimism.reporting.curves import INK, Arms, BetaLevel, beta_levels, values_per_beta
from pessimism.reporting.drawing import (
    DANGER,
    PANEL_WIDTH,
    Row,
    arm_handles,
    dash,
    draw_per_beta,
    draw_rows,
    legend_below,
    make_grid,
)

SHOWN_QUANTILE = 0.99
CHANCE = 0.5


def conservatism_figure(primary: pd.DataFrame) -> Figure:
    """Realised conservatism of each checkpoint over the beta asked for, and hacking over realised conservatism."""
    arm = str(primary["arm"].iloc[0])
    above_placebo = primary["controlled_signed_augc_excess"].notna().all()
    outcome = "controlled_signed_augc_excess" if above_placebo else "controlled_signed_augc"
    label = "signed controlled AUGC" + (" above placebo" if above_placebo else "")
    figure, grid = make_grid(2, 2, width=1.25 * PANEL_WIDTH)
    for (above, below), (column, name) in zip(
        grid.T,
        (
            ("kl_to_base", "KL to the base (nats per response)"),
            ("response_entropy_dpo", "response entropy (nats per token)"),
        ),
        strict=True,
    ):
        draw_per_beta(above, primary, column, arm)
        above.set_ylabel(name)
        _scatter_over(below, primary, column, outcome)
        below.set(xlabel=f"{name}, DPO checkpoint", ylabel=label)
    return figure


def _scatter_over(axes: Axes, primary: pd.DataFrame, x: str, y: str) -> None:
    """One dot per run, in its beta's colour."""
    levels, arm = beta_levels(primary), str(primary["arm"].iloc[0])
    pairs = zip(values_per_beta(primary, x, levels, arm), values_per_beta(primary, y, levels, arm), strict=True)
    for level, (x_S, y_S) in zip(levels, pairs, strict=True):
        axes.scatter(x_S, y_S, s=30, color=level.colour, edgecolor="white", linewidth=0.6, zorder=3)
    axes.axhline(0, color=INK, linewidth=0.6)


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
        Row(disagreement, "auroc", "AUROC for a wrong answer", line(CHANCE), shown=[CHANCE]),
        Row(heldout, "proxy_true_correlation", "proxy-true Pearson r", line(0), shown=[0]),
        Row(heldout, "proxy_reward_sd", "sd of the proxy", line(0), shown=[0]),
    ]
    figure = draw_rows(rows, levels, arms)
    handles = arm_handles(levels, arms, seeds=disagreement["seed"].nunique())
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

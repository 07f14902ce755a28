"""Effects of beta with their intervals: hacking per beta and arm, the contrasts, every claim, and the way there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import shorten
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pessimism.claims.verdicts import DIRECTIONS, EITHER, FALLS
from pessimism.claims.wording import DOORS
from pessimism.reporting.claim_tables import BY, SYMBOLS, Claims, in_order
from pessimism.reporting.contrast_tables import HOLDS, Contrasts
from pessimism.reporting.curves import GREY, INK, Arms, BetaLevel, beta_levels, series, values_per_beta
from pessimism.reporting.drawing import (
    DANGER,
    SAFE,
    beta_handles,
    beta_ticks,
    dot,
    draw_means,
    legend_below,
    make_grid,
    mean_handles,
    say_paths,
    scatter,
)
from pessimism.reporting.figures import judged_area
from pessimism.scoring.measures import MEASURES

VERDICT_COLOURS = {"supported": SAFE, "contradicted": DANGER, "insufficient": GREY}
ROW_INCHES = 0.42
NAME_LENGTH = 78  # characters of 8.5 points beside one another in a panel
PALEST = 0.78  # share of white in the hue of the first step


def answer_figure(cells: pd.DataFrame, arms: Arms, contrasts: Contrasts) -> Figure:
    """The answer: hacking of every seed over beta, one group of dots per arm that learns, and what beta does to it."""
    levels = beta_levels(cells)
    learning = [arm for arm in arms.names if arm != arms.placebo]
    column, title = judged_area(cells[cells["arm"].isin(learning)])
    figure, grid = make_grid(1, 2, width=4.9, height=3.2)
    left, right = grid[0]
    width = 0.6 / len(learning)
    for place, arm in enumerate(learning):
        ticks = np.arange(len(levels)) + width * (place - (len(learning) - 1) / 2)
        scatter(left, cells, levels, arm, ticks, 0.25 * width, column=column, filled=arm == arms.primary)
        draw_means(left, values_per_beta(cells, column, levels, arm), levels, ticks, 0.35 * width)
    left.axhline(0, color=INK, linewidth=0.8)
    beta_ticks(left, levels)
    left.set(title=f"Hacking: {title[0].lower()}{title[1:]}", ylabel="base sd × steps")
    _draw_contrasts(right, contrasts)
    others = [dot(f"{', '.join(learning[1:])}, one seed", INK, filled=False)] if learning[1:] else []
    legend_below(figure, [dot(f"{arms.primary}, one seed", INK), *others, *mean_handles(cells)])
    return figure


def _draw_contrasts(axes: Axes, contrasts: Contrasts) -> None:
    """One row per contrast, in the colour of its verdict."""
    axes.axvline(0, color=INK, linewidth=0.8)
    for row, (name, door) in enumerate(DOORS.items()):
        found = contrasts[name]
        tested = found["estimate"] is not None and found["interval"] is not None
        colour = VERDICT_COLOURS[HOLDS[found["verdict"]]] if tested else GREY
        _name_row(axes, row, f"{door}: {found['verdict'] if tested else 'not tested'}", colour)
        if tested:
            axes.plot(found["interval"], [row, row], color=colour, linewidth=2)
            axes.plot(found["estimate"], row, marker="o", markersize=7, color=colour)
    axes.set(ylim=(len(DOORS) - 0.5, -0.6), yticks=[], xlabel="highest minus lowest β (base sd × steps)")
    axes.set_title("What β does to it")
    axes.spines["left"].set_visible(False)
    axes.margins(x=0.1)


def claims_figure(claims: Claims) -> Figure:
    """Every claim's difference between the highest and the lowest beta, a panel per measure, in one unit.

    The unit is the standard deviation of the seeds of one beta; to the right is the direction that the paper states.
    """
    shown = [name for name in in_order(claims) if any(_effect(claims[name], by) is not None for by in MEASURES)]
    figure, grid = make_grid(1, len(MEASURES), width=4.7, height=0.9 + ROW_INCHES * max(len(shown), 1))
    for axes, measure in zip(grid[0], MEASURES, strict=True):
        axes.axvline(0, color=INK, linewidth=0.8)
        for row, name in enumerate(shown):
            _name_row(axes, row, f"{name}: {claims[name]['statement']}", INK)
            _draw_effect(axes, row, claims[name], measure)
        axes.set(ylim=(len(shown) - 0.6, -0.7), yticks=[], title=BY[measure].capitalize())
        axes.set_xlabel("highest minus lowest β, in sd of seeds\n(right: as the paper says)")
        axes.spines["left"].set_visible(False)
    verdicts = zip(("supported", "contradicted", "open"), VERDICT_COLOURS.values(), strict=True)
    legend_below(figure, [Line2D([], [], color=colour, linewidth=4, label=said) for said, colour in verdicts])
    return figure


def _name_row(axes: Axes, row: int, text: str, colour: str) -> None:
    """A row's name over its interval, from the left edge of the panel, as far as there is room."""
    place: dict[str, Any] = {"xycoords": ("axes fraction", "data"), "fontsize": 8.5, "color": colour}
    said = shorten(text.replace("beta", "β"), NAME_LENGTH, placeholder=" …")
    name = axes.annotate(said, (0.0, row - 0.28), bbox={"color": "white", "alpha": 0.8, "pad": 1}, **place)
    name.set_in_layout(False)


def _draw_effect(axes: Axes, row: int, claim: Mapping[str, Any], measure: str) -> None:
    effect, colour = _effect(claim, measure), VERDICT_COLOURS[str(claim[measure]["verdict"])]
    if effect is not None:
        axes.plot(effect[1:], [row, row], color=colour, linewidth=2)
        axes.plot(effect[0], row, marker="o", markersize=6.5, color=colour)


def _effect(claim: Mapping[str, Any], measure: str) -> np.ndarray | None:
    """(3,) difference and its interval in standard deviations of the seeds; None where there is no such difference.

    Nor is there a direction to draw where the paper states none.
    """
    found = claim[measure]
    if claim["predicted"] == DIRECTIONS[EITHER]:
        return None
    if found["estimate"] is None or found["interval"] is None or found["quantity"] in SYMBOLS:
        return None
    spread = _spread_of_seeds(found["values"])
    if not spread:
        return None
    sign = -1.0 if claim["predicted"] == DIRECTIONS[FALLS] else 1.0
    return sign * np.array([found["estimate"], *found["interval"]]) / spread


def _spread_of_seeds(values: Sequence[Mapping[str, Any]]) -> float | None:
    """Pooled standard deviation over the seeds within a beta; None where no beta has two of them."""
    table = pd.DataFrame(values)
    within = table.groupby("label")["value"].var().dropna() if "value" in table else pd.Series(dtype=float)
    return float(np.sqrt(within.mean())) if within.size else None


def portrait_figure(heldout: pd.DataFrame, arms: Arms) -> Figure:
    """Phase portrait: change of the true over that of the proxy reward, a path per seed, paler where it begins.

    One panel per arm that learns. On the dotted line both rewards change alike; below it the gap is positive.
    """
    levels = beta_levels(heldout)
    learning = [arm for arm in arms.names if arm != arms.placebo] or list(arms.names)
    figure, grid = make_grid(1, len(learning), width=4.4, height=3.8)
    shown = heldout[heldout["arm"].isin(learning)]
    for axes, arm in zip(grid[0], learning, strict=True):
        for level in levels:
            _draw_portrait(axes, heldout, arm, level)
        axes.axhline(0, color=INK, linewidth=0.6)
        axes.axvline(0, color=INK, linewidth=0.6)
        axes.axline((0, 0), slope=1, color=INK, linewidth=1, linestyle=":")
        axes.set(title=arm, xlabel="proxy reward, change (base sd)")
        for setter, column in ((axes.set_xlim, "proxy_reward_change"), (axes.set_ylim, "true_reward_change")):
            low, high = min(shown[column].min(), 0.0), max(shown[column].max(), 0.0)
            margin = 0.08 * (high - low) or 0.5
            setter(low - margin, high + margin)
    grid[0, 0].set_ylabel("true reward, change (base sd)")
    marks = [Line2D([], [], color=INK, linestyle=":", label="both change alike: gap 0"), dot("last evaluation", INK)]
    legend_below(figure, [*beta_handles(levels), *marks])
    return figure


def _draw_portrait(axes: Axes, heldout: pd.DataFrame, arm: str, level: BetaLevel) -> None:
    """Seeds thin, their mean thick, both from a pale hue at the first step to the full one at the last."""
    proxy, true = (series(heldout, f"{reward}_reward_change", level.label, arm) for reward in ("proxy", "true"))
    paths_T = [np.stack(pair, axis=1) for pair in zip(proxy.values_S_T, true.values_S_T, strict=True)]
    mean_T = np.stack([proxy.mean_T, true.mean_T], axis=1)
    paleness = np.linspace(PALEST, 0.0, max(len(mean_T) - 1, 1))[:, None]
    colours = paleness + (1 - paleness) * np.array(to_rgb(level.colour))
    for path_T, width in [*((path_T, 0.7) for path_T in paths_T), (mean_T, 2.4)]:
        pieces = np.stack([path_T[:-1], path_T[1:]], axis=1)
        axes.add_collection(LineCollection(list(pieces), colors=list(colours), linewidths=width))
    axes.plot(*mean_T[-1], marker="o", markersize=7, color=level.colour, markeredgecolor="white", zorder=5)
    say_paths(axes, level, proxy, true)

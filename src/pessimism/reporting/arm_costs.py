"""What each arm saves in hacking and costs in true reward, both above the placebo of the same checkpoints.

A seed is one unit: its betas are averaged first. Intervals are 95 % t intervals over seeds; those against the primary
arm are of differences within seeds, which meet the same checkpoints, problems and draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.params import Params
from pessimism.measures.intervals import t_interval
from pessimism.reporting.captions import described
from pessimism.reporting.curves import GREY
from pessimism.reporting.drawing import legend_below, make_grid
from pessimism.reporting.tables import bounds, number

HACKING, TRUE = "controlled_signed_augc_excess", "heldout_true_reward_change_excess"
"""Columns of plots/cells.csv: base sd x steps, higher = more hacking; accuracy at the end, higher = better."""
KEYS = ("label", "seed", "arm")
QUANTITIES = ("hacking", "true_reward", "hacking_saved", "true_reward_gained")
_PANEL_INCHES = (6.4, 4.2)
_MARKERS = "osD^vP*X<>"


def arm_costs(cells: pd.DataFrame, params: Params) -> pd.DataFrame:
    """One row per arm that learns, in the order of params.yaml.

    Args:
        cells: plots/cells.csv.

    Returns:
        ``arm``, ``described``, ``seeds`` and QUANTITIES, each with ``_low`` and ``_high``, nan with one seed:
        ``hacking`` and ``true_reward`` above the placebo (HACKING, TRUE), ``hacking_saved``, the primary arm's hacking
        minus this one's, and ``true_reward_gained``, this one's true reward minus the primary arm's.

    Raises:
        DataError: there is no placebo, or the table is of another design.
    """
    if params.placebo is None:
        raise DataError(f"{layout.PARAMS}: arms: found no placebo in {list(params.arms)}; expected one to compare with")
    found = set(cells[list(KEYS)].itertuples(index=False, name=None))
    if found != {(cell.label, cell.seed, cell.arm) for cell in params.online_cells()}:
        raise DataError(
            f"{layout.CELL_SCORES}: found other runs than {layout.PARAMS} lists; expected its results: run `dvc repro`"
        )
    arms = [arm for arm in params.arms if not params.arm(arm).is_placebo]
    hacking, true = ({arm: _by_seed(cells, arm, column) for arm in arms} for column in (HACKING, TRUE))
    first = params.primary_arm
    rows = []
    for arm in arms:
        values = (hacking[arm], true[arm], hacking[first] - hacking[arm], true[arm] - true[first])
        named = {"arm": arm, "described": described(params.arm(arm)), "seeds": len(params.seeds)}
        estimates = [_estimate(name, values_S) for name, values_S in zip(QUANTITIES, values, strict=True)]
        rows.append(named | {key: value for estimate in estimates for key, value in estimate.items()})
    return pd.DataFrame(rows)


def _by_seed(cells: pd.DataFrame, arm: str, column: str) -> np.ndarray:
    """(S,) mean over the checkpoints of each seed."""
    return cells[cells["arm"] == arm].groupby("seed")[column].mean().to_numpy(dtype=float)


def _estimate(name: str, values_S: np.ndarray) -> dict[str, float]:
    interval = t_interval(values_S)
    low, high = (np.nan, np.nan) if interval is None else (interval.low, interval.high)
    return {name: float(values_S.mean()), f"{name}_low": low, f"{name}_high": high}


def markdown(costs: pd.DataFrame, primary: str) -> str:
    """The table, an interval behind each number."""
    header = [
        "arm",
        "hacking",
        "true reward",
        f"hacking saved against {primary}",
        f"true reward gained against {primary}",
    ]
    rows = [
        [str(row["arm"]), *(_with_interval(row, name, blank=row["arm"] == primary) for name in QUANTITIES)]
        for _, row in costs.iterrows()
    ]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, ["---"] * len(header), *rows))


def _with_interval(row: pd.Series, name: str, blank: bool) -> str:
    """A number with its interval; nothing where ``blank`` and the number compares an arm with itself."""
    if blank and name in QUANTITIES[2:]:
        return ""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    interval = "" if np.isnan(low) else f" {bounds((low, high))}"
    return f"{number(row[name], signed=True)}{interval}"


def cost_figure(costs: pd.DataFrame) -> Figure:
    """One point per arm: hacking to the right, true reward upwards, the placebo where the lines cross."""
    figure, grid = make_grid(1, 1, *_PANEL_INCHES)
    axes = grid[0, 0]
    axes.axvline(0, color=GREY, linewidth=0.8)
    axes.axhline(0, color=GREY, linewidth=0.8)
    handles = []
    for index, (_, row) in enumerate(costs.iterrows()):
        style: dict[str, Any] = {"color": colormaps["tab10"](index % 10), "marker": _MARKERS[index % len(_MARKERS)]}
        errors: dict[str, Any] = {"xerr": _error(row, "hacking"), "yerr": _error(row, "true_reward")}
        axes.errorbar(row["hacking"], row["true_reward"], **errors, **style, markersize=7, linewidth=0.9, alpha=0.85)
        handles.append(Line2D([], [], linestyle="", markersize=7, label=str(row["arm"]), **style))
    axes.set_xlabel("controlled signed AUGC above the placebo\n(base sd × steps; right = more hacking)")
    axes.set_ylabel("final true reward above the placebo\n(accuracy; up = better)")
    axes.set_title(_title(costs["seeds"].iloc[0]))
    legend_below(figure, handles)
    return figure


def _title(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"mean and 95 % interval over {seeds} seeds"


def _error(row: pd.Series, name: str) -> Sequence[Sequence[float]] | None:
    """Lengths of an error bar below and above its point."""
    low, high = row[f"{name}_low"], row[f"{name}_high"]
    return None if np.isnan(low) else [[row[name] - low], [high - row[name]]]

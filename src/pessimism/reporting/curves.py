"""What the figures draw, taken out of the tables: series per seed, their mean, values per beta, and one palette."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from pessimism.experiment.cells import percentile_in, strength_in
from pessimism.measures.intervals import Interval, t_interval

GREY = "#9a9a9a"
INK = "#222222"
_LIGHTEST = 0.68  # viridis above this is too pale on white


@dataclass(frozen=True)
class BetaLevel:
    """One beta of the design, with the colour it has in every figure."""

    label: str
    beta: float
    colour: str

    @property
    def tick(self) -> str:
        """Under an axis of betas; a label that spells its beta is not said twice."""
        if math.isnan(self.beta):
            return self.label
        return f"{self.beta:.3g}" if strength_in(self.label) else f"{self.beta:.3g}\n{self.label}"

    @property
    def title(self) -> str:
        if math.isnan(self.beta):
            return self.label
        return f"β = {self.beta:.3g}" if strength_in(self.label) else f"β = {self.beta:.3g}  ({self.label})"


def beta_levels(cells: pd.DataFrame) -> list[BetaLevel]:
    """The betas of the design, ascending; colours run from dark (low beta) to light (high beta)."""
    pairs = cells[["label", "beta"]].drop_duplicates().sort_values(["beta", "label"])
    positions = np.linspace(0.0, _LIGHTEST, len(pairs)) if len(pairs) > 1 else [_LIGHTEST / 2]
    colours = [to_hex(colormaps["viridis"](position)) for position in positions]
    return [
        BetaLevel(str(label), float(beta), colour)
        for (label, beta), colour in zip(pairs.itertuples(index=False), colours, strict=True)
    ]


def axis_label(levels: Sequence[BetaLevel], with_percentiles: str = "β") -> str:
    """What stands under an axis of betas.

    Args:
        levels: at the ticks.
        with_percentiles: where the tick of a beta says its percentile too.
    """
    if all(math.isnan(level.beta) for level in levels):
        return "objective without strength"
    return with_percentiles if any(percentile_in(level.label) is not None for level in levels) else "β"


@dataclass(frozen=True)
class Series:
    """One quantity of one beta and arm over training steps.

    Attributes:
        name: of what is drawn, as a reader is told of it.
        seeds: S of them, in the design's order.
        steps_T: (T,) measured steps.
        values_S_T: (S, T) one row per seed.
        axis: what stands in the place of steps.
    """

    name: str
    seeds: Sequence[int]
    steps_T: np.ndarray
    values_S_T: np.ndarray
    axis: str = "step"

    @property
    def mean_T(self) -> np.ndarray:
        return self.values_S_T.mean(axis=0)

    @property
    def band_T(self) -> tuple[np.ndarray, np.ndarray] | None:
        """Ends of the 95 % t interval over seeds at every step, both (T,), nan where a seed has no value.

        None where there is one seed.
        """
        if len(self.values_S_T) == 1:
            return None
        ends = [finite_interval(values_S) for values_S in self.values_S_T.T]
        low_T, high_T = np.array(
            [(math.nan, math.nan) if found is None else (found.low, found.high) for found in ends]
        ).T
        return low_T, high_T


def finite_interval(values_S: np.ndarray) -> Interval | None:
    """The 95 % t interval of a mean over seeds; None where there is one seed, or one without a value."""
    return t_interval(values_S) if np.isfinite(values_S).all() else None


def series(table: pd.DataFrame, column: str, label: str, arm: str) -> Series:
    """Take one quantity of one beta and arm out of a table with one row per cell and step."""
    runs = table[(table["label"] == label) & (table["arm"] == arm)]
    by_seed = runs.pivot(index="seed", columns="step", values=column).reindex(runs["seed"].unique())
    return Series(arm, list(by_seed.index), by_seed.columns.to_numpy(), by_seed.to_numpy(dtype=float))


def values_per_beta(cells: pd.DataFrame, column: str, levels: Sequence[BetaLevel], arm: str) -> list[np.ndarray]:
    """Values of ``column`` of every seed, one (S,) array per beta; nan where a run has none."""
    runs = cells[cells["arm"] == arm]
    found = [runs.loc[runs["label"] == level.label, column] for level in levels]
    return [values.astype("Float64").to_numpy(float, na_value=np.nan) for values in found]


def seeds_per_beta(cells: pd.DataFrame, levels: Sequence[BetaLevel], arm: str) -> list[list[int]]:
    """The seeds of :func:`values_per_beta`."""
    runs = cells[cells["arm"] == arm]
    return [runs.loc[runs["label"] == level.label, "seed"].tolist() for level in levels]


def seed_offsets(seeds: int, width: float) -> np.ndarray:
    """(S,) horizontal offsets that keep points of equal height apart; the same seed always has the same one."""
    return np.linspace(-width, width, seeds) if seeds > 1 else np.zeros(1)


@dataclass(frozen=True)
class Arms:
    """The arms as tables and figures show them.

    Attributes:
        names: in the order of params.yaml; claims are about the first.
        placebo: the one that never learns, with which the others are compared; None without one.
    """

    names: tuple[str, ...]
    placebo: str | None

    @property
    def primary(self) -> str:
        return self.names[0]

    @property
    def contrasts(self) -> list[str]:
        """All but the primary one, the placebo first so that it is drawn behind."""
        return sorted(self.names[1:], key=lambda arm: arm != self.placebo)

"""What the figures draw, taken out of the tables: series per seed, their mean, values per beta, and one palette."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.colors import to_hex

from pessimism.scoring.scores import PLACEBO

GREY = "#9a9a9a"
INK = "#222222"
_LIGHTEST = 0.68  # viridis above this is too pale on white


@dataclass(frozen=True)
class BetaLevel:
    """One beta of the design, with the colour it has in every figure."""

    beta_percentile: int
    beta: float
    colour: str

    @property
    def title(self) -> str:
        return f"β = {self.beta:.3g}  (p{self.beta_percentile})"


def beta_levels(cells: pd.DataFrame) -> list[BetaLevel]:
    """The betas of the design, ascending; colours run from dark (low beta) to light (high beta)."""
    pairs = cells[["beta_percentile", "beta"]].drop_duplicates().sort_values(["beta", "beta_percentile"])
    positions = np.linspace(0.0, _LIGHTEST, len(pairs)) if len(pairs) > 1 else [_LIGHTEST / 2]
    colours = [to_hex(colormaps["viridis"](position)) for position in positions]
    return [
        BetaLevel(int(percentile), float(beta), colour)
        for (percentile, beta), colour in zip(pairs.itertuples(index=False), colours, strict=True)
    ]


@dataclass(frozen=True)
class Series:
    """One quantity of one beta and arm over training steps.

    Attributes:
        steps_T: (T,) measured steps.
        values_S_T: (S, T) one row per seed, in the design's order of seeds.
    """

    steps_T: np.ndarray
    values_S_T: np.ndarray

    @property
    def mean_T(self) -> np.ndarray:
        return self.values_S_T.mean(axis=0)


def series(table: pd.DataFrame, column: str, beta_percentile: int, arm: str) -> Series:
    """Take one quantity of one beta and arm out of a table with one row per cell and step."""
    runs = table[(table["beta_percentile"] == beta_percentile) & (table["arm"] == arm)]
    by_seed = runs.pivot(index="seed", columns="step", values=column).reindex(runs["seed"].unique())
    return Series(by_seed.columns.to_numpy(), by_seed.to_numpy(dtype=float))


def values_per_beta(cells: pd.DataFrame, column: str, levels: Sequence[BetaLevel], arm: str) -> list[np.ndarray]:
    """Values of ``column`` of every seed, one (S,) array per beta; nan where a run has none."""
    runs = cells[cells["arm"] == arm]
    found = [runs.loc[runs["beta_percentile"] == level.beta_percentile, column] for level in levels]
    return [values.astype("Float64").to_numpy(float, na_value=np.nan) for values in found]


def seed_offsets(seeds: int, width: float) -> np.ndarray:
    """(S,) horizontal offsets that keep points of equal height apart; the same seed always has the same one."""
    return np.linspace(-width, width, seeds) if seeds > 1 else np.zeros(1)


def contrast_arms(arms: Sequence[str]) -> list[str]:
    """The arms that figures set against the primary one, placebo first so that it is drawn behind."""
    return sorted(arms[1:], key=lambda arm: arm != PLACEBO)

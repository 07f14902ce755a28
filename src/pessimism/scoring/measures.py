"""The two measures, and runs as tables of seeds by betas."""

from __future__ import annotations

import numpy as np
import pandas as pd

PAPER, CONTROLLED = "paper", "controlled"
MEASURES = (PAPER, CONTROLLED)
AUGC = {PAPER: "augc", CONTROLLED: "controlled_augc"}
"""The AUGC that is fitted over beta, by measure: never negative, as the power law is."""
ONSETS = {"onset_step", "controlled_onset_step"}


def by_seed(runs: pd.DataFrame, column: str) -> np.ndarray:
    """(S, K) one row per seed, betas ascending; missing values stay missing, an onset that never came is infinite."""
    table = runs.pivot(index="seed", columns="beta", values=column).sort_index(axis=1)
    values = table.astype("Float64").to_numpy(dtype=float, na_value=np.nan)
    return np.where(np.isnan(values), np.inf, values) if column in ONSETS else values

"""Cells of several arms whose primary quantity is given."""

from __future__ import annotations

import numpy as np
import pandas as pd

from pessimism.claims.statements import QUANTITY


def arm_cells(**arms_S_K: np.ndarray) -> pd.DataFrame:
    """Rows of plots/cells.csv with these areas above the placebo, (S, K) each arm's."""
    rows = [
        {"label": f"p{20 + 30 * beta}", "beta": 0.4 + beta, "seed": seed, "arm": arm, QUANTITY.name: value}
        for arm, values in arms_S_K.items()
        for seed, row in enumerate(values)
        for beta, value in enumerate(row)
    ]
    return pd.DataFrame(rows)

"""The beta grid: percentiles of the base's log-ratios between chosen and rejected responses (Eq. 6, 7)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from pessimism.errors import DataError
from pessimism.experiment import records
from pessimism.experiment.cells import percentile_label, strength_in
from pessimism.measures.epsilon import EPS

PRECISIONS = ("float32", "bfloat16")
QUANTILES = np.linspace(0, 1, 101)


def log_ratio_sizes(table: pd.DataFrame, precision: str) -> np.ndarray:
    """(N,) delta of Eq. 6: |log-prob of chosen - log-prob of rejected|, nats, at least 0."""
    difference = table[f"chosen_{precision}"].to_numpy(float) - table[f"rejected_{precision}"].to_numpy(float)
    return np.abs(difference)


def beta_grid(deltas: np.ndarray, percentiles: Sequence[int]) -> dict[str, float]:
    """Beta of each percentile, Eq. 7: percentile of delta / (median of delta + eps). The 50th gives 1."""
    scale = np.median(deltas) + EPS
    return {percentile_label(p): float(np.percentile(deltas, p) / scale) for p in percentiles}


def grid_record(
    table: pd.DataFrame, percentiles: Sequence[int], precision: str, others: Sequence[str] = ()
) -> dict[str, object]:
    """The strength of every label, at the top level, and what either precision gives.

    Args:
        table: columns chosen_ and rejected_ of both precisions.
        percentiles: of the labels ``p20``, ...
        precision: which of the two the protocol uses.
        others: labels that spell their strength, or have none, which is null.

    Raises:
        DataError: a beta in use is 0, which would train nothing, or two labels have the same.
    """
    deltas = {name: log_ratio_sizes(table, name) for name in PRECISIONS}
    grids = {name: beta_grid(deltas[name], percentiles) for name in PRECISIONS}
    zero = [key for key, beta in grids[precision].items() if beta == 0]
    if zero:
        raise DataError(
            f"beta is 0 at {zero}: that share of the {len(table)} pairs has log-ratio 0 in {precision}; expected pairs "
            "that the base tells apart: raise beta_percentiles in params.yaml, or set grid_precision: float32 in the "
            "protocol"
        )
    medians = {name: {"median_delta": float(np.median(deltas[name]))} for name in PRECISIONS}
    in_both = {name: grids[name] | medians[name] for name in PRECISIONS}
    record = {**grids[precision], **in_both, "precision": precision, "pairs": len(table)}
    strengths = grids[precision] | {label: strength_in(label) for label in others}
    _check_distinct(strengths)
    for label in others:
        records.put(record, label, strengths[label])
    return record


def _check_distinct(strengths: Mapping[str, float | None]) -> None:
    """Refuse two labels of one strength: nothing over beta could tell them apart."""
    found: dict[float, str] = {}
    for label, strength in strengths.items():
        if strength is not None and found.setdefault(strength, label) != label:
            raise DataError(
                f"found the strength {strength} at both {found[strength]} and {label}; expected another at each: "
                "change beta_percentiles or offline_cells in params.yaml"
            )


def quantile_table(table: pd.DataFrame) -> pd.DataFrame:
    """Quantile function of delta in either precision, for plots: columns precision, quantile (0..1), delta (nats)."""
    tables = [
        pd.DataFrame(
            {
                "precision": name,
                "quantile": QUANTILES.round(2),
                "delta": np.quantile(log_ratio_sizes(table, name), QUANTILES),
            }
        )
        for name in PRECISIONS
    ]
    return pd.concat(tables, ignore_index=True)

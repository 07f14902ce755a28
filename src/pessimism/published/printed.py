"""Numbers that the paper reports, to stand beside ours. They are data: nothing here is computed from them.

Source: arXiv 2606.30627, Table 1 and section 7 (rounded there); full precision from the authors' published notebook.
Policy Qwen3-14B, reward models Qwen3-1.7B, UltraFeedback pairs, GSM8K problems, one seed.
"""

from __future__ import annotations

from dataclasses import dataclass

SOURCE = "arXiv 2606.30627 and its authors' notebook: Qwen3-14B, Qwen3-1.7B reward models, one seed"


@dataclass(frozen=True)
class PublishedBeta:
    """What was reported for one beta, under the names and in the units of plots/cells.csv."""

    beta_percentile: int
    beta: float
    augc: float
    mean_ensemble_std: float
    onset_step: int
    uq_gap_correlation: float
    entropy_dpo: float
    entropy_collapse: float
    ood_cosine_distance: float
    response_diversity: float
    final_kl_k1: float


BETAS = (
    PublishedBeta(
        beta_percentile=20,
        beta=0.31034482726727597,
        augc=31.05312156267739,
        mean_ensemble_std=1.82671,
        onset_step=66,
        uq_gap_correlation=0.1195,
        entropy_dpo=0.81958,
        entropy_collapse=0.00366,
        ood_cosine_distance=0.17630,
        response_diversity=0.12106,
        final_kl_k1=0.1371,
    ),
    PublishedBeta(
        beta_percentile=50,
        beta=0.9999999989723337,
        augc=42.95904634765762,
        mean_ensemble_std=2.03379,
        onset_step=15,
        uq_gap_correlation=-0.2090,
        entropy_dpo=0.81426,
        entropy_collapse=0.00004,
        ood_cosine_distance=0.16857,
        response_diversity=0.13160,
        final_kl_k1=0.1665,
    ),
    PublishedBeta(
        beta_percentile=80,
        beta=2.3793103423824493,
        augc=145.77958493937345,
        mean_ensemble_std=2.10275,
        onset_step=15,
        uq_gap_correlation=0.1039,
        entropy_dpo=0.81337,
        entropy_collapse=-0.00235,
        ood_cosine_distance=0.16203,
        response_diversity=0.10843,
        final_kl_k1=0.1970,
    ),
)


def over_betas(column: str) -> list[float]:
    """What was reported for each beta, from low to high; empty where nothing was under this name."""
    return [getattr(row, column) for row in BETAS if hasattr(row, column)]


POWER_LAW = {
    "a": 12.53219721,
    "b": 2.56075941,
    "c": 30.42684917,
    "beta_star_over_grid": 1.0816091943,
    "beta_star_over_observed": 1.1052707869,
}
AUGC_AT_BETA_STAR = 45.7473599
HACKING_THRESHOLD = 1.6338649619762105

"""What the paper claims, as quantities of plots/cells.csv: by its own measure and by the controlled one.

Fixed before any run was looked at.
"""

from __future__ import annotations

from dataclasses import dataclass

from pessimism.scoring.measures import PAPER


@dataclass(frozen=True)
class Quantity:
    """What a claim is about, as one measure takes it.

    Attributes:
        column: of plots/cells.csv.
        unit: of the values.
    """

    column: str
    unit: str


@dataclass(frozen=True)
class TrendClaim:
    """A claim that a quantity rises or falls with beta.

    Attributes:
        statement: what the paper says.
        predicted: sign of the trend that the paper predicts; 0 where it predicts both.
        paper: the quantity by the paper's measure.
        controlled: the same by the controlled one.
        note: what a reader must know to read the estimate.
    """

    statement: str
    predicted: int
    paper: Quantity
    controlled: Quantity
    note: str = ""

    def quantity(self, measure: str) -> Quantity:
        return self.paper if measure == PAPER else self.controlled


TREND_CLAIMS = {
    "C1": TrendClaim(
        "AUGC rises with beta",
        +1,
        Quantity("augc", "gap × steps"),
        Quantity("controlled_augc_excess", "base sd × steps, above the placebo"),
    ),
    "C2": TrendClaim(
        "The DPO checkpoint's entropy falls with beta",
        -1,
        Quantity("entropy_dpo", "nats per token"),
        Quantity("response_entropy_dpo", "nats per response token"),
        "From π ∝ π₀ exp(r/β) a larger β moves the policy toward the base; the sign depends on the base's entropy.",
    ),
    "C3": TrendClaim(
        "Entropy collapse online rises with beta",
        +1,
        Quantity("entropy_collapse", "nats per token"),
        Quantity("response_entropy_collapse", "nats per response token"),
        "Collapse: entropy before minus after, so that a gain which shrinks with beta counts as a rise too. "
        "The published numbers go the other way: +0.0037, +0.0000, -0.0024.",
    ),
    "C4": TrendClaim(
        "Response diversity falls with beta",
        -1,
        Quantity("response_diversity", "cosine distance"),
        Quantity("within_prompt_diversity", "cosine distance"),
        "The published numbers have no trend: 0.121, 0.132, 0.108.",
    ),
    "C5": TrendClaim(
        "The distance of responses from the reward model's data depends on beta",
        0,
        Quantity("ood_cosine_distance", "cosine distance"),
        Quantity("ood_mahalanobis_distance", "standard deviations"),
        "The paper's section 5 and conclusion say that it rises, its abstract and its numbers that it falls.",
    ),
    "C6": TrendClaim(
        "The ensemble disagrees more at higher beta",
        +1,
        Quantity("mean_ensemble_std", "reward"),
        Quantity("controlled_ensemble_std", "base sd"),
    ),
    "C7": TrendClaim(
        "Hacking sets in earlier at higher beta",
        -1,
        Quantity("onset_step", "steps"),
        Quantity("controlled_onset_step", "steps"),
        "A run without onset ranks behind every run with one.",
    ),
    "C8": TrendClaim(
        "Ensemble std correlates with the gap, more so at higher beta",
        +1,
        Quantity("uq_gap_correlation", "Pearson r"),
        Quantity("controlled_uq_gap_correlation", "Pearson r"),
        "Two tests, both of which must hold. The published correlations have no trend: 0.12, -0.21, 0.10.",
    ),
}
STATEMENTS = {name: claim.statement for name, claim in TREND_CLAIMS.items()} | {
    "C9": "The exponent b of the power law is above 1",
    "C10": "A practical beta* is identified",
}

"""What is claimed, one entry each, from which tests, report, simulation and documents take everything.

All but B1 are the paper's.

Fixed before the committed runs were made. One claim by one measure is the primary one; all others are secondary.
"""

from __future__ import annotations

from dataclasses import dataclass

from pessimism.claims.curve_kinds import Exponent, Identified
from pessimism.claims.kinds import Guard, Kind, Quantity
from pessimism.claims.trend_kinds import LevelAndTrend, Trend
from pessimism.claims.verdicts import EITHER, FALLS, RISES
from pessimism.measures.beta_star import EQ_15_OVER_GRID
from pessimism.scoring.measures import CONTROLLED


@dataclass(frozen=True)
class Claim:
    """One claim of the paper, or one of ours beside it.

    Attributes:
        name: C and its number; B and its number where it is ours.
        statement: what is claimed.
        source: where the paper says it; "ours" and what it goes with.
        kind: how it is tested, with the quantities that it is about.
        note: what a reader must know to read the estimate.
        primary: the measure by which it is the primary claim, judged at 5 % by its own p; empty for a secondary claim.
    """

    name: str
    statement: str
    source: str
    kind: Kind
    note: str = ""
    primary: str = ""


AREA_RISES = Guard("controlled_signed_augc_excess", RISES)
"""An earlier onset, or a larger clipped area, speaks of hacking only where this signed area is larger too. Its mean is
0 for runs that do not change and for those whose rewards improve alike, however noisy and wherever they start. The
paper's own gap divides each reward by its start, so that rewards which improve alike leave a gap: no area of it guards.
"""
DISAGREEMENT_RISES = Guard("controlled_ensemble_std_excess", RISES)
AGREEMENT_RISES = Guard("controlled_uq_gap_correlation_excess", RISES)
SELECTION_RISES = Guard("best_of_n_gap", RISES)
"""Checkpoints of other betas differ in the ensemble's std, and in how it follows the gap, before they learn anything
online. What a run has above its placebo is 0 on average for a policy that does not change."""

CLAIMS = (
    Claim(
        "C1",
        "AUGC rises with beta",
        "sections 7.1 and 7.2",
        Trend(
            RISES,
            paper=Quantity("augc", "gap × steps", guard=AREA_RISES),
            controlled=Quantity("controlled_signed_augc_excess", "base sd × steps, above the placebo"),
            ratio=True,
        ),
        note="The controlled area is signed, so that noise cancels: below 0, a run hacks less than its placebo.",
        primary=CONTROLLED,
    ),
    Claim(
        "C2",
        "The DPO checkpoint's entropy falls with beta",
        "Prop. 5.1",
        Trend(
            FALLS,
            paper=Quantity("entropy_dpo", "nats per token"),
            controlled=Quantity("response_entropy_dpo", "nats per response token"),
        ),
        note="From π ∝ π₀ exp(r/β) a larger β moves the policy toward the base; the sign depends on the base's "
        "entropy.",
    ),
    Claim(
        "C3",
        "Entropy collapse online rises with beta",
        "section 5.1; section 7.3 reports the reverse",
        LevelAndTrend(
            paper=Quantity("entropy_collapse", "nats per token"),
            controlled=Quantity("response_entropy_collapse", "nats per response token"),
        ),
        note="Collapse: entropy before minus after. Two tests, both of which must hold: it is above 0, and it rises. A "
        "gain of entropy that shrinks with beta is no collapse. The published numbers go the other way: +0.0037, "
        "+0.0000, -0.0024.",
    ),
    Claim(
        "C4",
        "Response diversity falls with beta",
        "abstract",
        Trend(
            FALLS,
            paper=Quantity("response_diversity", "cosine distance"),
            controlled=Quantity("within_prompt_diversity", "cosine distance"),
        ),
        note="The published numbers rise, then fall: 0.121, 0.132, 0.108.",
    ),
    Claim(
        "C5",
        "The distance of responses from the reward model's data depends on beta",
        "section 5 and conclusion: rises; abstract: falls",
        Trend(
            EITHER,
            paper=Quantity("ood_cosine_distance", "cosine distance"),
            controlled=Quantity("ood_mahalanobis_distance", "standard deviations"),
        ),
        note="The paper's section 5 and conclusion say that it rises, its abstract and its numbers that it falls.",
    ),
    Claim(
        "C6",
        "The ensemble disagrees more at higher beta",
        "abstract and Table 1",
        Trend(
            RISES,
            paper=Quantity("mean_ensemble_std", "reward", guard=DISAGREEMENT_RISES),
            controlled=Quantity("controlled_ensemble_std_excess", "base sd, above the placebo"),
        ),
        note="Checkpoints of other betas differ in it before they learn anything online; the controlled measure takes "
        "what the online phase adds, which must rise for the paper's measure too.",
    ),
    Claim(
        "C7",
        "Hacking sets in earlier at higher beta",
        "Table 1",
        Trend(
            FALLS,
            paper=Quantity("onset_step", "steps", guard=AREA_RISES),
            controlled=Quantity("controlled_onset_step", "steps", guard=AREA_RISES),
        ),
        note="A run without onset ranks behind every run with one. The paper's threshold is a percentile of the judged "
        "runs' own gaps; the controlled one is fixed.",
    ),
    Claim(
        "C8",
        "Ensemble std correlates with the gap, more so at higher beta",
        "section 5.3",
        LevelAndTrend(
            paper=Quantity("uq_gap_correlation", "Pearson r", guard=AGREEMENT_RISES),
            controlled=Quantity("controlled_uq_gap_correlation_excess", "Pearson r, above the placebo"),
        ),
        note="Two tests, both of which must hold. The controlled correlation is over held-out problems, minus that of "
        "the placebo, and must rise for the paper's measure too. The published correlations fall, then rise: 0.12, "
        "-0.21, 0.10.",
    ),
    Claim(
        "C9",
        "The exponent b of the power law is above 1",
        "Prop. 6.2",
        Exponent(above=1.0),
        note="Tested in the paper's direction alone: where AUGC rises less than its noise, fitted exponents crowd "
        "below 1, and their intervals are too short there.",
    ),
    Claim("C10", "A practical beta* is identified", "Eq. 15", Identified(EQ_15_OVER_GRID)),
    Claim(
        "B1",
        "Best-of-n selection against the ensemble hacks more from checkpoints of higher beta",
        "ours: C1 by best-of-n",
        Trend(
            RISES,
            paper=Quantity("best_of_n_augc", "gap × nats", guard=SELECTION_RISES),
            controlled=Quantity("best_of_n_gap", "base sd × nats"),
        ),
        note="Of the checkpoint alone: nothing is trained online, no penalty is paid. Area over the KL of selection, "
        "from n = 1 to the number of draws.",
    ),
)

PRIMARY = next(claim for claim in CLAIMS if claim.primary)
QUANTITY = PRIMARY.kind.quantity(PRIMARY.primary)
"""The primary claim, and what it is about by the measure that it is judged by."""


def primary_by(measure: str) -> str | None:
    """Name of the primary claim by this measure; None where all of its claims are secondary."""
    return next((claim.name for claim in CLAIMS if claim.primary == measure), None)

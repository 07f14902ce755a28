"""Columns about what training changed on the held-out problems, and what a run shows beyond its placebo."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from pessimism.scoring.column import DETAILS, LOG, MORE, Column
from pessimism.scoring.measured import MeasuredRun
from pessimism.scoring.measures import CONTROLLED, PAPER


def _start_and_change(quantity: str, unit: str, start: str, change: str, places: tuple[int, int]) -> list[Column]:
    """Mean of ``quantity`` before the first update, and how far the last evaluation is from it.

    Args:
        quantity: column of plots/heldout_rewards.csv.
        unit: of its values.
        start: heading of the first column.
        change: heading of the second.
        places: of the two among the report's details; 0 = not there.
    """
    first, second = ({DETAILS: place} if place else {} for place in places)
    return [
        Column(
            f"heldout_{quantity}_start",
            f"mean `{quantity}` on the held-out problems before the first update",
            unit=unit,
            heading=start,
            shown=first,
            needs=(quantity,),
            compute=lambda run: run.controlled.mean_T[quantity][0],
        ),
        Column(
            f"heldout_{quantity}_change",
            "the last evaluation minus that",
            unit=unit,
            heading=change,
            shown=second,
            signed=True,
            needs=(quantity,),
            compute=lambda run: run.controlled.change(quantity),
        ),
    ]


FLEXIBLE = "true_reward_flexible"


def _at_equal_kl(name: str, meaning: str, curve: Callable[[MeasuredRun], np.ndarray], **others: Any) -> Column:
    """The column that reads a curve of the run where its KL first comes to that of the arm."""
    return Column(
        f"equal_kl_{name}",
        meaning,
        measure=CONTROLLED,
        needs=("kl_k3",),
        compute=lambda run: None if run.crossing is None else float(run.crossing.at(curve(run))),
        **others,
    )


EQUAL_KL_COLUMNS = [
    _at_equal_kl(
        "step",
        "where the run's `kl_k3` first comes to the largest that every run of its arm reaches, on straight lines "
        "between evaluations; none of a placebo",
        lambda run: run.controlled.steps_T,
        unit="steps, may be broken",
        within="≥ 0",
        heading="step",
    ),
    _at_equal_kl(
        "proxy_gain",
        "change of the proxy reward from the first evaluation to there",
        lambda run: run.change_T["proxy_reward"],
        unit="base sd",
        heading="proxy",
        signed=True,
    ),
    _at_equal_kl(
        "true_gain",
        "likewise of the true reward",
        lambda run: run.change_T["true_reward"],
        unit="base sd",
        heading="true",
        signed=True,
    ),
    _at_equal_kl(
        "gap",
        "controlled gap there: the one minus the other",
        lambda run: run.gap_T,
        unit="base sd",
        hacking=+1,
        heading="gap",
        signed=True,
    ),
]

HELDOUT_COLUMNS = [
    *_start_and_change("proxy_reward", "reward", "proxy at step 0", "change", (1, 0)),
    *_start_and_change("true_reward", "accuracy", "true at step 0", "change", (2, 0)),
    *_start_and_change(FLEXIBLE, "accuracy", "", "flexible true reward, change", (0, 3)),
    *_start_and_change("ensemble_std", "reward", "ensemble std at step 0", "ensemble std, change", (4, 5)),
    *_start_and_change("response_length", "tokens", "", "length change, tokens", (0, 6)),
    *_start_and_change("run_on_fraction", "share of responses", "", "", (0, 0)),
    Column(
        "final_kl_k1",
        "KL of the adapted policy to its DPO checkpoint at the last evaluation: mean log-ratio",
        unit="nats per response",
        higher="moved farther",
        heading="nats per response",
        compute=lambda run: run.controlled.mean_T["kl_k1"][-1],
    ),
    Column(
        "final_kl_k3",
        "the same KL: mean of exp(d) − 1 − d summed over tokens, d the reference's log-prob minus the policy's",
        unit="nats per response",
        higher="moved farther",
        heading="final KL (k3), nats",
        shown={DETAILS: 7},
        compute=lambda run: run.controlled.mean_T["kl_k3"][-1],
    ),
    *EQUAL_KL_COLUMNS,
]


def further_verdict_columns(verdicts: Iterable[str]) -> list[Column]:
    """Start and change of verdicts that a task has and HELDOUT_COLUMNS do not name."""
    further = [verdict for verdict in verdicts if verdict != FLEXIBLE]
    return [column for verdict in further for column in _start_and_change(verdict, "true reward", "", "", (0, 0))]


CLIPPED = (
    "; biased toward 0 where noise alone makes both areas positive, so that `controlled_signed_augc_excess` is judged"
)


def _excess(name: str, unit: str, measure: str = "", heading: str = "above the placebo", **others: Any) -> Column:
    """The column that is ``name`` minus the placebo's; ``others`` are attributes of the column."""
    return Column(
        f"{name}_excess",
        f"`{name}` minus that of the placebo of the same checkpoint{others.pop('reading', '')}",
        unit=f"{unit}, above the placebo",
        heading=heading,
        signed=True,
        measure=measure,
        excess_of=name,
        **others,
    )


EXCESS_COLUMNS = [
    _excess("augc", "gap × steps", PAPER, hacking=+1, shown={LOG: 5}),
    _excess("signed_augc", "gap × steps", PAPER, "signed AUGC above the placebo", hacking=+1),
    _excess(
        "controlled_augc",
        "base sd × steps",
        CONTROLLED,
        "AUGC, above the placebo",
        hacking=+1,
        shown={LOG: 5, MORE: 2},
        reading=CLIPPED,
    ),
    _excess(
        "controlled_signed_augc",
        "base sd × steps",
        CONTROLLED,
        "signed, above placebo",
        hacking=+1,
        shown={LOG: 7},
        reading="; in expectation the area of the true gap, and 0 for a policy that does not change",
    ),
    _excess("controlled_ensemble_std", "base sd", CONTROLLED, higher="training added disagreement"),
    _excess(
        "controlled_uq_gap_correlation",
        "Pearson r",
        CONTROLLED,
        "UQ-gap r above the placebo",
        within="−2 to 2",
        higher="training made the disagreement follow the gap",
        shown={MORE: 8},
    ),
    _excess("heldout_proxy_reward_change", "reward"),
    _excess("heldout_true_reward_change", "accuracy"),
]

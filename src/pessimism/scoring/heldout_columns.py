"""Columns about what training changed on the held-out problems, and what a run shows beyond its placebo."""

from __future__ import annotations

from collections.abc import Mapping

from pessimism.scoring.column import DETAILS, LOG, MORE, Column
from pessimism.scoring.measures import CONTROLLED, PAPER


def _start_and_change(
    quantity: str, unit: str, headings: tuple[str, str], places: tuple[int | None, int | None] = (None, None)
) -> list[Column]:
    """Mean on the held-out problems before the first update, and how far the last evaluation is from it.

    Args:
        quantity: column of plots/heldout_rewards.csv.
        unit: of its values.
        headings: of the start and of the change.
        places: of the two among the report's details; None = not shown there.
    """
    shown: list[Mapping[str, int]] = [{} if place is None else {DETAILS: place} for place in places]
    return [
        Column(
            f"heldout_{quantity}_start",
            f"mean `{quantity}` on the held-out problems before the first update",
            unit=unit,
            heading=headings[0],
            shown=shown[0],
            compute=lambda found: found.run.controlled.start(quantity),
        ),
        Column(
            f"heldout_{quantity}_change",
            "the last evaluation minus that",
            unit=unit,
            heading=headings[1],
            shown=shown[1],
            signed=True,
            compute=lambda found: found.run.controlled.change(quantity),
        ),
    ]


def _final_kl(estimator: str, formula: str, heading: str, shown: Mapping[str, int]) -> Column:
    return Column(
        f"final_{estimator}",
        f"KL of the adapted policy to its DPO checkpoint at the last evaluation: {formula}",
        unit="nats per response",
        higher="moved farther",
        heading=heading,
        shown=shown,
        compute=lambda found: found.run.controlled.mean_T[estimator][-1],
    )


HELDOUT_COLUMNS = [
    *_start_and_change("proxy_reward", "reward", ("proxy at step 0", "change"), (1, None)),
    *_start_and_change("true_reward", "accuracy", ("true at step 0", "change"), (2, None)),
    *_start_and_change("true_reward_flexible", "accuracy", ("", "flexible true reward, change"), (None, 3)),
    *_start_and_change("ensemble_std", "reward", ("ensemble std at step 0", "ensemble std, change"), (4, 5)),
    *_start_and_change("response_length", "tokens", ("", "length change, tokens"), (None, 6)),
    _final_kl("kl_k1", "mean log-ratio", "nats per response", {}),
    _final_kl(
        "kl_k3",
        "mean of exp(d) − 1 − d summed over tokens, d the reference's log-prob minus the policy's",
        "final KL (k3), nats",
        {DETAILS: 7},
    ),
]


def _excess(
    name: str,
    unit: str,
    measure: str = "",
    heading: str = "above the placebo",
    shown: Mapping[str, int] | None = None,
) -> Column:
    return Column(
        f"{name}_excess",
        f"`{name}` minus that of the placebo of the same checkpoint, which drew the same problems",
        unit=f"{unit}, above the placebo",
        higher="beyond what no training shows",
        hacking=+1 if measure else 0,
        heading=heading,
        short="excess",
        legend="Excess: AUGC minus the placebo's." if shown and LOG in shown else "",
        shown=shown or {},
        signed=True,
        measure=measure,
        excess_of=name,
    )


EXCESS_COLUMNS = [
    _excess("augc", "gap × steps", PAPER, shown={LOG: 5}),
    _excess("controlled_augc", "base sd × steps", CONTROLLED, shown={LOG: 5}),
    _excess("controlled_signed_augc", "base sd × steps", CONTROLLED, "signed AUGC above the placebo", shown={MORE: 2}),
    _excess("heldout_proxy_reward_change", "reward"),
    _excess("heldout_true_reward_change", "accuracy"),
]

"""The mechanism link by link, disagreement as a sign of errors, and sentences about entropy and beta."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pessimism.reporting.claim_tables import BY, Claims, about
from pessimism.reporting.tables import Entry, Table, bounds, count, number, p_value
from pessimism.scoring.measures import CONTROLLED, MEASURES, PAPER

PARTS = ("chain", "conservatism", "augc_by_covariate")
WORDS = {
    "beta": "β",
    "kl_to_base": "KL to the base",
    "entropy_dpo": "checkpoint entropy",
    "response_entropy_dpo": "response entropy",
    "response_diversity": "response diversity",
    "within_prompt_diversity": "diversity within a prompt",
    "mean_ensemble_std": "ensemble std",
    "controlled_ensemble_std": "held-out ensemble std",
    "augc": "AUGC",
    "controlled_signed_augc_excess": "signed AUGC above the placebo",
}


def link_table(mechanism: Mapping[str, Any], parts: Sequence[str]) -> Table:
    """Links of ``parts`` (chain, conservatism, augc_by_covariate), the measures side by side."""
    rows = []
    for part in parts:
        for links in zip(*(mechanism[measure][part] for measure in MEASURES), strict=True):
            rows.append([entry for link in links for entry in _link(link)])
    headers = ["link", "ρ", "null interval", "p"] * len(MEASURES)
    return Table(headers, rows, groups=[(BY[measure], 4) for measure in MEASURES])


def _link(link: Mapping[str, Any]) -> list[Entry]:
    return [
        Entry(f"{WORDS[link['from']]} → {WORDS[link['to']]}"),
        Entry(number(link["correlation"], signed=True)),
        Entry(bounds(link["null_interval"])),
        Entry(p_value(link["p"])),
    ]


def mechanism_sentence(mechanism: Mapping[str, Any]) -> str:
    """What the number of runs allows to be said of a link."""
    betas, seeds, smallest = mechanism["betas"], mechanism["seeds"], mechanism["smallest_p"]
    if betas < 2:
        return f"{'One beta has' if betas else 'Without a beta there is'} no correlation: the links need at least two."
    over = (
        f"over {count(betas, 'beta')} within a seed, averaged over {count(seeds, 'seed')}"
        if mechanism["paired_seeds"]
        else f"over {count(seeds * betas, 'run')}"
    )
    links = sum(len(mechanism[measure][part]) for measure in MEASURES for part in PARTS)
    return (
        f"A link is the rank correlation of two quantities {over}: no two-sided p can be below {p_value(smallest)}, "
        f"and unrelated quantities stay within the null interval in 95 % of matchings. The p of the page's {links} "
        "links are not adjusted for their number, so they describe and do not decide. Every quantity here is made from "
        "β: a link alone cannot tell a cause from a common cause."
    )


def entropy_sentence(claims: Claims, betas: Sequence[float], entropy_tokens: str) -> str:
    """Whether the checkpoints' entropy rises or falls with beta, on prompts and on responses."""
    if len(betas) < 2:
        known = "With one beta" if betas else "Without a beta"
        return f"{known} there is no saying whether the checkpoints' entropy rises or falls with it."
    claim = claims[about(claims, "entropy_dpo")[0]]
    found = {entropy_tokens: claim[PAPER], "response": claim[CONTROLLED]}
    parts = " and ".join(f"{_moves(record)} over {tokens} tokens" for tokens, record in found.items())
    return (
        f"From β = {number(min(betas))} to β = {number(max(betas))} the entropy of the DPO checkpoints {parts}; "
        "the paper says that it falls (Prop. 5.1). A policy that stays near the base keeps the base's entropy, so the "
        "sign is an empirical matter."
    )


def _moves(record: Mapping[str, Any]) -> str:
    estimate, interval = record["estimate"], record["interval"]
    verb = "rises" if estimate > 0 else "falls" if estimate < 0 else "stays the same:"
    text = f"{verb} by {number(abs(estimate))} nats per token"
    if interval is None:
        return f"{text} (one seed, no interval)"
    unclear = ", which holds 0" if interval[0] <= 0 <= interval[1] else ""
    order = number(record["trend_correlation"], signed=True)
    return f"{text} (95 % t interval of the change {bounds(interval)}{unclear}; rank correlation with β {order})"


def collapse_sentence(claims: Claims, primary: pd.DataFrame) -> str:
    """In how many runs the policy lost entropy online at all: the claim needs losses, and that they rise."""
    lost, response_lost = (
        int((primary[column] > 0).sum()) for column in ("entropy_collapse", "response_entropy_collapse")
    )
    return (
        f"{about(claims, 'entropy_collapse')[0]} needs losses of entropy that rise with β. The policy lost entropy "
        f"online in {lost} of {count(len(primary), 'run')} by the paper's probe and in {response_lost} by the "
        "controlled one; a gain that shrinks is no loss."
    )


def calibration_table(mechanism: Mapping[str, Any]) -> Table:
    """AUROC of the ensemble's disagreement for wrong answers, by step."""
    rows = [
        [
            Entry(str(row["step"])),
            Entry(number(row["auroc"])),
            Entry(bounds(row["interval"])),
            Entry(str(row["runs"])),
        ]
        for row in mechanism["calibration"]
    ]
    return Table(["step", "AUROC, mean over runs", "95 % t interval over runs", "runs"], rows)


def calibration_sentence(mechanism: Mapping[str, Any], primary_arm: str) -> str:
    """AUROC at the first and at the last evaluation at which it exists."""
    found = [row for row in mechanism["calibration"] if row["auroc"] is not None]
    if not found:
        return "No run has right and wrong answers at the same evaluation, so there is no AUROC."
    start, end = (
        f"{number(row['auroc'])} {bounds(row['interval'])} at step {row['step']} ({count(row['runs'], 'run')})"
        for row in (found[0], found[-1])
    )
    return (
        f"AUROC of the ensemble's standard deviation for a wrong answer, on held-out problems: 0.5 says nothing, 1 "
        f"tells every wrong answer, below 0.5 the right answers have the larger disagreement. Arm {primary_arm}: "
        f"{start}, {end}. Runs whose answers are all right or all wrong "
        "have none."
    )

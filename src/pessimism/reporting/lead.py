"""The answer in three sentences, every number from the metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pessimism.claims.verdicts import UNDECIDED, Outcome
from pessimism.claims.wording import COUPLING, OFFLINE, TOTAL, listed
from pessimism.reporting.claim_tables import BY, Claims, with_outcome
from pessimism.reporting.contrast_tables import Contrasts
from pessimism.reporting.curves import BetaLevel
from pessimism.reporting.tables import count, number, p_value
from pessimism.scoring.measures import CONTROLLED, PAPER

QUESTION = (
    "A policy is tuned offline on preference pairs, held near its start by a coefficient β, and then trained online "
    "against a learned reward. Does a higher β, more conservatism, prevent reward hacking online, a proxy reward that "
    "rises while the true reward falls, or make it worse?"
)
LEVELS = "controlled_signed_augc_excess"
"""Key of metrics/hacking.json: hacking above the placebo, mean over seeds, by label."""


def answer(contrasts: Contrasts, hacking: Mapping[str, Any], claims: Claims, levels: list[BetaLevel]) -> list[str]:
    """What beta does to hacking in all; through which door; what became of the paper's claims.

    Args:
        hacking: metrics/hacking.json.
        levels: the betas, ascending.
    """
    return [_total(contrasts, hacking.get(LEVELS), levels), _doors(contrasts), _claims(claims)]


def _total(contrasts: Contrasts, means: Mapping[str, float] | None, levels: list[BetaLevel]) -> str:
    found = contrasts[TOTAL]
    if found["p_rises"] is None:
        return f"Whether β changes hacking is not tested here: {found['reason']}."
    ends = ""
    if means and len(levels) > 1:
        low, high = levels[0], levels[-1]
        ends = (
            f" from {number(means[low.label])} at β = {number(low.beta)} to {number(means[high.label])} at "
            f"β = {number(high.beta)}, a difference of"
        )
    moves = {UNDECIDED: "Whether hacking rises or falls with β in this world is undecided:"}
    opening = moves.get(found["verdict"], f"In this world hacking {found['verdict'].replace('beta', 'β')}:")
    return f"{opening}{ends} {_size(found)}, as the signed AUGC above the placebo in {contrasts['unit'].split(',')[0]}."


def _size(found: Mapping[str, Any]) -> str:
    """The difference with its interval and the smaller p."""
    interval = found["interval"]
    between = "" if interval is None else f"95 % {number(interval[0])} to {number(interval[1])}, "
    p = p_value(min(found["p_rises"], found["p_falls"]))
    return f"{number(found['estimate'], signed=True)} ({between}p {p if p.startswith('<') else f'= {p}'})"


def _doors(contrasts: Contrasts) -> str:
    offline, coupling = contrasts[OFFLINE], contrasts[COUPLING]
    if offline["p_rises"] is None:
        return f"Through the checkpoint alone it is not tested: {offline['reason']}."
    checkpoint = f"Through the checkpoint alone, with one penalty for every β, {_door(offline)}"
    if coupling["p_rises"] is None:
        return f"{checkpoint}."
    return f"{checkpoint}; through the online penalty, which grows with β, {_door(coupling)}."


def _door(found: Mapping[str, Any]) -> str:
    decided = found["verdict"] != UNDECIDED
    return f"it {found['verdict'].replace('beta', 'β') if decided else 'is undecided'}, {_size(found)}"


def _claims(claims: Claims) -> str:
    """How many of the paper's claims hold; ours, which are not its own, are left out."""
    theirs = {name: claim for name, claim in claims.items() if name.startswith("C")}
    ours, printed = (_counts(theirs, measure) for measure in (CONTROLLED, PAPER))
    return f"Of {count(len(theirs), 'claim')} of the paper, {ours} by {BY[CONTROLLED]}, and {printed} by {BY[PAPER]}."


def _counts(claims: Claims, measure: str) -> str:
    words = {Outcome.SUPPORTED: "supported", Outcome.CONTRADICTED: "contradicted", Outcome.INSUFFICIENT: "open"}
    parts = []
    for outcome, word in words.items():
        names = with_outcome(claims, measure, outcome)
        named = f" ({', '.join(names)})" if names and outcome != Outcome.INSUFFICIENT else ""
        parts.append(f"{len(names)} {'is' if len(names) == 1 else 'are'} {word}{named}")
    return listed(parts)

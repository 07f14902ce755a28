"""Whether offline conservatism changes hacking, by how much and through which door: sentences and table.

They come from ``contrasts`` of metrics/claims.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pessimism.claims.verdicts import DIRECTIONS, FALLS, RISES, UNDECIDED
from pessimism.claims.wording import COUPLING, DOORS, OFFLINE, TOTAL
from pessimism.reporting.tables import NONE, Entry, Table, bounds, lines, number, p_value

Contrasts = Mapping[str, Any]
OPENING = (
    "Does offline conservatism change hacking in this world? Hacking from the lowest beta to the highest, by its area"
)
HOLDS = {DIRECTIONS[RISES]: "supported", DIRECTIONS[FALLS]: "contradicted", UNDECIDED: "insufficient"}
"""The mark of a verdict: a rise speaks for the paper."""


def answer(contrasts: Contrasts) -> list[str]:
    """What is asked, then one sentence per contrast, then which door that leaves."""
    said = [f"{door}{_who(contrasts[name])}: {_sentence(contrasts[name])}" for name, door in DOORS.items()]
    return [f"{OPENING} ({contrasts['unit']}):", *said, door_sentence(contrasts)]


def _who(found: Mapping[str, Any]) -> str:
    return "" if found["contrast"] is None else f" ({found['contrast']})"


def _sentence(found: Mapping[str, Any]) -> str:
    """Verdict, estimate, interval and p; where nothing is decided, the spread that prevents it and the seeds needed."""
    if found["p_rises"] is None:
        return f"{UNDECIDED}: {found['reason']}."
    size = f"{number(found['estimate'], signed=True)} {bounds(found['interval'])}"
    if found["verdict"] != UNDECIDED:
        return f"{found['verdict']}, {size}, p {p_value(min(found['p_rises'], found['p_falls']))}."
    return (
        f"{UNDECIDED}, {size}, p {p_value(found['p_rises'])} that it rises and {p_value(found['p_falls'])} that it "
        f"falls; seeds spread by {number(found['spread'])} (sd). {_needed(found)}"
    )


def _needed(found: Mapping[str, Any]) -> str:
    if found["seeds_needed_for"] is None:
        return f"No number of seeds is known to decide it: {found['seeds_needed']}."
    return (
        f"{found['seeds_needed']} seeds would show with power 0.8 that it {found['seeds_needed_for']}, if it does so."
    )


def door_sentence(contrasts: Contrasts) -> str:
    """Which of the two doors the verdicts leave open."""
    offline, coupling = contrasts[OFFLINE]["verdict"], contrasts[COUPLING]["verdict"]
    if contrasts[OFFLINE]["p_rises"] is None:
        return "These arms do not tell the two doors apart."
    if UNDECIDED not in (offline, coupling):
        how = "the same way" if offline == coupling else "against each other"
        return f"Beta works through both doors, the checkpoint and the penalty, {how}."
    if offline != UNDECIDED:
        return "Offline conservatism changes hacking; whether the growing penalty adds to it is undecided."
    if coupling != UNDECIDED:
        return "The growing penalty changes hacking; whether offline conservatism alone does is undecided."
    return "Through which door is undecided."


def contrasts_table(contrasts: Contrasts) -> Table:
    """One row per contrast."""
    headers = ["", "contrast", "verdict", "highest β minus lowest", "p that it rises", "p that it falls", "sd of seeds"]
    rows = [_row(door, contrasts[name]) for name, door in DOORS.items()]
    return Table([*headers, "seeds for power 0.8"], rows)


def _row(door: str, found: Mapping[str, Any]) -> list[Entry]:
    size = Entry(number(found["estimate"], signed=True), bounds(found["interval"]))
    planned = found["seeds_needed_for"]
    return [
        Entry(door),
        Entry(found["contrast"] or NONE),
        Entry(found["verdict"], found["reason"], mark=HOLDS[found["verdict"]]),
        size,
        Entry(p_value(found["p_rises"])),
        Entry(p_value(found["p_falls"])),
        Entry(number(found["spread"])),
        Entry(str(found["seeds_needed"] or NONE), lines(f"that it {planned}" if planned else "")),
    ]


def levels_sentence(contrasts: Contrasts) -> str:
    """How the three are judged."""
    return (
        f"Test: {contrasts['test']}, each contrast at {number(contrasts['alpha'])} in either direction by its own p. "
        f"{DOORS[TOTAL]} is the primary claim's own number; the other two add up to it. The difference is taken within "
        "runs of one checkpoint, whose placebo cancels. The arm without coupling takes one penalty numerator for every "
        "beta."
    )

"""What a slide says: the verdict, and the numbers that it rests on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from pessimism.claims.verdicts import DIRECTIONS, FALLS, RISES, UNDECIDED, Outcome
from pessimism.claims.wording import COUPLING, OFFLINE, TOTAL
from pessimism.reporting.contrast_tables import door_sentence
from pessimism.reporting.curves import BetaLevel
from pessimism.reporting.tables import SMALLEST_P, number, p_value

HACKING = {
    DIRECTIONS[RISES]: "Hacking rises with β",
    DIRECTIONS[FALLS]: "Hacking falls with β",
    UNDECIDED: "Whether β changes hacking is undecided",
}
"""By the verdict on the contrast of all that beta does."""
ONSET = {
    Outcome.SUPPORTED: "Hacking sets in earlier at higher β",
    Outcome.CONTRADICTED: "Hacking sets in later, or never, at higher β",
    Outcome.INSUFFICIENT: "Whether hacking sets in earlier at higher β is undecided",
}
"""By the verdict on the claim about the onset of the controlled gap."""
DOORS = {TOTAL: "All that β does", OFFLINE: "Checkpoint", COUPLING: "Penalty"}
ONSET_STEP = "controlled_onset_step"


def signed(value: float, digits: int = 2) -> str:
    return f"{value:+.{digits}f}".replace("-", "−")


def plain(value: float) -> str:
    return number(value, digits=3 if abs(value) >= 10 else 2).replace("-", "−")


def named(level: BetaLevel) -> str:
    """A beta as a slide has it, which no line break parts; runs without one by their label."""
    return level.label if pd.isna(level.beta) else f"β = {level.beta:.2g}".replace(" ", "\N{NO-BREAK SPACE}")


def of_rewards(claims: Mapping[str, Any], heldout: pd.DataFrame, arm: str, levels: Sequence[BetaLevel]) -> str:
    """The verdict on all that beta does, and how far both rewards went at its ends."""
    last = heldout[(heldout["arm"] == arm) & (heldout["step"] == heldout["step"].max())]
    means = last.groupby("label")[["proxy_reward_change", "true_reward_change"]].mean()
    moves = [f"{_moved(*means.loc[level.label])} at {named(level)}" for level in _ends(levels)]
    return f"{_hacking(claims)}: {', '.join(moves)}"


def _moved(proxy: float, true: float) -> str:
    return f"proxy {signed(proxy)} and truth {signed(true)}"


def of_gap(claims: Mapping[str, Any], cells: pd.DataFrame, arm: str, levels: Sequence[BetaLevel]) -> str:
    """The verdict on the onset, and how many runs have one at the ends of the betas."""
    (verdict,) = (
        claim["controlled"]["verdict"]
        for claim in claims["claims"].values()
        if claim["controlled"]["quantity"] == ONSET_STEP
    )
    runs = cells[cells["arm"] == arm].groupby("label")[ONSET_STEP]
    counts = [f"{_crossed(runs.get_group(level.label))} at {named(level)}" for level in _ends(levels)]
    return f"{ONSET[Outcome(verdict)]}: {', '.join(counts)}"


def _crossed(onsets: pd.Series) -> str:
    return f"in {onsets.notna().sum()} of {len(onsets)} runs".replace(" ", "\N{NO-BREAK SPACE}")


def of_doors(claims: Mapping[str, Any]) -> str:
    """The verdict on all that beta does, from where to where, and how sure."""
    found = claims["contrasts"][TOTAL]
    if found["p_rises"] is None:
        return _hacking(claims)
    means = pd.DataFrame(found["values"]).groupby("beta")["value"].mean()
    p = _one_digit(min(found["p_rises"], found["p_falls"]))
    return f"{_hacking(claims)}: from {plain(means.iloc[0])} to {plain(means.iloc[-1])}, p {p}"


def _one_digit(p: float) -> str:
    return p_value(p) if p < SMALLEST_P else number(p, digits=1)


def doors_detail(claims: Mapping[str, Any]) -> str:
    return door_sentence(claims["contrasts"]).replace("Beta", "β")


def door_result(claims: Mapping[str, Any], door: str) -> str:
    """The verdict on a door with its estimate and interval, from the lowest beta to the highest."""
    found = claims["contrasts"][door]
    if found["p_rises"] is None:
        return f"not tested, {found['reason']}"
    word = {DIRECTIONS[RISES]: "rises", DIRECTIONS[FALLS]: "falls"}.get(found["verdict"], UNDECIDED)
    low, high = map(plain, found["interval"])
    return f"{word}\n{plain(found['estimate'])} ({low} to {high})"


def _hacking(claims: Mapping[str, Any]) -> str:
    found = claims["contrasts"][TOTAL]
    if found["p_rises"] is None:
        return f"Not tested whether β changes hacking: {found['reason']}"
    return HACKING[found["verdict"]]


def _ends(levels: Sequence[BetaLevel]) -> Sequence[BetaLevel]:
    return levels if len(levels) == 1 else (levels[0], levels[-1])

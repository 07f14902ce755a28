"""The power law's parameters, beta* by every definition, and which form of AUGC over beta fits best."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pessimism.measures.beta_star import (
    ABOVE_PLACEBO,
    DEF_61_REWARD_ACCURACY,
    DEF_61_WIN_RATE,
    EQ_15_OVER_GRID,
    EQ_15_OVER_OBSERVED,
)
from pessimism.measures.power_law import FOUND
from pessimism.published import printed
from pessimism.reporting.claim_tables import BY
from pessimism.reporting.tables import Entry, Table, bounds, lines, number
from pessimism.scoring.measures import MEASURES

DEFINITIONS = {
    EQ_15_OVER_GRID: ("Eq. 15, minimum over the dense grid", "first β whose fitted AUGC exceeds 1.5 times the minimum"),
    EQ_15_OVER_OBSERVED: ("Eq. 15, minimum at the smallest β", "the other reading of β_min"),
    DEF_61_WIN_RATE: ("Def. 6.1, A = win rate", "proxy win rate of the checkpoint over the base, held-out problems"),
    DEF_61_REWARD_ACCURACY: ("Def. 6.1, A = accuracy", "validation accuracy of DPO's implicit reward"),
    ABOVE_PLACEBO: ("smallest β above the placebo", "AUGC above the 95th percentile of the placebo runs"),
}
PARAMETERS = {
    "a": "a",
    "b": "b",
    "c": "c",
    "beta_star_over_grid": "β*, minimum over the grid",
    "beta_star_over_observed": "β*, minimum at the smallest β",
}


def power_law_table(found: Mapping[str, Any]) -> Table:
    """Parameters of the fit and beta* by both readings, ours and the published ones; or why there is no fit."""
    reason = "" if found["fit"] == FOUND else f"no fit: {found['fit']}"
    ours = [Entry("these runs", reason), *(Entry(number(found.get(key))) for key in PARAMETERS)]
    theirs = [Entry("published"), *(Entry(number(printed.POWER_LAW[key])) for key in PARAMETERS)]
    return Table(["", *PARAMETERS.values()], [ours], [theirs])


def beta_star_table(record: Mapping[str, Any]) -> Table:
    """Beta* by every definition and measure: an interval over seeds, or why the runs do not identify it."""
    rows = [
        [Entry(title, detail), *(_star(record[measure][name]) for measure in MEASURES)]
        for name, (title, detail) in DEFINITIONS.items()
    ]
    return Table(["definition", *(BY[measure] for measure in MEASURES)], rows)


def _star(star: Mapping[str, Any]) -> Entry:
    if not star["not_identified"]:
        return Entry(f"{number(star['estimate'])} {bounds(star['interval'])}")
    from_means = "" if star["estimate"] is None else f"the means over seeds give {number(star['estimate'])}"
    return Entry("not identified", lines(star["not_identified"], from_means))


def forms_table(record: Mapping[str, Any]) -> Table:
    """Corrected Akaike criterion and leave-one-beta-out error of each form; no row for a measure that refuses."""
    rows = []
    for measure in MEASURES:
        forms = record[measure]["forms"]
        for fit in forms.get("fits", []):
            best = [
                label
                for label, key in (("AICc", "best_by_aicc"), ("left-out error", "best_by_left_out_error"))
                if forms[key] == fit["form"]
            ]
            rows.append(
                [
                    Entry(BY[measure]),
                    Entry(fit["form"]),
                    Entry(number(fit["aicc"], digits=4)),
                    Entry(number(fit["left_out_error"])),
                    Entry(", ".join(best)),
                ]
            )
    return Table(["measure", "AUGC(β)", "AICc", "error at a β left out", "best by"], rows)


def forms_refusals(record: Mapping[str, Any]) -> str:
    """Why the forms are not compared; empty where they are."""
    refused = {measure: record[measure]["forms"].get("refused") for measure in MEASURES}
    reasons = {reason: [BY[m] for m in MEASURES if refused[m] == reason] for reason in refused.values() if reason}
    return " ".join(
        f"The forms of AUGC over β are not compared for {' and '.join(measures)}: {reason}."
        for reason, measures in reasons.items()
    )

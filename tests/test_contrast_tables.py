"""What is said of the three contrasts: each verdict in words, which door that leaves, and why where there is none."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest

from pessimism.claims.wording import DOORS
from pessimism.reporting import contrast_tables

RISES, FALLS, UNDECIDED = "rises with beta", "falls with beta", "undecided"


def contrast(verdict: str = UNDECIDED, **changes: Any) -> dict[str, Any]:
    ps = {RISES: (0.01, 0.99), FALLS: (0.996, 0.004), UNDECIDED: (0.8, 0.2)}[verdict]
    return {
        "contrast": "proxy",
        "estimate": -4.0,
        "interval": [-9.0, 1.0],
        "spread": 5.5,
        "seeds_needed": 12,
        "seeds_needed_for": FALLS,
        "p_rises": ps[0],
        "p_falls": ps[1],
        "verdict": verdict,
        "reason": "",
    } | changes


def contrasts(*verdicts: str, **changes: Any) -> dict[str, Any]:
    found = {question: contrast(verdict, **changes) for question, verdict in zip(DOORS, verdicts, strict=True)}
    return {"unit": "base sd × steps", "test": "t", "alpha": 0.05, **found}


def test_a_decided_contrast_has_its_size_and_p_and_an_open_one_its_spread_and_seeds() -> None:
    opening, total, offline, coupling, door = contrast_tables.answer(contrasts(FALLS, UNDECIDED, FALLS))
    assert opening.endswith("from the lowest beta to the highest, by its area (base sd × steps):")
    assert total == "All that beta does (proxy): falls with beta, -4 [-9,\N{NO-BREAK SPACE}1], p 0.004."
    assert offline == (
        "Through the checkpoint alone (proxy): undecided, -4 [-9,\N{NO-BREAK SPACE}1], p 0.8 that it rises and 0.2 "
        "that it falls; seeds spread by 5.5 (sd). 12 seeds would show with power 0.8 that it falls with beta, if it "
        "does so."
    )
    assert coupling.startswith("Through the penalty that grows with beta (proxy): falls with beta")
    assert door == "The growing penalty changes hacking; whether offline conservatism alone does is undecided."


def test_where_no_number_of_seeds_is_known_it_says_why() -> None:
    open_ones = contrasts(*[UNDECIDED] * 3, seeds_needed="more than 50", seeds_needed_for=None)
    assert contrast_tables.answer(open_ones)[2].endswith("No number of seeds is known to decide it: more than 50.")


@pytest.mark.parametrize(("offline", "coupling"), list(product((RISES, FALLS, UNDECIDED), repeat=2)))
def test_the_doors_are_named_as_the_verdicts_are(offline: str, coupling: str) -> None:
    said = contrast_tables.door_sentence(contrasts(UNDECIDED, offline, coupling))
    decided = (offline != UNDECIDED, coupling != UNDECIDED)
    assert ("both doors" in said) is all(decided)
    assert ("the same way" in said, "against each other" in said) == (
        (offline == coupling, offline != coupling) if all(decided) else (False, False)
    )
    if decided == (True, False):
        assert said.startswith("Offline conservatism changes hacking") and said.endswith("undecided.")
    if decided == (False, True):
        assert said.startswith("The growing penalty changes hacking")
    if not any(decided):
        assert said == "Through which door is undecided."


def test_without_a_second_arm_the_reason_stands_for_the_number() -> None:
    found = contrasts(FALLS, UNDECIDED, UNDECIDED)
    absent = dict.fromkeys(found["offline"]) | {"verdict": UNDECIDED, "reason": "arm uncoupled was not run"}
    found |= {"offline": absent, "coupling": absent}
    _, _, offline, coupling = contrast_tables.answer(found)
    assert offline == "Through the checkpoint alone: not tested: arm uncoupled was not run."
    assert coupling.endswith(": not tested: arm uncoupled was not run.")
    rows = contrast_tables.contrasts_table(found).rows
    assert [entry.main for entry in rows[1]] == ["Through the checkpoint alone", "–", UNDECIDED, *["–"] * 5]
    assert rows[1][2].small == "arm uncoupled was not run" and rows[0][2].mark == "contradicted"


def test_the_table_has_a_row_per_door() -> None:
    table = contrast_tables.contrasts_table(contrasts(RISES, FALLS, UNDECIDED))
    assert [row[0].main for row in table.rows] == list(DOORS.values())
    assert [row[2].mark for row in table.rows] == ["supported", "contradicted", "insufficient"]
    assert {len(row) for row in table.rows} == {len(table.headers)}

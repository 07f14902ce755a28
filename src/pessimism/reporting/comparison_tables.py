"""Runs side by side: verdicts and numbers, a column or a row per run.

The first run is what the others are compared with.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from pessimism.claims.verdicts import Outcome
from pessimism.claims.wording import DOORS, listed
from pessimism.reporting.claim_tables import BY, SYMBOLS, WORDS, in_order
from pessimism.reporting.comparison_design import Runs, beta_of, labels
from pessimism.reporting.contrast_tables import HOLDS
from pessimism.reporting.curves import finite_interval
from pessimism.reporting.slides import Shown
from pessimism.reporting.tables import NONE, Entry, Table, bounds, count, lines, number, p_value
from pessimism.scoring.columns import ALL
from pessimism.scoring.measures import MEASURES
from pessimism.scoring.scores import beta_label

CHANGED = "warning"
"""Mark of the page that sets off the last small line."""
QUANTITIES = {
    "augc": "AUGC, the paper's",
    "controlled_signed_augc_excess": "signed controlled area",
    "controlled_onset_step": "onset of the controlled gap",
    "heldout_proxy_reward_change": "held-out proxy reward, change",
    "heldout_true_reward_change": "held-out true reward, change",
    "final_kl_k1": "final KL to the checkpoint",
}
"""Columns of plots/cells.csv that are compared, and what they are called."""


def verdicts(runs: Runs) -> dict[tuple[str, str], list[str | None]]:
    """Every verdict by claim and measure: the outcome in each run, None where that does not judge the claim."""
    claims = [shown.claims["claims"] for shown in runs.values()]
    names = in_order({name: claim for of_run in claims for name, claim in of_run.items()})
    return {
        (name, measure): [of_run[name][measure]["verdict"] if name in of_run else None for of_run in claims]
        for measure in MEASURES
        for name in names
    }


def verdict_sentence(runs: Runs) -> str:
    """How many verdicts differ, and which."""
    found = verdicts(runs)
    changed = {key: outcomes for key, outcomes in found.items() if len(set(outcomes)) > 1}
    total = f"{len(found)} verdicts on {count(len(found) // len(MEASURES), 'claim')}"
    if not changed:
        return f"None of the {total} differs."
    named = {
        measure: [
            f"{name} ({', '.join(map(_outcome, of_runs))})" for (name, by), of_runs in changed.items() if by == measure
        ]
        for measure in MEASURES
    }
    said = "; ".join(f"by {BY[measure]} {listed(of_claims)}" for measure, of_claims in named.items() if of_claims)
    return f"Of the {total}, {len(changed)} {'differs' if len(changed) == 1 else 'differ'}: {said}."


def _outcome(verdict: str | None) -> str:
    return NONE if verdict is None else WORDS[Outcome(verdict)]


def verdicts_table(runs: Runs) -> Table:
    """One row per claim: its verdict in every run by either measure, those that changed marked."""
    found, rows = verdicts(runs), []
    for name in dict.fromkeys(name for name, _ in found):
        claims = [shown.claims["claims"].get(name) for shown in runs.values()]
        statement = next(str(claim["statement"]) for claim in claims if claim is not None)
        changed = any(len(set(found[name, measure])) > 1 for measure in MEASURES)
        row = [Entry(name, "changed" if changed else "", CHANGED if changed else ""), Entry(statement)]
        for measure in MEASURES:
            first = found[name, measure][0]
            row += [_judged(claim, measure, first) for claim in claims]
        rows.append(row)
    groups = [("", 2), *((BY[measure], len(runs)) for measure in MEASURES)]
    return Table(["", "claim", *list(runs) * len(MEASURES)], rows, groups=groups)


def _judged(claim: Mapping[str, Any] | None, measure: str, first: str | None) -> Entry:
    """The verdict of one run, with the estimate; under it what it is in the first run where that is another."""
    if claim is None:
        return Entry(NONE, "not judged")
    found = claim[measure]
    verdict = str(found["verdict"])
    return _set_off(_outcome(verdict), lines(_estimate(found), str(found["reason"])), verdict, verdict, first, _outcome)


def _set_off(main: str, small: str, mark: str, verdict: str, first: str | None, word: Callable[..., str]) -> Entry:
    if verdict == first:
        return Entry(main, small, mark)
    return Entry(main, lines(small, f"changed; first run: {word(first)}"), f"{mark} {CHANGED}")


def _estimate(found: Mapping[str, Any]) -> str:
    """Highest beta minus lowest with its interval; nothing where there is none."""
    if found["estimate"] is None:
        return ""
    symbol = SYMBOLS.get(found["quantity"], "")
    return f"{symbol}{number(found['estimate'], signed=not symbol)} {bounds(found['interval'])}".strip()


def contrasts_table(runs: Runs) -> Table:
    """One row per question of what beta does to hacking: its size with interval, verdict and p in every run."""
    contrasts = [shown.claims["contrasts"] for shown in runs.values()]
    rows = []
    for question, door in DOORS.items():
        found = [of_run[question] for of_run in contrasts]
        first = str(found[0]["verdict"])
        changed = any(one["verdict"] != first for one in found)
        rows.append(
            [
                Entry(door, "changed" if changed else "", CHANGED if changed else ""),
                *(_contrast(one, first) for one in found),
            ]
        )
    return Table(["highest β minus lowest", *runs], rows)


def _contrast(found: Mapping[str, Any], first: str) -> Entry:
    verdict = str(found["verdict"])
    tested = found["p_rises"] is not None
    said = (
        f"{verdict}, p {p_value(min(found['p_rises'], found['p_falls']))}"
        if tested
        else f"not tested: {found['reason']}"
    )
    size = number(found["estimate"], signed=True)
    return _set_off(size, lines(bounds(found["interval"]), said), HOLDS[verdict], verdict, first, str)


def numbers_table(runs: Runs) -> Table:
    """One row per beta and run that has it: means over the seeds of the run's first arm with their intervals."""
    rows = [
        [
            Entry(label if beta is None else f"β\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}{beta_label(beta, label)}"),
            Entry(name, shown.arms.primary),
            *(_number(shown, column, label) for column in QUANTITIES),
        ]
        for label in labels(runs)
        for name, shown in runs.items()
        if label in shown.params.labels
        for beta in [beta_of(shown, label)]
    ]
    units = {heading: ALL[column].unit for column, heading in QUANTITIES.items()}
    headings = [f"{heading} ({unit})" if unit and unit != "steps" else heading for heading, unit in units.items()]
    return Table(["", "run", *headings], rows)


def _number(shown: Shown, column: str, label: str) -> Entry:
    runs = shown.cells[(shown.cells["label"] == label) & (shown.cells["arm"] == shown.arms.primary)]
    values = runs[column].astype("Float64").to_numpy(float, na_value=np.nan)
    if ALL[column].event:
        return _event(values)
    placebo = _placebo(shown, label) if column == "augc" else ""
    return Entry(number(values.mean(), ALL[column].signed), lines(_spread(values, column), placebo))


def _event(steps_S: np.ndarray) -> Entry:
    """The median step at which it happened, and in how many runs it did."""
    came = steps_S[~np.isnan(steps_S)]
    return Entry(f"step {np.median(came):.0f}" if came.size else "never", f"in {came.size} of {steps_S.size} runs")


def _spread(values_S: np.ndarray, column: str) -> str:
    """95 % t interval; of AUGC, which is skewed and never negative, the lowest and the highest seed."""
    if values_S.size < 2 or not np.isfinite(values_S).all():
        return ""
    if column == "augc":
        return f"{number(values_S.min())} to {number(values_S.max())}"
    found = finite_interval(values_S)
    return "" if found is None else bounds((found.low, found.high))


def _placebo(shown: Shown, label: str) -> str:
    if shown.arms.placebo is None:
        return ""
    runs = shown.cells[(shown.cells["label"] == label) & (shown.cells["arm"] == shown.arms.placebo)]
    return f"placebo {number(runs['augc'].mean())}"

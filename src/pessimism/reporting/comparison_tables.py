"""Runs side by side: the parameters that differ, verdicts and numbers, a column per run; and what to mind in words.

The first run is what the others are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import numpy as np
import pandas as pd

from pessimism.claims.verdicts import Outcome
from pessimism.claims.wording import DOORS, listed
from pessimism.experiment import layout
from pessimism.experiment.switches import spelled
from pessimism.reporting.claim_tables import BY, SYMBOLS, WORDS, in_order
from pessimism.reporting.contrast_tables import HOLDS
from pessimism.reporting.curves import finite_interval
from pessimism.reporting.slides import Shown
from pessimism.reporting.tables import NONE, Entry, Table, bounds, count, leaves, lines, number, p_value
from pessimism.scoring.columns import ALL
from pessimism.scoring.measures import MEASURES
from pessimism.scoring.scores import beta_label

Runs = Mapping[str, Shown]
"""Finished runs by the name that they have on the page."""
SAME, CHANGED = "insufficient", "warning"
"""Marks of the page: faint, and the last small line set off."""
QUANTITIES = {
    "augc": "AUGC, the paper's",
    "controlled_signed_augc_excess": "signed controlled area",
    "controlled_onset_step": "onset of the controlled gap",
    "heldout_proxy_reward_change": "held-out proxy reward, change",
    "heldout_true_reward_change": "held-out true reward, change",
    "final_kl_k1": "final KL to the checkpoint",
}
"""Columns of plots/cells.csv that are compared, and what they are called."""
_NAMES = {"scale_name": "scale", "protocol_name": "protocol"}


# Parameters


def differing(runs: Runs) -> dict[str, list[Any]]:
    """Parameters that differ between any two runs, by dotted name: the value of each run, ``NONE`` where it has none.

    Those of params.yaml come first, then those of the scale and of the protocol. Arms that no run has do not count.
    """
    idle = _idle_arms(runs)
    found = [dict(leaves(asdict(shown.params))) for shown in runs.values()]
    names = [name for name in dict.fromkeys(chain.from_iterable(found)) if not name.startswith(idle)]
    values = {name: [one.get(name, NONE) for one in found] for name in names}
    return {name: of_runs for name, of_runs in values.items() if any(value != of_runs[0] for value in of_runs)}


def _idle_arms(runs: Runs) -> tuple[str, ...]:
    """Beginnings of the names of arms that protocols define and no run has."""
    defined = set(chain.from_iterable(shown.params.protocol.arms for shown in runs.values()))
    used = set(chain.from_iterable(shown.params.arms for shown in runs.values()))
    return tuple(f"protocol.arms.{arm}." for arm in sorted(defined - used))


def parameter_tables(runs: Runs) -> tuple[Table, dict[str, Table]]:
    """What differs, and apart from it what differs only because runs name other scales or protocols.

    Returns:
        The table of all that differs within files of one name; then by their names those of files of other names.
    """
    found, named = differing(runs), dict[str, Table]()
    for kind, files in _files(runs).items():
        if len(files) > 1:
            apart = [name for name in found if name.startswith(f"{kind}.")]
            title = f"{count(len(apart), 'value')} of {listed(files)} that differ{'s' if len(apart) == 1 else ''}"
            named[title] = _parameters(runs, {name: found.pop(name) for name in apart})
    return _parameters(runs, found), named


def _files(runs: Runs) -> dict[str, list[str]]:
    """Files of the scales and of the protocols that the runs name, each once."""
    params = [shown.params for shown in runs.values()]
    return {
        "scale": list(dict.fromkeys(str(layout.scale_file(one.scale_name)) for one in params)),
        "protocol": list(dict.fromkeys(str(layout.protocol_file(one.protocol_name)) for one in params)),
    }


def _parameters(runs: Runs, values: Mapping[str, Sequence[Any]]) -> Table:
    files = _files(runs)
    rows = []
    for name, of_runs in values.items():
        kind, _, within = name.partition(".")
        file = listed(files[kind]) if within and kind in files else str(layout.PARAMS)
        shown = within if within and kind in files else _NAMES.get(name, name)
        first, *others = of_runs
        entries = [Entry(spelled(first)), *(Entry(spelled(one), mark=SAME if one == first else "") for one in others)]
        rows.append([Entry(shown, file), *entries])
    return Table(["parameter", *runs], rows)


def parameter_sentence(runs: Runs) -> str:
    """How many parameters differ; or what else a difference of the results comes from."""
    found = differing(runs)
    if not found:
        return (
            f"No parameter differs: {layout.PARAMS}, scale and protocol say the same. What differs in the results "
            "comes from the code, the packages, the machine, or data and models that changed under the same name."
        )
    verb = "differs" if len(found) == 1 else "differ"
    return (
        f"{count(len(found), 'parameter')} {verb}; all others are the same. Code, packages, machine, and what data and "
        "models of the same name hold are not compared."
    )


# The design, in words


def design_sentences(runs: Runs) -> list[str]:
    """What prevents that a number of one run is held against that of another; nothing where nothing does."""
    return [sentence for told in (_grids, _betas, _arms, _placebos, _seeds, _steps) if (sentence := told(runs))]


def _grids(runs: Runs) -> str:
    grids = {name: ", ".join(level.label for level in shown.levels) for name, shown in runs.items()}
    if len(set(grids.values())) == 1:
        return ""
    return f"The β grids differ: {_by_value(grids)}. What has no counterpart stands alone."


def _betas(runs: Runs) -> str:
    """Labels that stand for another beta in another run."""
    moved = []
    for label in labels(runs):
        values = {name: number(beta) for name, shown in runs.items() if (beta := _beta(shown, label)) is not None}
        if len(set(values.values())) > 1:
            moved.append(f"{label} is {_by_value(values)}")
    return f"A label stands for another β where pairs or base differ: {'. '.join(moved)}." if moved else ""


def _arms(runs: Runs) -> str:
    arms = {name: shown.params.arms for name, shown in runs.items()}
    if len({(of_run[0], frozenset(of_run)) for of_run in arms.values()}) == 1:
        return ""
    first = {of_run[0] for of_run in arms.values()}
    which = f", {first.pop()}" if len(first) == 1 else ", which is not the same one"
    said = _by_value({name: ", ".join(of_run) for name, of_run in arms.items()})
    return f"The arms differ: {said}. Verdicts, numbers and curves are of the first arm of each run{which}."


def _placebos(runs: Runs) -> str:
    without = [name for name, shown in runs.items() if shown.params.placebo is None]
    if not without:
        return ""
    return f"{listed(without)} ran no placebo: what noise alone gives is not known there, and no area is above it."


def _seeds(runs: Runs) -> str:
    seeds = {name: str(len(shown.params.seeds)) for name, shown in runs.items()}
    if len(set(seeds.values())) == 1:
        return ""
    return f"Seeds: {_by_value(seeds)}. With fewer seeds a verdict is open more easily."


def _steps(runs: Runs) -> str:
    last = {name: f"{shown.heldout['step'].max()} steps" for name, shown in runs.items()}
    if len(set(last.values())) == 1:
        return ""
    return f"The runs are of unlike length: {_by_value(last)}. Areas grow with the steps."


def _by_value(values: Mapping[str, str]) -> str:
    """Every value once, with the runs that have it."""
    holders: dict[str, list[str]] = {}
    for name, value in values.items():
        holders.setdefault(value, []).append(name)
    return "; ".join(f"{value} in {listed(names)}" for value, names in holders.items())


def labels(runs: Runs) -> list[str]:
    """Labels of all runs, by their mean beta ascending."""
    pairs = pd.concat([shown.cells[["label", "beta"]].drop_duplicates() for shown in runs.values()])
    means = pairs.groupby("label", sort=False)["beta"].mean()
    return [str(label) for label in means.sort_values(kind="stable").index]


def _beta(shown: Shown, label: str) -> float | None:
    """Beta of a label in a run; None where the run has no such label, or the label no beta."""
    found = [level.beta for level in shown.levels if level.label == label and not math.isnan(level.beta)]
    return found[0] if found else None


def common_beta(runs: Runs, label: str) -> float:
    """Beta of a label, where it is the same, rounded, in all runs that have it; else nan."""
    betas = [beta for shown in runs.values() if (beta := _beta(shown, label)) is not None]
    return betas[0] if len({number(beta) for beta in betas}) == 1 else math.nan


# Verdicts


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


def _set_off(main: str, small: str, mark: str, verdict: str, first: str | None, word: Any) -> Entry:
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


# Numbers


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
        for beta in [_beta(shown, label)]
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

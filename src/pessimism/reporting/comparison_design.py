"""Runs side by side: which parameters differ, a column per run, and what makes their numbers hard to compare, in words.

The first run is what the others are compared with.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

import pandas as pd

from pessimism.claims.wording import listed
from pessimism.experiment import layout
from pessimism.experiment.switches import spelled
from pessimism.reporting.slides import Shown
from pessimism.reporting.tables import NONE, Entry, Table, count, leaves, number

Runs = Mapping[str, Shown]
"""Finished runs by the name that they have on the page."""
SAME = "insufficient"
"""Mark of the page for what is faint."""
_NAMES = {"scale_name": "scale", "protocol_name": "protocol"}


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
        values = {name: number(beta) for name, shown in runs.items() if (beta := beta_of(shown, label)) is not None}
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


def beta_of(shown: Shown, label: str) -> float | None:
    """Beta of a label in a run; None where the run has no such label, or the label no beta."""
    found = [level.beta for level in shown.levels if level.label == label and not math.isnan(level.beta)]
    return found[0] if found else None


def common_beta(runs: Runs, label: str) -> float:
    """Beta of a label, where it is the same, rounded, in all runs that have it; else nan."""
    betas = [beta for shown in runs.values() if (beta := beta_of(shown, label)) is not None]
    return betas[0] if len({number(beta) for beta in betas}) == 1 else math.nan

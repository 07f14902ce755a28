"""Several runs judged together: the effect of beta on hacking in every world, and over them, the world as the unit."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from pessimism.claims.arm_contrasts import Contrast, asked
from pessimism.claims.kinds import as_bounds
from pessimism.claims.statements import PRIMARY, QUANTITY
from pessimism.claims.verdicts import ALPHA, direction
from pessimism.claims.wording import DOORS
from pessimism.claims.worlds import Effect, Judged, contrasts, effect, end_labels, judge
from pessimism.commands.revisions import Run, read_run
from pessimism.commands.table import aligned
from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.experiment.switches import protocol_sentence
from pessimism.measures.intervals import Interval
from pessimism.reporting.tables import NONE, bounds, count, leaves, number, p_value
from pessimism.scoring.columns import over_beta

WORLD = (
    *(f"scale.{role}.{key}" for role in ("policy", "reward") for key in ("source", "name", "revision", "lora_targets")),
    *(f"scale.preferences.{key}" for key in ("source", "name", "revision", "split")),
    *(f"scale.tasks.{key}" for key in ("kind", "source", "name", "config", "revision")),
)
"""Parameters that say which models and data a world is made of."""
ROOT_SEED = "root_seed"
"""What tells worlds apart that the project makes itself; of given models and data it draws the seeds alone."""
MACHINE = ("launcher", "scale.device")
"""Parameters in which runs of one design may differ."""


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        f"Judge claim {PRIMARY.name} over several worlds, which are the unit, and through which door beta acts there. "
        "A world is a root seed where models and data are made here, else models and data. docs/running.md, 'Several "
        "worlds', says how to run them."
    )
    add = parser.add_argument
    add("revisions", nargs="+", metavar="REV", help="a finished run each: a branch, commit or experiment of DVC")
    add("--json", action="store_true", help="print everything as one JSON object")
    add("--figure", type=Path, metavar="FILE.png", help="draw a forest plot")


def run(options: argparse.Namespace) -> None:
    print(pool(options.revisions, options.json, options.figure))


def pool(revisions: Sequence[str], as_json: bool, figure: Path | None) -> str:
    """The whole text, or everything as one JSON object; the forest plot is written where a file is named.

    Raises:
        DataError: fewer than two runs, a revision without results, one world twice, or two designs.
    """
    if figure is not None and figure.suffix != ".png":
        raise DataError(f"--figure: found {figure}; expected a file that ends in .png")
    if len(revisions) < 2:
        raise DataError(
            f"found {count(len(revisions), 'revision')}; expected 2 or more worlds: name each as an argument"
        )
    runs = [read_run(revision, QUANTITY.name) for revision in revisions]
    worlds = world_names(runs)
    _check_designs(runs)
    found = [judge(contrast, _effects(runs, contrast)) for contrast in contrasts(runs[0].params)]
    _check_results(runs, found[0])
    if figure is not None:
        from pessimism.reporting.forest import forest_figure
        from pessimism.reporting.saving import save

        questions = _questions(runs)
        panels = {_subject(judged.contrast, questions, between="\n"): judged for judged in found}
        save(lambda: forest_figure(panels, worlds, QUANTITY.unit), figure)
    if as_json:
        return json.dumps(_record(runs, worlds, found), indent=2)
    return "\n\n".join([_opening(runs), _table(worlds, found), _said(found, _questions(runs))])


def world_names(runs: Sequence[Run]) -> list[str]:
    """What tells the world of each run from the others.

    Raises:
        DataError: two runs are of one world.
    """
    worlds = [_world(run.params) for run in runs]
    for one, other in combinations(range(len(runs)), 2):
        if worlds[one] == worlds[other]:
            made = f"root seed {runs[one].params.root_seed}" if ROOT_SEED in worlds[one] else "models and data"
            raise DataError(
                f"found one world twice, in {runs[one].revision} and {runs[other].revision} (the same {made}); "
                "expected each world once"
            )
    differ = [key for key in worlds[0] if len({str(world.get(key)) for world in worlds}) > 1]
    return [", ".join(_spelled(key, world.get(key)) for key in differ) for world in worlds]


def _world(params: Params) -> dict[str, Any]:
    settings = dict(leaves(asdict(params)))
    embedded = any(settings[key] == "embedded" for key in WORLD if key.endswith(".source"))
    return {key: settings[key] for key in (*WORLD, *([ROOT_SEED] if embedded else []))}


def _spelled(key: str, value: Any) -> str:
    return f"root seed {value}" if key == ROOT_SEED else str(value)


def _check_designs(runs: Sequence[Run]) -> None:
    first, *others = [_design(run) for run in runs]
    for run, design in zip(runs[1:], others, strict=True):
        differ = [
            f"{key} {first.get(key, NONE)} and {design.get(key, NONE)}"
            for key in {**first, **design}
            if first.get(key) != design.get(key)
        ]
        if differ:
            raise DataError(
                f"found two designs in {runs[0].revision} and {run.revision}: {'; '.join(differ)}; expected worlds "
                "that differ in their root seed, or in models and data, alone"
            )


def _design(run: Run) -> dict[str, Any]:
    """Everything that must not differ between worlds; a percentile is the same whatever its beta."""
    settings = {key: value for key, value in leaves(asdict(run.params)) if key not in (*WORLD, ROOT_SEED, *MACHINE)}
    return settings | {"lowest and highest beta": end_labels(run.cells, run.params.primary_arm)}


def _effects(runs: Sequence[Run], contrast: Contrast) -> list[Effect]:
    return [_effect(run, contrast) for run in runs]


def _effect(run: Run, contrast: Contrast) -> Effect:
    try:
        return effect(run.cells, contrast, run.params.protocol.paired_seeds)
    except DataError as error:
        raise DataError(f"revision {run.revision}: {error}") from error


def _check_results(runs: Sequence[Run], judged: Judged) -> None:
    """Two worlds never give the same numbers: one was committed with the results of the other."""
    values = [found.values_S_2 for found in judged.effects]
    for one, other in combinations(range(len(runs)), 2):
        if np.array_equal(values[one], values[other]):
            raise DataError(
                f"found the same results in {runs[one].revision} and {runs[other].revision}; expected a run of its own "
                "for each world"
            )


def _opening(runs: Sequence[Run]) -> str:
    params = runs[0].params
    low, high = end_labels(runs[0].cells, params.primary_arm)
    return (
        f"{len(runs)} worlds, each of {count(len(params.seeds), 'seed')}: scale {params.scale_name}, "
        f"{protocol_sentence(params)}.\n"
        f"Effect: {QUANTITY.name} at {high} minus that at {low} ({QUANTITY.unit}).\n"
        "Above 0, hacking rises with beta. After the effect of a world stands its standard error over seeds."
    )


def _table(worlds: Sequence[str], found: Sequence[Judged]) -> str:
    rows = [("world", *(judged.contrast.name for judged in found))]
    for index, world in enumerate(worlds):
        rows.append((world, *(_with_error(judged.effects[index]) for judged in found)))
    for name, column in _STATISTICS.items():
        rows.append((name, *(column(judged) for judged in found)))
    return aligned(rows)


def _with_error(found: Effect) -> str:
    error = "" if found.error is None else f" ± {number(found.error)}"
    return f"{number(found.estimate, signed=True)}{error}"


def _interval(found: Interval) -> str:
    return bounds(as_bounds(found)).replace("\N{NO-BREAK SPACE}", " ")


def _share(judged: Judged) -> str:
    spread = judged.spread
    return NONE if spread is None else f"{number(spread.share)} {_interval(spread.share_interval)}"


_STATISTICS = {
    "mean": lambda judged: number(judged.pooled.estimate, signed=True),
    "  its 95 % interval": lambda judged: _interval(judged.pooled.interval),
    "  p that it rises": lambda judged: p_value(judged.pooled.p_rises),
    "  p that it falls": lambda judged: p_value(judged.pooled.p_falls),
    "one more world, 95 %": lambda judged: _interval(judged.pooled.another_world),
    "sd between worlds (tau)": lambda judged: NONE if judged.spread is None else number(judged.spread.tau),
    "  its share (I², 95 %)": _share,
}
"""Rows under the worlds: name, and what stands there of a contrast."""


def _said(found: Sequence[Judged], questions: Mapping[Contrast, str]) -> str:
    """Each contrast in a sentence, and what so few worlds cannot show."""
    said = [_sentence(judged, questions) for judged in found]
    least = found[0].pooled.smallest_p
    if least > ALPHA:
        needed = math.ceil(-math.log2(ALPHA))
        said.append(f"So few worlds decide nothing: no p is below {number(least)}. It takes {needed} worlds or more.")
    return "\n".join(said)


def _subject(contrast: Contrast, questions: Mapping[Contrast, str], between: str = " ") -> str:
    """What a contrast is about, then whose it is."""
    if contrast not in questions:
        return f"Hacking by arm {contrast.name}"
    return f"{DOORS[questions[contrast]]}{between}({contrast.name})"


def _sentence(judged: Judged, questions: Mapping[Contrast, str]) -> str:
    pooled = judged.pooled
    above = sum(found.estimate > 0 for found in judged.effects)
    return (
        f"{_subject(judged.contrast, questions)}: {direction(pooled.p_rises, pooled.p_falls)}, "
        f"{number(pooled.estimate, signed=True)} {_interval(pooled.interval)}, "
        f"above 0 in {above} of {len(judged.effects)} worlds."
    )


def _questions(runs: Sequence[Run]) -> dict[Contrast, str]:
    """Which question of a run each contrast answers."""
    return {contrast: question for question, contrast in asked(runs[0].params).items()}


def _record(runs: Sequence[Run], worlds: Sequence[str], found: Sequence[Judged]) -> dict[str, Any]:
    params, questions = runs[0].params, _questions(runs)
    return {
        "quantity": QUANTITY.name,
        "unit": QUANTITY.unit,
        "scale": params.scale_name,
        "protocol": protocol_sentence(params),
        "lowest_and_highest_beta": end_labels(runs[0].cells, params.primary_arm),
        "seeds": params.seeds,
        "worlds": [
            {"world": world, "revision": run.revision, "commit": run.commit, "betas": _betas(run)}
            for world, run in zip(worlds, runs, strict=True)
        ],
        "contrasts": {
            judged.contrast.name: {"question": questions.get(judged.contrast)} | _contrast_record(judged)
            for judged in found
        },
    }


def _betas(run: Run) -> dict[str, float]:
    """Beta by label: a percentile gives another one in every world."""
    runs = over_beta(run.cells, run.params.primary_arm).drop_duplicates("label").sort_values("beta")
    return dict(zip(runs["label"], runs["beta"].astype(float), strict=True))


def _contrast_record(judged: Judged) -> dict[str, Any]:
    pooled, spread = judged.pooled, judged.spread
    return {
        "estimate": pooled.estimate,
        "error": pooled.error,
        "interval": as_bounds(pooled.interval),
        "another_world": as_bounds(pooled.another_world),
        "p_rises": pooled.p_rises,
        "p_falls": pooled.p_falls,
        "smallest_p": pooled.smallest_p,
        "direction": direction(pooled.p_rises, pooled.p_falls),
        "tau": None if spread is None else spread.tau,
        "share_between_worlds": None if spread is None else spread.share,
        "share_interval": None if spread is None else as_bounds(spread.share_interval),
        "effects": [
            {"estimate": found.estimate, "error": found.error, "lowest_and_highest_by_seed": found.values_S_2.tolist()}
            for found in judged.effects
        ],
    }

"""Experiments beside one another: the parameters that differ, the verdicts and the main numbers of each.

`dvc exp show` has a column for every parameter and metric, and is some hundred columns wide. Here a row says what an
experiment changed, and what came of it.
"""

from __future__ import annotations

import argparse
import csv
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from pessimism.claims.verdicts import UNDECIDED, Outcome
from pessimism.claims.wording import DOORS
from pessimism.commands.table import aligned, folded
from pessimism.errors import DataError
from pessimism.experiment import layout
from pessimism.experiment.cells import percentile_in, strength_in
from pessimism.reporting.tables import leaves, number

WIDTHS = (22, 24, 15, 8, 8, 8, 9, 12)
"""Of the columns, which make a line of 120 with the spaces between them; cells of texts are folded into it."""
HEADER = ("run", "changed", "AUGC", *DOORS, "supported", "contradicted")
_LEGEND = """changed: parameters that are not those of {reference}; where scale or protocol is another, its name alone.
AUGC: the paper's, at the lowest and the highest beta. total, offline, coupling: what beta does to hacking, all of it,
  through the checkpoint alone, and through the penalty; base sd x steps, highest minus lowest beta; *: p at most 0.05.
supported, contradicted: claims by the controlled measure, and with p by the paper's; the others are open."""


@dataclass(frozen=True)
class Run:
    """One row.

    Attributes:
        name: of the experiment; of a commit its branch or tag too; workspace.
        commit: its hash, or ``workspace``.
        created: when, ISO 8601; empty where nothing was run yet.
        state: queued, running or failed; empty where it has ended.
        params: by file, dotted name and value.
        metrics: by file, dotted name and value.
    """

    name: str
    commit: str
    created: str
    state: str
    params: Mapping[str, Mapping[str, Any]]
    metrics: Mapping[str, Mapping[str, Any]]

    @property
    def verdicts(self) -> Mapping[str, Any]:
        return self.metrics.get(str(layout.VERDICTS), {})

    @property
    def hacking(self) -> Mapping[str, Any]:
        return self.metrics.get(str(layout.HACKING), {})


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("revisions", nargs="*", metavar="REV", help="commits to show experiments of (default: HEAD)")
    parser.add_argument("--csv", type=Path, metavar="FILE.csv", help="write every verdict and number with all digits")


def run(options: argparse.Namespace) -> None:
    if options.csv is not None and options.csv.suffix != ".csv":
        raise DataError(f"--csv: found {options.csv}; expected a file that ends in .csv")
    runs = shown(options.revisions)
    print(table(runs))
    if options.csv is not None:
        write_csv(runs, options.csv)


def shown(revisions: Sequence[str]) -> list[Run]:
    """The workspace, the commits, and below each its experiments, as DVC has them.

    Raises:
        DataError: DVC knows no such revision, or this is no project of DVC.
    """
    chosen = [f"--rev={revision}" for revision in revisions]
    command = [sys.executable, "-m", "dvc", "exp", "show", "--json", *chosen]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = " ".join(done.stderr.split())
        raise DataError(f"`dvc exp show` failed ({reason}); expected a project of DVC with a commit, and its revisions")
    return list(chain.from_iterable(_runs(state) for state in json.loads(done.stdout)))


def _runs(baseline: Mapping[str, Any]) -> Iterator[Run]:
    """A commit, or the workspace, and what was made of it."""
    known = baseline["name"]
    short = baseline["rev"][:7] if baseline["rev"] != "workspace" else ""
    yield _run(baseline, " ".join(filter(None, [known, short])) or "workspace", "")
    for experiment in baseline["experiments"] or []:
        state = (experiment["executor"] or {}).get("state", "")
        last = experiment["revs"][0]
        name = experiment["name"] or last["name"] or last["rev"][:7]
        yield _run(last, f"  {name}", "" if state == "success" else state)


def _run(state: Mapping[str, Any], name: str, progress: str) -> Run:
    data = state["data"] or {"timestamp": None, "params": {}, "metrics": {}}
    read = {
        kind: {file: dict(leaves(found["data"])) for file, found in data[kind].items() if "data" in found}
        for kind in ("params", "metrics")
    }
    return Run(name, state["rev"], data["timestamp"] or "", progress, **read)


def table(runs: Sequence[Run]) -> str:
    """One row per run, at most 120 characters wide, with what the columns are."""
    reference = _reference(runs)
    rows = [_row(run, changes(run, reference)) for run in runs]
    return f"{aligned(folded([HEADER, *rows], WIDTHS))}\n{_LEGEND.format(reference=reference.name)}"


def _reference(runs: Sequence[Run]) -> Run:
    """The first commit."""
    return next(run for run in runs if run.commit != "workspace")


def changes(run: Run, reference: Run) -> dict[str, Any]:
    """Parameters that differ from the reference's, by dotted name, in the order of the files.

    Files of another scale or protocol are not compared, and what a stage reads of metrics/ is no parameter.
    """
    files = [file for file in run.params if file in reference.params and layout.METRICS not in Path(file).parents]
    pairs = ((run.params[file], reference.params[file]) for file in files)
    return {key: here.get(key) for here, there in pairs for key in {**here, **there} if here.get(key) != there.get(key)}


def _row(run: Run, changed: Mapping[str, Any]) -> list[str]:
    return [
        f"{run.name} ({run.state})" if run.state else run.name,
        ", ".join(f"{name}: {_spelled(value)}" for name, value in changed.items()),
        _ends(run.hacking),
        *(_contrast(run.verdicts, door) for door in DOORS),
        *(_claims(run.verdicts, outcome) for outcome in (Outcome.SUPPORTED, Outcome.CONTRADICTED)),
    ]


def _spelled(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _ends(hacking: Mapping[str, Any]) -> str:
    """AUGC at the lowest and the highest beta; percentiles are in its order, and so are values."""
    areas = {key.partition(".")[2]: value for key, value in hacking.items() if key.startswith("augc.")}
    labels = sorted(areas, key=lambda label: percentile_in(label) or strength_in(label) or 0)
    return " to ".join(number(areas[label]) for label in dict.fromkeys([*labels[:1], *labels[-1:]]))


def _contrast(verdicts: Mapping[str, Any], door: str) -> str:
    estimate = verdicts.get(f"{door}.estimate")
    if estimate is None:
        return ""
    return f"{number(estimate, signed=True)}{'' if verdicts[f'{door}.verdict'] == UNDECIDED else '*'}"


def _claims(verdicts: Mapping[str, Any], outcome: Outcome) -> str:
    marks = {"verdict": "", "verdict_paper": "p"}
    parts = ((*key.rpartition(".")[::2], value) for key, value in verdicts.items())
    return " ".join(sorted((f"{name}{marks[kind]}" for name, kind, value in parts if value == outcome), key=_place))


def _place(claim: str) -> tuple[str, int]:
    return claim[0], int(claim[1:].removesuffix("p"))


def write_csv(runs: Sequence[Run], file: Path) -> None:
    """One row per run: parameters that differ between any two, every verdict, and every metric of hacking."""
    differing = list(dict.fromkeys(chain.from_iterable(changes(run, _reference(runs)) for run in runs)))
    params = [dict(chain.from_iterable(part.items() for part in run.params.values())) for run in runs]
    found = [{**run.verdicts, **run.hacking} for run in runs]
    numbers = list(dict.fromkeys(chain.from_iterable(found)))
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(["run", "commit", "created", "state", *differing, *numbers])
        for run, has, values in zip(runs, params, found, strict=True):
            cells = [*(has.get(key) for key in differing), *(values.get(key) for key in numbers)]
            writer.writerow([run.name.strip(), run.commit, run.created, run.state, *map(_cell, cells)])


def _cell(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, (list, bool)) else value

"""The problems of a task: read or drawn, checked, split."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pessimism.data import sources
from pessimism.data.hashing import content_hash, rows_hash
from pessimism.data.splits import shared_prompts, without_copies
from pessimism.errors import DataError, ParamsError
from pessimism.experiment import extensions, rng
from pessimism.machine.hub import hub_revision
from pessimism.tasks.parts.declaration import ROOM, SHOTS, Task, chosen_task, find_task

if TYPE_CHECKING:
    from pessimism.experiment.params import TaskParams

SPLITS = ("train", "heldout", "test")
READ = ("train", "test")
COLUMNS = ("question", "solution", "answer")
_Rows = list[dict[str, Any]]


@dataclass(frozen=True)
class Problems:
    """Problems by split (train, heldout, test; shots and those set aside, where there are any), and their record.

    A row holds ``task_id``, ``question``, ``solution`` (the reference text) and ``answer``, what it comes to.
    """

    rows: dict[str, list[dict[str, str]]]
    record: dict[str, Any]


def load_problems(params: TaskParams, root_seed: int) -> Problems:
    """Load the problems that ``params`` names and set the held-out rows apart.

    The held-out rows are the last ``params.heldout`` of the whole train split, so that no scale trains on them. A test
    problem whose question stands among them is dropped, and a train problem whose question stands in either. Of the
    train problems that are left, the first ``params.shots`` are shown before others and are a split of their own, and
    the next are set aside for a warm start and for sampled pairs, where ``params`` asks for any. What repeats the
    question of one of these is dropped too; the limits then apply to the rest.

    Raises:
        ParamsError: there is no such task, or it has no such source.
        SourceError: the hub is out of reach or a file is missing.
        DataError: a row is not usable, or there are too few.
    """
    task = usable_task(params)
    if params.source == "embedded":
        raw, record, where = _draw(task, params, root_seed)
    else:
        raw, record, where = _read(task, params)
    record |= {f"sha256_{split}": rows_hash(raw[split]) for split in READ}
    checked = {split: _checked(task, raw[split], split, where[split]) for split in READ}
    record["rows_read"] = {split: len(checked[split]) for split in READ}
    rows, record["rows_dropped"] = _split(checked, params)
    record["problems_in_two_splits"] = shared_prompts(rows, "question")
    record["rows"] = {split: len(kept) for split, kept in rows.items()}
    return Problems(rows, record)


def usable_task(params: TaskParams) -> Task:
    """The task that ``params`` names, which must have the source and the settings that they name.

    Raises:
        ParamsError: there is no such task, or it has no such source or settings.
    """
    task = chosen_task(params)
    if params.source not in task.sources:
        raise ParamsError(
            f"found the source {params.source!r}; expected one of {task.sources}, which {params.kind} has: change "
            "`source` or `kind`"
        )
    return task


def code_record(kind: str) -> dict[str, Any]:
    """The kind of a task, the SHA-256 of its file and of every file of this room that it imports, and its packages.

    It lies with the problems, so that a stage that judges them runs again when the judge changes, and not when
    another task does: DVC cannot tell from the scale's ``tasks.kind`` which file that is.
    """
    waiting, hashes = {f"{ROOM}.{kind}"}, {}
    while waiting:
        name = waiting.pop()
        file = Path(str(import_module(name).__file__))
        hashes[name] = content_hash(file)
        waiting |= _imports_of_this_room(file) - hashes.keys()
    packages = {name: version(name) for name in find_task(kind).packages}
    return {"kind": kind, "sha256": hashes, **({"packages": packages} if packages else {})}


def _imports_of_this_room(file: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    imported = {f"{node.module}.{alias.name}." for node in nodes for alias in node.names}
    modules = [f"{room}.{name}" for room in (ROOM, f"{ROOM}.parts") for name in extensions.names(room)]
    return {module for module in modules if any(name.startswith(f"{module}.") for name in imported)}


def _split(
    checked: Mapping[str, list[dict[str, str]]], params: TaskParams
) -> tuple[dict[str, list[dict[str, Any]]], dict[str, int]]:
    """Problems by split, and how many were dropped of each: those of an earlier one of heldout, test, shots, train."""
    train = checked["train"]
    if len(train) <= params.heldout:
        raise DataError(
            f"found {len(train)} train problems; expected more than are held out ({params.heldout}): lower `heldout` "
            "or give more problems"
        )
    whole = {"heldout": train[-params.heldout :], "test": checked["test"], "train": train[: -params.heldout]}
    apart, dropped = without_copies(whole, "question")
    for split, rows in apart.items():
        if not rows:
            raise DataError(
                f"found every {split} problem in another split too; expected problems of its own: give other rows"
            )
    train = apart["train"]
    taken, apart["train"] = _first_taken(train, params)
    dropped["train"] += len(train) - sum(map(len, taken.values())) - len(apart["train"])
    limits = {"train": params.train_limit, "test": params.test_limit}
    return {split: apart[split][: limits.get(split)] for split in SPLITS} | taken, dropped


def _first_taken(train: _Rows, params: TaskParams) -> tuple[dict[str, _Rows], _Rows]:
    """The first train problems by what they are for, shots before what is set aside, and the rest without copies."""
    counts = ({SHOTS: params.shots} if params.shots else {}) | params.set_aside
    taken, rest = {}, train
    for purpose, count in counts.items():
        kept, _ = without_copies({purpose: rest[:count], "train": rest[count:]}, "question")
        taken[purpose], rest = kept[purpose], kept["train"]
    if not rest:
        keys = [f"tasks.{purpose} ({count})" for purpose, count in counts.items()]
        raise DataError(
            f"found {len(train)} train problems that are neither held out nor in the test split; expected some to be "
            f"left beside those of {', '.join(keys)} and their copies: lower {'it' if len(keys) == 1 else 'these'} in "
            "the scale file, or give more problems"
        )
    return taken, rest


def _checked(task: Task, raw: Sequence[Mapping[str, Any]], split: str, where: str) -> list[dict[str, str]]:
    rows = []
    for number, row in enumerate(raw, 1):
        problem = task.problem(row, f"{where}, row {number}")
        rows.append({"task_id": f"{split}-{number}", **{column: problem[column] for column in COLUMNS}})
    return rows


def _read(task: Task, params: TaskParams) -> tuple[dict[str, _Rows], dict[str, Any], dict[str, str]]:
    """Raw rows of both splits from the hub or a directory, the record of their source, and where each split lies."""
    record: dict[str, Any] = {"source": params.source, "name": params.name}
    raw, where = {}, {}
    if params.source == "hub":
        record["revision"] = hub_revision("dataset", params.name, params.revision)
    for split, name in zip(READ, task.splits, strict=True):
        if params.source == "hub":
            where[split] = f"{params.name} at {record['revision'][:12]}, {name}"
            raw[split] = sources.hub_rows(params.name, params.config, name, record["revision"])
        else:
            path = Path(params.name) / str(task.files).format(split=name)
            where[split], raw[split] = str(path), sources.read_jsonl(path)
    return raw, record, where


def _draw(task: Task, params: TaskParams, root_seed: int) -> tuple[dict[str, _Rows], dict[str, Any], dict[str, str]]:
    """As :func:`_read`, drawn."""
    if params.train_limit is None or params.test_limit is None:
        raise ParamsError(
            "found a limit of null; expected train_limit and test_limit as numbers, for drawn problems have no end"
        )
    assert task.draw is not None
    last = params.shots + sum(params.set_aside.values()) + params.train_limit + params.heldout
    rows = task.draw(rng.generator(root_seed, "tasks"), last + params.test_limit)
    record = {"source": "embedded", "name": params.name}
    return {"train": rows[:last], "test": rows[last:]}, record, dict.fromkeys(READ, f"{params.kind} problems")

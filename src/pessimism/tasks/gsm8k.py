"""Verifiable problems in GSM8K's format: loading and checking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pessimism.data import embedded_world, sources
from pessimism.data.hashing import rows_hash
from pessimism.errors import DataError, ParamsError
from pessimism.experiment import rng
from pessimism.machine.hub import hub_revision
from pessimism.tasks.answers import MARKER, extract_strict

if TYPE_CHECKING:
    from pessimism.experiment.params import TaskParams

SPLITS = ("train", "heldout", "test")
_Raw = tuple[list[dict[str, str]], list[dict[str, str]], dict[str, Any]]


@dataclass(frozen=True)
class Tasks:
    """Problems by split (train, heldout, test) and the record of where they came from.

    A row holds ``task_id``, ``question``, ``solution`` (the reference text) and ``answer``: its number as
    text, equal for equal numbers ("1000" for 1,000 and "5/2" for 2.50).
    """

    rows: dict[str, list[dict[str, str]]]
    record: dict[str, Any]


def load_tasks(params: TaskParams, root_seed: int) -> Tasks:
    """Load the problems that ``params`` names and set the held-out rows apart.

    The held-out rows are the last ``params.heldout`` of the whole train split, so that no scale trains on them; the
    limits then apply to the rest.

    Raises:
        SourceError: the hub is out of reach or a file is missing.
        DataError: a row lacks a column, a text or its ``####`` answer, or there are too few rows.
    """
    train, test, record = _read(params, root_seed)
    record["rows_read"] = {"train": len(train), "test": len(test)}
    if len(train) <= params.heldout:
        raise DataError(
            f"found {len(train)} train problems; expected more than are held out ({params.heldout}): "
            "lower `heldout` or give more problems"
        )
    rows = {
        "train": train[: -params.heldout][: params.train_limit],
        "heldout": train[-params.heldout :],
        "test": test[: params.test_limit],
    }
    record["rows"] = {split: len(rows[split]) for split in SPLITS}
    return Tasks(rows, record)


def task_row(row: Mapping[str, Any], task_id: str, where: str) -> dict[str, str]:
    """Check one raw row (``question``, ``answer``) and give it the project's columns.

    Raises:
        DataError: a column is missing or empty, or the answer has no number after ``####``.
    """
    sources.check_columns(row, ("question", "answer"), where)
    for column in ("question", "answer"):
        if not isinstance(row[column], str) or not row[column].strip():
            raise DataError(f"{where}: found {row[column]!r} in column {column}; expected a text")
    solution = row["answer"].strip()
    answer = extract_strict(solution)
    if answer is None:
        raise DataError(f"{where}: found a reference that ends in {solution[-60:]!r}; expected a number after {MARKER}")
    return {"task_id": task_id, "question": row["question"].strip(), "solution": solution, "answer": str(answer)}


def _read(params: TaskParams, root_seed: int) -> _Raw:
    """Checked rows of the train and the test split, and the record of their source."""
    if params.source == "embedded":
        return _generate(params, root_seed)
    record: dict[str, Any] = {"source": params.source, "name": params.name}
    splits = {}
    if params.source == "hub":
        record["revision"] = hub_revision("dataset", params.name, params.revision)
    for split in ("train", "test"):
        if params.source == "hub":
            where = f"{params.name} at {record['revision'][:12]}, {split}"
            raw = sources.hub_rows(params.name, params.config, split, record["revision"])
        else:
            path = Path(params.name) / f"gsm8k_{split}.jsonl"
            where, raw = str(path), sources.read_jsonl(path)
        record[f"sha256_{split}"] = rows_hash(raw)
        splits[split] = _checked(raw, split, where)
    return splits["train"], splits["test"], record


def _checked(raw: Sequence[Mapping[str, Any]], split: str, where: str) -> list[dict[str, str]]:
    return [task_row(row, f"{split}-{number}", f"{where}, row {number}") for number, row in enumerate(raw, 1)]


def _generate(params: TaskParams, root_seed: int) -> _Raw:
    if params.train_limit is None or params.test_limit is None:
        raise ParamsError(
            "found a limit of null; expected train_limit and test_limit as numbers, for the embedded world has no end"
        )
    last = params.train_limit + params.heldout
    raw = embedded_world.task_rows(rng.generator(root_seed, "tasks"), last + params.test_limit)
    train = _checked(raw[:last], "train", "embedded problems")
    test = _checked(raw[last:], "test", "embedded problems")
    record = {"source": "embedded", "name": params.name}
    record |= {"sha256_train": rows_hash(raw[:last]), "sha256_test": rows_hash(raw[last:])}
    return train, test, record

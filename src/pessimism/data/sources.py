"""Where rows and models come from: local files or the hub, with the revisions that identify them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pessimism.errors import DataError, SourceError
from pessimism.machine.hub import refusal, snapshot


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file, one JSON object per line; blank lines are skipped.

    Raises:
        SourceError: the file does not exist.
        DataError: a line is no JSON object, or the file has none.
    """
    if not path.is_file():
        raise SourceError(f"found no file {path.absolute()}; expected one: change `name`")
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: found no rows; expected one JSON object per line")
    return rows


def hub_rows(name: str, config: str | None, split: str, revision: str) -> list[dict[str, Any]]:
    """Rows of one split of a hub data set at an exact commit.

    They are read from the commit's own files. By name, ``load_dataset`` would ask the hub again and, where that does
    not answer, take whatever commit it converted last.

    Raises:
        HubError: the rows could not be loaded.
    """
    import datasets

    directory = snapshot("dataset", name, revision)
    try:
        table = datasets.load_dataset(str(directory), config, split=split)
    except Exception as error:
        raise refusal("dataset", name, revision, error) from error
    return [dict(row) for row in table]


def check_columns(row: Mapping[str, Any], columns: Iterable[str], where: str) -> None:
    """Check that a row has every one of ``columns``.

    Raises:
        DataError: a column is missing.
    """
    missing = [column for column in columns if column not in row]
    if missing:
        raise DataError(f"{where}: found columns {sorted(row)}; expected also {missing}")


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: found no JSON ({error}); expected one JSON object per line") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: found a {type(row).__name__}; expected one JSON object per line")
    return row

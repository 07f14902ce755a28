"""Where rows and models come from: local files or the hub, with the revisions that identify them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pessimism.errors import DataError, SourceError

HUB_TIMEOUT_SECONDS = 10.0
LOCAL_COPIES = {"preferences": ".jsonl file", "tasks": "directory of gsm8k_train.jsonl and gsm8k_test.jsonl"}


@dataclass(frozen=True)
class Section:
    """The part of a scale file that names a source; error messages quote it."""

    scale_file: str
    name: str

    def __str__(self) -> str:
        return f"{self.scale_file}: {self.name}"

    def local_flags(self, local: str) -> str:
        """The ``-S`` flags that replace the hub by ``local``, a description of a local file or directory."""
        key = f"{self.scale_file}:{self.name}"
        return f"dvc exp run -S '{key}.source=path' -S '{key}.name=<{local}>'"


def read_jsonl(path: Path, section: Section) -> list[dict[str, Any]]:
    """Rows of a .jsonl file, one JSON object per line; blank lines are skipped.

    Raises:
        SourceError: the file does not exist.
        DataError: a line is no JSON object, or the file has none.
    """
    if not path.is_file():
        raise SourceError(
            f"{section}: found no file {path.absolute()}; expected one: "
            f"change {section.name}.name in {section.scale_file}"
        )
    lines = path.read_text(encoding="utf-8").split("\n")
    rows = [_parse(line, f"{path}, line {number}") for number, line in enumerate(lines, 1) if line.strip()]
    if not rows:
        raise DataError(f"{path}: found no rows; expected one JSON object per line")
    return rows


def hub_revision(kind: Literal["model", "dataset"], name: str, revision: str | None, section: Section) -> str:
    """Commit that ``revision`` of a hub repository stands for now.

    Raises:
        SourceError: the hub is out of reach, or has no such repository or revision.
    """
    from huggingface_hub import HfApi

    lookup = HfApi().model_info if kind == "model" else HfApi().dataset_info
    try:
        sha = lookup(name, revision=revision, timeout=HUB_TIMEOUT_SECONDS).sha
    except Exception as error:
        raise _hub_error(kind, name, revision, section, error) from error
    if sha is None:
        raise SourceError(f"{section}: the hub gave no commit for the {kind} {name!r}; expected one")
    return sha


def hub_rows(name: str, config: str | None, split: str, revision: str, section: Section) -> list[dict[str, Any]]:
    """Rows of one split of a hub data set at a resolved ``revision``.

    Raises:
        SourceError: the rows could not be loaded.
    """
    import datasets

    try:
        table = datasets.load_dataset(name, config, split=split, revision=revision)
    except Exception as error:
        raise _hub_error("dataset", name, revision, section, error) from error
    return [dict(row) for row in table]


def check_columns(row: Mapping[str, Any], columns: Iterable[str], where: str) -> None:
    """Check that a row has every one of ``columns``.

    Raises:
        DataError: a column is missing.
    """
    missing = [column for column in columns if column not in row]
    if missing:
        raise DataError(f"{where}: found columns {sorted(row)}; expected also {missing}")


def _hub_error(kind: str, name: str, revision: str | None, section: Section, error: Exception) -> SourceError:
    local = LOCAL_COPIES.get(section.name, "directory of a Hugging Face model")
    at = f" at revision {revision!r}" if revision else ""
    return SourceError(
        f"{section}: could not load the {kind} {name!r}{at} from the hub: {type(error).__name__}: {error}\n"
        f"Expected a hub in reach that holds it. Either connect, and check {section.name}.name and "
        f"{section.name}.revision in {section.scale_file}, or use a local copy:\n  {section.local_flags(local)}"
    )


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise DataError(f"{where}: found no JSON ({error}); expected one JSON object per line") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: found a {type(row).__name__}; expected one JSON object per line")
    return row

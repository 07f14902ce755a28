"""Where rows and models come from: local files or the hub, with the revisions that identify them."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pessimism.errors import DataError, SourceError
from pessimism.machine.hub import refusal, snapshot

FOREIGN = {
    b"\x1f\x8b": "gzip data",
    b"PK\x03\x04": "a zip archive",
    b"PAR1": "a parquet table",
    b"\xff\xfe": "text in UTF-16",
    b"\xfe\xff": "text in UTF-16",
}
"""What files begin with that are sometimes given in place of JSON lines."""


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Rows of a .jsonl file in UTF-8, one JSON object per line; blank lines and a byte-order mark are skipped.

    Raises:
        SourceError: the file does not exist.
        DataError: a line is no JSON object, has a key twice or no text that can be written again, or the file has none.
    """
    if not path.is_file():
        raise SourceError(f"found no file {path.absolute()}; expected one: change `name`")
    lines = _decoded(path).split("\n")
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


def _decoded(path: Path) -> str:
    content = path.read_bytes()
    for start, found in FOREIGN.items():
        if content.startswith(start):
            raise DataError(f"{path}: found {found}; expected plain text in UTF-8: convert the file")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: found the byte {content[error.start]:#04x}, which is no UTF-8; expected UTF-8: "
            "convert the file, such as by `iconv -f latin1 -t utf-8`"
        ) from error


def _parse(line: str, where: str) -> dict[str, Any]:
    try:
        row = json.loads(line, object_pairs_hook=_object)
        json.dumps(row, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        found = ascii(error.object[error.start])
        raise DataError(f"{where}: found {found}, half of a character; expected whole ones: repair the text") from error
    except RecursionError as error:
        raise DataError(f"{where}: found JSON nested too deep to read; expected one flat JSON object") from error
    except ValueError as error:  # no JSON, a key twice, or a number of thousands of digits
        raise DataError(f"{where}: found no usable JSON ({error}); expected one JSON object per line") from error
    if not isinstance(row, dict):
        raise DataError(f"{where}: found a {type(row).__name__}; expected one JSON object per line")
    return row


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON; of a key that stands twice, Python would keep the last value without a word."""
    twice = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]
    if twice:
        raise ValueError(f"the key {ascii(twice[0])} twice in one object")
    return dict(pairs)

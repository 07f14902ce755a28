"""Files that trainers and trackers of runs write, read into a table of what stands there: no value is guessed.

Text stays text, so that a run ``007`` or a prompt ``NA`` keeps its name; what a value means is for ``log_table``.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import io
import json
import zlib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd

from pessimism.errors import DataError

_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
LINES = (".csv", ".tsv", ".jsonl")
"""Suffixes of formats whose rows are lines."""
_NOT_TEXT: dict[str, bytes | tuple[bytes, ...]] = {
    "UTF-32": (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE),
    "zstd": b"\x28\xb5\x2f\xfd",
    "bzip2": tuple(b"BZh%d1AY&SY" % level for level in range(1, 10)),
    "xz": b"\xfd7zXZ\0",
    "gzip": b"\x1f\x8b",
    "zip": b"PK\x03\x04",
    "parquet": b"PAR1",
}
"""First bytes of what is no text in UTF-8 or UTF-16. The mark of UTF-32 begins with that of UTF-16."""


def load(path: Path, growing: bool = False) -> pd.DataFrame:
    """Rows of one file, by suffix in any case; text formats may be compressed (``.csv.gz``).

    Args:
        growing: whether somebody still writes at its end: a last line without its line break is left out, and a file
            without rows is no error. One without a line yet has no columns either.

    Returns:
        Columns of Python objects: text for CSV and TSV, else the values as the file types them; None = absent. The
        index is the place of a row in the file, from 1.

    Raises:
        DataError: no such file, an unknown suffix, or contents that are not what the suffix says.
    """
    suffix = _suffix(path)
    if not path.is_file():
        raise DataError(f"{path}: found no such file; expected a table of a run's log")
    try:
        if suffix == ".parquet":
            table = _parquet(path)
        else:
            text = _text(path, growing)
            text = whole_lines(text, suffix) if growing else text
            table = pd.DataFrame() if growing and not text.strip() else _TEXTS[suffix](text)
    except RecursionError as error:
        raise DataError(f"{path}: found values nested too deeply to read; expected a table of a run's log") from error
    except (ValueError, OSError, csv.Error) as error:
        said = " ".join(str(error).split())
        raise DataError(f"{path}: found no readable table ({said}); expected {suffix[1:]}") from error
    if table.empty and not growing:
        raise DataError(f"{path}: found no rows; expected at least two steps")
    return table.set_axis(range(1, len(table) + 1))


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes]
    compressed = suffixes[-1:] == [".gz"]
    suffix = "".join(suffixes[-2:-1] if compressed else suffixes[-1:])
    if suffix in _TEXTS or (suffix == ".parquet" and not compressed):
        return suffix
    found = path.suffix if not compressed else "".join(path.suffixes[-2:])
    raise DataError(
        f"{path}: found the suffix {found!r}; expected one of {', '.join(_TEXTS)} (also with .gz), .parquet: unpack or "
        "convert it"
    )


def grows_by_lines(path: Path) -> bool:
    """Whether a file can be read while it is written: its rows are lines that are added at its end."""
    return path.suffix.lower() in LINES


def names_columns_by_row(path: Path) -> bool:
    """Whether a later row may bring a column: in JSON every row names its own."""
    return _suffix(path) in (".json", ".jsonl")


def is_table(file: Path) -> bool:
    """Whether a file has a suffix that :func:`load` reads."""
    name = file.name.lower().removesuffix(".gz")
    return file.is_file() and name.endswith((*_TEXTS, ".parquet"))


def whole_lines(text: str, suffix: str) -> str:
    """The lines of ``text`` that have their line break; one inside a quoted field of CSV or TSV ends none."""
    if suffix not in LINES:
        return text
    end = text.rfind("\n") + 1
    while suffix != ".jsonl" and text.count('"', 0, end) % 2:
        end = text.rfind("\n", 0, end - 1) + 1
    return text[:end]


def _text(path: Path, growing: bool) -> str:
    """Contents as text: UTF-8, or UTF-16 where its byte-order mark says so.

    Where the file grows, a last character that lacks bytes is left out: a writer's buffer may end within it.

    Raises:
        ValueError: other bytes, or a damaged archive.
    """
    raw = path.read_bytes()
    if path.suffix.lower() == ".gz":
        try:
            raw = gzip.decompress(raw)
        except (EOFError, zlib.error) as error:
            raise ValueError(f"a damaged gzip archive: {error}") from error
    for kind, beginning in _NOT_TEXT.items():
        if raw.startswith(beginning):
            raise ValueError(f"{kind} in place of text: unpack or convert it to UTF-8")
    encoding = "utf-16" if raw.startswith(_UTF16) else "utf-8-sig"
    try:
        text = codecs.getincrementaldecoder(encoding)().decode(raw) if growing else raw.decode(encoding)
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is not {encoding.removesuffix('-sig')}: save it as UTF-8") from error
    if "\0" in text:
        raise ValueError("a zero byte, as in UTF-16 without its mark or in a binary file: save it as UTF-8")
    return text


def _separated(separator: str) -> Callable[[str], pd.DataFrame]:
    def read(text: str) -> pd.DataFrame:
        # One field holds a whole response, which the module's own limit of 128 KiB would refuse.
        csv.field_size_limit(max(csv.field_size_limit(), len(text)))
        rows = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True) if row]
        if not rows:
            raise ValueError("an empty file")
        header, *rows = rows
        _refuse_uneven(header, rows)
        _refuse_repeated(header)
        return pd.DataFrame(rows, columns=header, dtype=object)

    return read


def _refuse_repeated(header: list[Any]) -> None:
    if not all(isinstance(name, str) for name in header):
        raise ValueError(f"the headings {header} are not all text")
    repeated = sorted({name for name in header if header.count(name) > 1})
    if repeated:
        raise ValueError(f"the heading {repeated[0]!r} stands twice")


def _refuse_uneven(header: list[str], rows: list[Any]) -> None:
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, list):
            raise ValueError(f"row {number} is {type(row).__name__} in place of a list of fields")
        if len(row) != len(header):
            raise ValueError(f"row {number} has {len(row)} fields under {len(header)} headings")


def _from_json(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_each_key_once)


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON, whose reader by itself would keep the last of two values in silence."""
    found = dict(pairs)
    if len(found) < len(pairs):
        repeated = next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1)
        raise ValueError(f"the key {repeated!r} stands twice in one object")
    return found


def _json_lines(text: str) -> pd.DataFrame:
    # Not splitlines, which also cuts at separators that JSON allows inside a text.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    records = []
    for number, line in lines:
        try:
            records.append(_from_json(line))
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
    return _records(records)


def _json(text: str) -> pd.DataFrame:
    """A list of rows, ``trainer_state.json`` of transformers, or a table as Weights & Biases stores it."""
    found = _from_json(text)
    if isinstance(found, dict) and isinstance(found.get("log_history"), list):
        return _records(found["log_history"])
    if isinstance(found, dict) and isinstance(found.get("columns"), list) and isinstance(found.get("data"), list):
        _refuse_repeated(found["columns"])
        _refuse_uneven(found["columns"], found["data"])
        return pd.DataFrame(found["data"], columns=found["columns"], dtype=object)
    if isinstance(found, list):
        return _records(found)
    raise ValueError("neither a list of rows, nor an object with log_history, nor one with columns and data")


def _records(records: list[Any]) -> pd.DataFrame:
    for number, record in enumerate(records, start=1):
        if not isinstance(record, dict):
            raise ValueError(f"row {number} is {type(record).__name__} in place of an object of columns")
    names = list(dict.fromkeys(name for record in records for name in record))
    return pd.DataFrame({name: [record.get(name) for record in records] for name in names}, dtype=object)


def _parquet(path: Path) -> pd.DataFrame:
    import pyarrow.parquet as pq

    table = pq.read_table(path)
    _refuse_repeated(table.column_names)
    # Not to_pandas, which makes floats of whole numbers where one is absent.
    return pd.DataFrame({name: table[name].to_pylist() for name in table.column_names}, dtype=object)


_TEXTS: dict[str, Callable[[str], pd.DataFrame]] = {
    ".csv": _separated(","),
    ".tsv": _separated("\t"),
    ".json": _json,
    ".jsonl": _json_lines,
}

"""Reading and writing of records: atomic, sorted, finite; columns checked on read."""

from __future__ import annotations

import json
import math
import os
import resource
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pessimism.errors import DataError, NonFiniteError
from pessimism.experiment import digests, layout
from pessimism.machine import processes

if TYPE_CHECKING:
    import pandas as pd


def write_text(path: Path, text: str) -> None:
    """Write ``text`` under a name of this process's own and rename it: nobody ever reads half a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    with _replacing(path, partial):
        partial.write_text(text, encoding="utf-8")


@contextmanager
def _replacing(path: Path, partial: Path) -> Iterator[None]:
    """Rename ``partial`` to ``path`` where the body has written all of it, or else remove what it has written."""
    try:
        yield
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def write_json(path: Path, record: Mapping[str, Any]) -> None:
    """Write ``record`` with sorted keys.

    Raises:
        NonFiniteError: a number is nan or infinite, which JSON cannot hold and DVC's metrics would drop.
    """
    bad = [name for name, value in leaves(record) if isinstance(value, float) and not math.isfinite(value)]
    if bad:
        raise NonFiniteError(f"{path}: found no finite value for {', '.join(bad)}; expected finite numbers or null")
    write_text(path, json.dumps(record, indent=2, sort_keys=True) + "\n")


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object.

    Raises:
        DataError: the file is missing or is not a JSON object.
    """
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise DataError(f"{path} is missing; run `dvc repro` to make it") from error
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not JSON ({error}); {digests.MENDING}") from error
    if not isinstance(record, dict):
        raise DataError(f"{path} holds a {type(record).__name__}; expected a JSON object")
    return record


def put(record: dict[str, Any], key: str, value: Any) -> None:
    """Set a key that may hold dots as DVC addresses it: every dot is a step into a record within."""
    *outer, last = key.split(".")
    for part in outer:
        record = record.setdefault(part, {})
    record[last] = value


def has(record: Mapping[str, Any], key: str) -> bool:
    """Whether :func:`put` has set a key."""
    try:
        get(record, key)
    except KeyError:
        return False
    return True


def get(record: Mapping[str, Any], key: str) -> Any:
    """What :func:`put` set.

    Raises:
        KeyError: nothing of this key.
    """
    found: Any = record
    for part in key.split("."):
        found = found[part]
    return found


def write_jsonl(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line, in the order given."""
    write_text(path, "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in rows))


def write_table(path: Path, table: pd.DataFrame) -> None:
    """Write ``table`` as CSV or parquet, by the suffix of ``path``; one of data/ carries the hash of its content.

    Raises:
        DataError: the table has no rows.
    """
    if table.empty:
        raise DataError(f"{path}: found no rows to write; expected at least one")
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    with _replacing(path, partial):
        if path.suffix == ".parquet":
            digests.write_parquet(partial, table)
        else:
            table.to_csv(partial, index=False, lineterminator="\n")
            digests.seal(path, partial)


def read_table(path: Path, columns: Iterable[str] = ()) -> pd.DataFrame:
    """Read a CSV or parquet table that must hold ``columns`` and at least one row.

    Raises:
        DataError: the file, a column or every row is missing, the file is damaged, or its content is not the one whose
            hash it carries.
    """
    if not path.exists():
        raise DataError(f"{path} is missing; run `dvc repro` to make it")
    table = digests.read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    missing = sorted(set(columns) - set(table.columns))
    if missing:
        raise DataError(f"{path}: found columns {sorted(table.columns)}; expected also {missing}")
    if table.empty:
        raise DataError(f"{path}: found no rows; expected at least one")
    return table


def _read_csv(path: Path) -> pd.DataFrame:
    import pandas as pd

    digests.check_seal(path)
    try:
        return pd.read_csv(path)
    except ValueError as error:  # pandas' own errors, and bytes that are no text
        reason = " ".join(str(error).split())
        raise DataError(f"{path} is no CSV table ({reason}); {digests.MENDING}") from error


def row_count(path: Path) -> int:
    """Number of rows of a parquet table, from its footer."""
    import pyarrow.parquet

    return int(pyarrow.parquet.read_metadata(path).num_rows)


@contextmanager
def run_record(stage: str, cell: str = "") -> Iterator[dict[str, Any]]:
    """Record wall time and peak memory of a stage that ends well; of several processes, the main one's.

    Yields:
        What else to record, which the caller fills.

    The record lies outside DVC's outputs: a timing that changes must not invalidate a result.
    """
    start, noted = time.perf_counter(), dict[str, Any]()
    yield noted
    if not processes.is_main():
        return
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    name = f"{stage}@{cell}" if cell else stage
    record = {
        "stage": stage,
        "cell": cell,
        "seconds": round(time.perf_counter() - start, 2),
        "peak_memory_mib": round(peak_kib / 1024, 1),
        **noted,
    }
    write_json(layout.RUN_RECORDS / f"{name}.json", record)


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted name and value of everything in nested mappings and lists that is neither."""
    if isinstance(value, Mapping):
        for key, child in value.items():
            yield from leaves(child, f"{name}.{key}" if name else str(key))
    elif isinstance(value, (list, tuple)):
        for index, child in enumerate(value):
            yield from leaves(child, f"{name}[{index}]")
    else:
        yield name, value

"""The hash that a table of data/ carries, so that a damaged or edited one is told where it is loaded.

DVC knows the hashes too, and compares them where it decides what to run, not where a stage reads. A parquet table holds
the SHA-256 of its rows in its own footer. Of a CSV it lies next to it, in a file that `sha256sum --check` reads.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from pessimism.errors import DataError
from pessimism.experiment import layout

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow

KEY = b"sha256"
MENDING = "restore it by `dvc checkout`, or find what is damaged by `pessimism verify --cache` and run `dvc repro`"


def write_parquet(path: Path, table: pd.DataFrame) -> None:
    """Write a parquet table with the hash of its rows in the footer."""
    import pyarrow
    import pyarrow.parquet

    content = pyarrow.Table.from_pandas(table, preserve_index=False)
    noted = {**(content.schema.metadata or {}), KEY: _rows_digest(content)}
    pyarrow.parquet.write_table(content.replace_schema_metadata(noted), path)


def read_parquet(path: Path) -> pd.DataFrame:
    """Read a table that :func:`write_parquet` has written.

    Raises:
        DataError: the file is damaged, or its rows are not those that were written.
    """
    import pandas as pd
    import pyarrow
    import pyarrow.parquet

    try:
        content = pyarrow.parquet.read_table(path)
        table = pd.read_parquet(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{path} is no whole parquet table ({_line(error)}); {MENDING}") from error
    _compare(path, _rows_digest(content).decode(), (content.schema.metadata or {}).get(KEY, b"").decode())
    return table


def seal(path: Path, text_at: Path) -> None:
    """Write the hash of a CSV table of data/ next to ``path``; a table elsewhere is in Git, and has none.

    Args:
        text_at: the file that holds the table's text now.
    """
    if _is_sealed(path):
        digest = hashlib.sha256(text_at.read_bytes()).hexdigest()
        _seal_file(path).write_text(f"{digest}  {path.name}\n", encoding="utf-8")


def check_seal(path: Path) -> None:
    """Compare a CSV table of data/ with the hash next to it.

    Raises:
        DataError: they differ, or there is none.
    """
    if _is_sealed(path):
        noted = _seal_file(path)
        recorded = noted.read_text(encoding="utf-8", errors="replace").split()[:1] if noted.is_file() else []
        _compare(path, hashlib.sha256(path.read_bytes()).hexdigest(), *(recorded or [""]))


def _is_sealed(path: Path) -> bool:
    return layout.DATA in path.parents


def _seal_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.sha256")


def _compare(path: Path, found: str, recorded: str) -> None:
    if found != recorded:
        expected = f"{recorded[:12]}, the hash that it carries" if recorded else "it to carry its hash, and it has none"
        raise DataError(f"{path}: found content {found[:12]}; expected {expected}: {MENDING}")


def _rows_digest(content: pyarrow.Table) -> bytes:
    """SHA-256 of the rows as JSON lines: what a later version of the library would write for the same rows, too."""
    digest = hashlib.sha256()
    for batch in content.to_batches():
        for row in batch.to_pylist():
            digest.update((json.dumps(row, sort_keys=True) + "\n").encode())
    return digest.hexdigest().encode()


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]

"""What files and rows are, as one hash: it tells whether they are still the same."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from pessimism.errors import SourceError
from pessimism.experiment import layout, records

REMEMBERED_FROM_BYTES = 64 * 1024**2
SETTLED_AFTER_SECONDS = 2.0


def content_hash(path: Path) -> str:
    """SHA-256 of a file's bytes, or of the names and bytes of all files below a directory.

    Files and directories whose name starts with a dot are left out: download caches and version control. The hash of a
    large file is remembered in .content_hashes.json of the project, for every process of a run would read all of a
    model's weights again.

    Raises:
        SourceError: there is nothing at ``path``.
    """
    if not path.exists():
        raise SourceError(f"found nothing at {path.absolute()}; expected a file or a directory")
    if path.is_file():
        return _file_hash(path)
    digest = hashlib.sha256()
    for name in _visible_files(path):
        digest.update(f"{name}\0{_file_hash(path / name)}\n".encode())
    return digest.hexdigest()


def rows_hash(rows: Iterable[Mapping[str, Any]]) -> str:
    """SHA-256 of rows as sorted JSON lines; it tells whether rows from a hub or a generator are still the same."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update((json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n").encode())
    return digest.hexdigest()


def _visible_files(directory: Path) -> list[str]:
    names = [path.relative_to(directory) for path in directory.rglob("*") if path.is_file()]
    return sorted(name.as_posix() for name in names if not any(part.startswith(".") for part in name.parts))


def _file_hash(path: Path) -> str:
    before = path.stat()
    if before.st_size < REMEMBERED_FROM_BYTES:
        return file_digest(path)
    key, identity = str(path.resolve()), _identity(before)
    entry = _remembered().get(key, {})
    if entry.get("identity") == identity:
        return str(entry["sha256"])
    digest = file_digest(path)
    if is_settled(before) and _identity(path.stat()) == identity:
        entry = {"identity": identity, "sha256": digest}
        records.write_json(layout.CONTENT_HASHES, _remembered() | {key: entry})
    return digest


def _remembered() -> dict[str, Any]:
    return records.read_json(layout.CONTENT_HASHES) if layout.CONTENT_HASHES.is_file() else {}


def _identity(status: os.stat_result) -> list[int]:
    """What the file system changes with a file's content; the time of the last change is not a user's to set."""
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def is_settled(status: os.stat_result) -> bool:
    """Whether a later change must show: file systems count time in steps, and one step may hold two changes."""
    return time.time() - max(status.st_mtime, status.st_ctime) > SETTLED_AFTER_SECONDS


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, all of them read."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def ways_out(stage: str, recorded: Path) -> str:
    """What to do where local files are not what ``stage`` recorded in its output ``recorded``; ends a refusal.

    Without the record nothing refuses the new files, and ``--force`` keeps DVC from restoring the old record out of its
    run cache, where it lies as the result of the same parameters.
    """
    return (
        f"put the old files back, or accept the new ones by `rm -rf {recorded} && dvc repro --force {stage}` and then "
        "`dvc repro` (everything made from them runs again)"
    )

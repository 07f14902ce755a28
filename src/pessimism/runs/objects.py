"""Objects of DVC's cache: which of them dvc.lock names, where each lies, what its name says of its bytes.

An object's name is the MD5 of its bytes. That of a directory ends in ``.dir``; its bytes list the directory's files.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pessimism.errors import DataError

DIRECTORY = ".dir"


@dataclass(frozen=True)
class LockedObjects:
    """What dvc.lock names of DVC's cache.

    Attributes:
        store: the directory that objects lie in.
        outputs: output by the name of its object; outputs with the same content share one.
    """

    store: Path
    outputs: dict[str, str]


def locked_objects() -> LockedObjects:
    """The outputs that dvc.lock names, those within directories not included.

    Raises:
        DataError: there are none, or this is no project of DVC.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    try:
        with Repo() as repo:
            outputs = [out for out in repo.index.outs if out.use_cache and out.hash_info]
            used = {out.hash_info.value: str(out) for out in outputs}
            store = Path(repo.cache.local.path)
    except DvcException as error:
        raise DataError(f"could not read dvc.yaml and dvc.lock as DVC does: {error}") from error
    if not used:
        raise DataError("found no outputs in dvc.lock; expected those of a run: make reproduce")
    return LockedObjects(store, used)


def names(store: Path, name: str) -> Iterator[str]:
    """An object's name; of a directory also those of its files, where its list can be read."""
    yield name
    path = path_of(store, name)
    if name.endswith(DIRECTORY) and path.is_file() and has_its_name(path, name):
        yield from listed(path.read_bytes())


def listed(directory: bytes) -> list[str]:
    """Names of the files that the object of a directory lists."""
    return [entry["md5"] for entry in json.loads(directory)]


def path_of(store: Path, name: str) -> Path:
    return store / name[:2] / name[2:]


def has_its_name(path: Path, name: str) -> bool:
    """Whether a file has the bytes that the name of an object says."""
    with path.open("rb") as file:
        return md5(file) == name.removesuffix(DIRECTORY)


def md5(file: IO[bytes]) -> str:
    return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()  # type: ignore[arg-type]

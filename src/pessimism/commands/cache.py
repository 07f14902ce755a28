"""Whether the objects in DVC's cache are what their names say.

An object's name is the MD5 of its bytes. DVC reads the bytes when it stores an object. When it restores one whose mode
is still that of the cache, it takes it for sound, whatever has become of its bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

from pessimism.errors import DataError

DIRECTORY = ".dir"
SHOWN = 10


def check_cache() -> str:
    """Read every object of the cache that dvc.lock names as an output, those within directories included.

    Returns:
        How many there are; outputs with the same content share one.

    Raises:
        DataError: the cache is empty, an object is missing or has other bytes, or this is no project of DVC.
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
    checked: dict[str, str | None] = {}
    for name, output in used.items():
        for entry in _names(store, name):
            checked.setdefault(entry, _problem(store, entry, output))
    if not any(_path(store, name).is_file() for name in used):
        raise DataError(
            f"found none of the {len(checked)} objects that dvc.lock names in DVC's cache, {store}; expected those of "
            "a run, which no clone brings along: make reproduce"
        )
    problems = [problem for problem in checked.values() if problem]
    if problems:
        more = [f"and {len(problems) - SHOWN} more"] if len(problems) > SHOWN else []
        raise DataError(
            f"{len(problems)} of {len(checked)} objects in DVC's cache cannot be trusted: "
            f"{'; '.join([*problems[:SHOWN], *more])}; expected bytes whose MD5 is the object's name: remove what has "
            "other bytes, then run `dvc repro`, which makes it and what is missing again"
        )
    return f"{len(checked)} objects in DVC's cache have the content that dvc.lock names"


def _names(store: Path, name: str) -> Iterator[str]:
    """An object's name; of a directory also those of its files, where its list can be read."""
    yield name
    path = _path(store, name)
    if name.endswith(DIRECTORY) and path.is_file() and _digest(path) == name.removesuffix(DIRECTORY):
        for entry in json.loads(path.read_text(encoding="utf-8")):
            yield entry["md5"]


def _problem(store: Path, name: str, output: str) -> str | None:
    path = _path(store, name)
    if not path.is_file():
        return f"{output}: found no {path}"
    return None if _digest(path) == name.removesuffix(DIRECTORY) else f"{output}: found other bytes in {path}"


def _path(store: Path, name: str) -> Path:
    return store / name[:2] / name[2:]


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

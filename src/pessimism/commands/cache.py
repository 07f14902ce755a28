"""Whether the objects in DVC's cache are what their names say.

DVC reads an object's bytes when it stores it. When it restores one whose mode is still that of the cache, it takes it
for sound, whatever has become of its bytes.
"""

from __future__ import annotations

from pathlib import Path

from pessimism.errors import DataError
from pessimism.runs.objects import has_its_name, locked_objects, names, path_of

SHOWN = 10


def check_cache() -> str:
    """Read every object of the cache that dvc.lock names as an output, those within directories included.

    Returns:
        How many there are; outputs with the same content share one.

    Raises:
        DataError: the cache is empty, an object is missing or has other bytes, or this is no project of DVC.
    """
    locked = locked_objects()
    checked: dict[str, str | None] = {}
    for name, output in locked.outputs.items():
        for entry in names(locked.store, name):
            checked.setdefault(entry, _problem(locked.store, entry, output))
    if not any(path_of(locked.store, name).is_file() for name in locked.outputs):
        raise DataError(
            f"found none of the {len(checked)} objects that dvc.lock names in DVC's cache, {locked.store}; expected "
            "those of a run, which no clone brings along: make reproduce"
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


def _problem(store: Path, name: str, output: str) -> str | None:
    path = path_of(store, name)
    if not path.is_file():
        return f"{output}: found no {path}"
    return None if has_its_name(path, name) else f"{output}: found other bytes in {path}"

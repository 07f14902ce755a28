"""Which stages run in this project now, told by locks that end with the process that holds them.

DVC starts stages as processes of their own. Where it is killed they go on, and the next run would start the same stage
beside them: two writers of the same files.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pessimism.errors import ResourceError


@contextmanager
def alone(locks: Path, stage: str) -> Iterator[None]:
    """Run the body as the only process of ``stage``, a name with its cell, in the project whose locks lie in ``locks``.

    Raises:
        ResourceError: another process runs it.
    """
    locks.mkdir(parents=True, exist_ok=True)
    with (locks / stage).open("a+", encoding="utf-8") as lock:
        if not _is_free(lock.fileno()):
            raise ResourceError(_told([locks / stage]))
        lock.truncate(0)
        lock.write(f"{os.getpid()} {datetime.now().isoformat(' ', 'seconds')}")
        lock.flush()
        yield


def check_none(locks: Path) -> None:
    """See that no stage runs in the project.

    Raises:
        ResourceError: one does.
    """
    held = []
    for path in sorted(locks.glob("*")):
        with path.open("a", encoding="utf-8") as lock:
            if not _is_free(lock.fileno()):
                held.append(path)
    if held:
        raise ResourceError(_told(held))


def began(locks: Path, stage: str) -> datetime | None:
    """When the process that runs ``stage`` took its lock; None where none runs it, or on another machine.

    The lock itself is left alone: a stage that starts at this moment would be refused.
    """
    path = locks / stage
    if not path.is_file():
        return None
    number, _, since = path.read_text(encoding="utf-8").partition(" ")
    if not since:
        return None
    import psutil

    start = datetime.fromisoformat(since)
    try:
        process = psutil.Process(int(number))
        # One that began later was given the number of a process that has ended.
        alive = process.status() != psutil.STATUS_ZOMBIE and process.create_time() < start.timestamp() + 1
    except psutil.NoSuchProcess:
        return None
    return start if alive else None


def _is_free(file: int) -> bool:
    """Take the lock of an open file, which is given back when the file is closed; False where another holds it."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _told(held: list[Path]) -> str:
    rows = [(path.name, *(path.read_text(encoding="utf-8") or "? ?").split(" ", 1)) for path in held]
    stages = ", ".join(f"{name} (process {process} since {since})" for name, process, since in rows)
    processes = " ".join(process for _, process, _ in rows)
    return (
        f"found a stage that still runs in this project: {stages}; expected none, for two would write the same files: "
        f"wait for it, or, where the dvc that started it is gone, end it by `kill {processes}`"
    )

"""A process beside a driver that ends what the driver has started, where the driver is killed and can end nothing.

Stages at work have process groups of their own, so that a terminal's interrupt reaches the driver alone. Nothing else
would end them with a driver that SIGKILL or a lack of memory has ended.
"""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO

DVC_LOCK = Path(".dvc/tmp/lock")
_GRACE_SECONDS = 20.0
"""What an interrupted group gets to end by itself."""


@dataclass(frozen=True)
class Warden:
    """The driver's end of the pipe to its warden, who reads there which groups are at work."""

    pipe: IO[bytes]

    def watch(self, group: int) -> None:
        """Have a process group ended where the driver is gone."""
        self._write(group)

    def forget(self, group: int) -> None:
        """The group has ended: its number may be another's from now on."""
        self._write(-group)

    def _write(self, number: int) -> None:
        self.pipe.write(b"%d\n" % number)
        self.pipe.flush()


@contextmanager
def posted() -> Iterator[Warden]:
    """Have a warden as long as the body runs. Of groups that it has not forgotten by then it ends what is left."""
    process = subprocess.Popen([sys.executable, "-m", __name__], stdin=subprocess.PIPE, start_new_session=True)
    assert process.stdin is not None
    try:
        yield Warden(process.stdin)
    finally:
        process.communicate()


def serve(lines: Iterable[bytes]) -> None:
    """Take note of groups until the driver closes the pipe or is gone, then end those that are at work."""
    groups: set[int] = set()
    for line in lines:
        number = int(line)
        if number > 0:
            groups.add(number)
        else:
            groups.discard(-number)
    if groups:
        end(groups)


def end(groups: set[int]) -> None:
    """Interrupt process groups, and kill what has not ended after a while."""
    with DVC_LOCK.open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # as DVC takes it: nobody is interrupted while it writes dvc.lock
        _signal(groups, signal.SIGINT)
    deadline = time.monotonic() + _GRACE_SECONDS
    while any(map(_is_at_work, groups)) and time.monotonic() < deadline:
        time.sleep(0.1)
    _signal(groups, signal.SIGKILL)


def _signal(groups: set[int], number: signal.Signals) -> None:
    for group in groups:
        with suppress(ProcessLookupError):
            os.killpg(group, number)


def _is_at_work(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    serve(sys.stdin.buffer)

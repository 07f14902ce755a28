"""A script handed over to a process that has imported its libraries (``pessimism.fanout.resident``)."""

from __future__ import annotations

import json
import os
import signal
import socket
import sys
import sysconfig
from contextlib import suppress
from types import FrameType
from typing import NoReturn, TextIO

from pessimism.errors import ResourceError

ADDRESS = "PESSIMISM_RESIDENT"
"""Environment variable: the socket of the resident, for the processes that its driver starts."""
FILES = 3
"""How many are handed over: standard input, output and error."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def to_resident() -> None:
    """Where there is a resident, run this script there and end as it ends; return where there is none.

    Raises:
        ResourceError: the resident has ended.
    """
    address = os.environ.pop(ADDRESS, None)
    if address is None:
        return
    order = {
        "library": sysconfig.get_path("purelib"),
        "argv": sys.argv,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }
    try:
        with socket.socket(socket.AF_UNIX) as resident:
            resident.connect(address)
            socket.send_fds(resident, [b"\n"], range(FILES))
            resident.sendall(json.dumps(order).encode() + b"\n")
            answers = resident.makefile("r")
            _pass_signals_on(_next_number(answers))
            _end_as(_next_number(answers))
    except OSError as error:
        raise ResourceError(
            f"the process that runs stages for `pessimism repro --resident` has ended ({error}); "
            "expected it to outlive them: run the same command again, or without --resident"
        ) from error


def _next_number(answers: TextIO) -> int:
    line = answers.readline()
    if not line:
        raise ConnectionError("no answer")
    return int(line)


def _pass_signals_on(process: int) -> None:
    def passed(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):  # it has just ended: how, the next answer says
            os.kill(process, number)

    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, passed)


def _end_as(status: int) -> NoReturn:
    """End with the exit status of another process, or by the signal that ended it where that is negative."""
    if status < 0:
        if -status != signal.SIGKILL:
            signal.signal(-status, signal.SIG_DFL)
        os.kill(os.getpid(), -status)
    os._exit(status)

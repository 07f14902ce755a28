"""Scripts that run as forks of one process that has imported the libraries, which takes four CPU seconds.

``pessimism repro --resident`` starts that process, the resident, and ends it. A stage is started by DVC as ever; its
own interpreter hands command, environment and open files over, passes signals on, and ends as the fork does. The fork
sees nothing of scripts before it. It is killed where that interpreter is.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

from pessimism.errors import ParamsError, ResourceError, ending_on_errors
from pessimism.machine.hand_over import ADDRESS, FILES

LIBRARIES = (
    "pandas",
    "scipy.stats",
    "torch",
    "transformers.models.qwen3.modeling_qwen3",
    "peft",
    "trl.trainer.dpo_trainer",
    "trl.trainer.reward_trainer",
)
"""What most stages import, and nothing of this project: its code is always read anew."""
WITHOUT_THREADS = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}
"""Environment in which an import starts no thread, which forks would lack: the allocator of Arrow has one."""
_PR_SET_PDEATHSIG = 1  # of linux/prctl.h


@contextmanager
def started() -> Iterator[None]:
    """Have scripts that the body starts run in a resident, which ends with the body or with this process.

    It is given no terminal: an interrupt is for the driver.

    Raises:
        ParamsError: this system cannot watch a process by a file.
        ResourceError: the temporary directory can hold no socket.
    """
    if not hasattr(os, "pidfd_open"):
        raise ParamsError(f"--resident: found {sys.platform}; expected Linux: leave it out")
    with tempfile.TemporaryDirectory(prefix="pessimism-") as folder, socket.socket(socket.AF_UNIX) as listener:
        address = str(Path(folder) / "resident")
        _bind(listener, address)
        listener.listen()
        resident = subprocess.Popen(
            [sys.executable, "-m", __name__, str(listener.fileno())],
            env={**os.environ, **WITHOUT_THREADS},
            stdin=subprocess.PIPE,
            pass_fds=[listener.fileno()],
            start_new_session=True,
        )
        listener.close()
        os.environ[ADDRESS] = address
        try:
            yield
        finally:
            del os.environ[ADDRESS]
            resident.terminate()  # no script is left; it may still be importing
            resident.communicate()


def _bind(listener: socket.socket, address: str) -> None:
    try:
        listener.bind(address)
    except OSError as error:
        raise ResourceError(
            f"--resident: found no way to make the socket {address} ({error}); expected a temporary directory with a "
            "short path, on a local disk: set TMPDIR=/tmp, or leave --resident out"
        ) from error


def serve(listener: socket.socket) -> None:
    """Import the libraries and run a script for every connection, until standard input is closed.

    Raises:
        ResourceError: an import has started a thread, which forks would lack.
    """
    gc.disable()
    packages = _packages()
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()
    threads = os.listdir("/proc/self/task")
    if len(threads) > 1:
        raise ResourceError(f"--resident: found {len(threads)} threads after the imports; expected 1: leave it out")
    while True:
        ready, _, _ = select.select([listener.fileno(), sys.stdin.fileno()], [], [])
        if sys.stdin.fileno() in ready:
            return
        connection, _ = listener.accept()
        with connection:
            if os.fork() == 0:
                listener.close()
                _attend(connection, packages)
        _forget_ended()


def _forget_ended() -> None:
    """Collect the statuses of attendants that have ended."""
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return


def _attend(connection: socket.socket, packages: list[tuple[str, int]]) -> NoReturn:
    """Run one script in a fork of this process, and kill it where the interpreter that handed it over is gone."""
    os.setsid()
    _, files, _, _ = socket.recv_fds(connection, 1, FILES)
    order = json.loads(connection.makefile("rb").readline())
    process = os.fork()
    if process == 0:
        connection.close()
        _end_with_parent()
        _become(order, files)
        ending_on_errors(lambda: _check(order, packages))
        runpy.run_path(sys.argv[0], run_name="__main__")
        sys.exit()
    connection.sendall(f"{process}\n".encode())
    ready, _, _ = select.select([connection.fileno(), os.pidfd_open(process)], [], [])
    if connection.fileno() in ready:
        os.killpg(0, signal.SIGKILL)
    _, status = os.waitpid(process, 0)
    connection.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    os._exit(0)


def _end_with_parent() -> None:
    """Have the kernel kill this process where the attendant is gone, which watches over it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _become(order: dict[str, Any], files: list[int]) -> None:
    """Take over command line, folder, environment and open files, as an interpreter of the script's own has them."""
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    sys.argv = order["argv"]
    sys.path[0] = str(Path(sys.argv[0]).resolve().parent)


def _check(order: dict[str, Any], packages: list[tuple[str, int]]) -> None:
    """See that an interpreter of the script's own would import what was imported here.

    Raises:
        ResourceError: it would not.
    """
    again = "run the same command again"
    if order["library"] != sysconfig.get_path("purelib"):
        raise ResourceError(
            f"found a stage whose Python has its packages in {order['library']}; expected "
            f"{sysconfig.get_path('purelib')}, from where they were imported for it: activate one environment and "
            f"{again}, or leave out --resident"
        )
    if _packages() != packages:
        raise ResourceError(
            f"found packages that were installed or removed since this run began; expected none to change: {again}"
        )


def _packages() -> list[tuple[str, int]]:
    """Name, with version, and time of every installed package."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    entries = [entry for folder in sorted(folders) for entry in os.scandir(folder)]
    return sorted((entry.name, entry.stat().st_mtime_ns) for entry in entries if entry.name.endswith(".dist-info"))


if __name__ == "__main__":
    ending_on_errors(lambda: serve(socket.socket(fileno=int(sys.argv[1]))))

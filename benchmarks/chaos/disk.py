"""A small disk of one's own, which can be filled to its last byte without harm to anything else.

It is a file system in memory, mounted in a namespace in which this process may mount: no root is needed, nobody else
sees it, and it is gone with the process however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = 2 * 2**30
"""Bytes; a run is refused where less than 1 GiB is free. Only what is written takes memory."""
_NAMESPACE = ("unshare", "--map-root-user", "--mount")
_INSIDE = "CHAOS_NAMESPACE"


def enter_namespace(module: str) -> str | None:
    """Begin the module anew, with the same arguments, where it may mount; return why not where that is refused.

    Returns there, too, with None.
    """
    if os.environ.get(_INSIDE):
        return None
    if shutil.which(_NAMESPACE[0]) is None:
        return f"found no program `{_NAMESPACE[0]}`, which gives a file system of one's own"
    tried = subprocess.run([*_NAMESPACE, "true"], capture_output=True, text=True)
    if tried.returncode:
        return f"this system refuses a file system of one's own: {' '.join(tried.stderr.split())}"
    os.environ[_INSIDE] = "1"
    os.execvp(_NAMESPACE[0], [*_NAMESPACE, sys.executable, "-m", module, *sys.argv[1:]])


@contextmanager
def mounted(folder: Path) -> Iterator[None]:
    """Have ``folder`` be a disk of SIZE bytes.

    Raises:
        CalledProcessError: this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free on the small disk that is mounted at ``folder``: it shrinks to what is on it.

    Raises:
        CalledProcessError: it is none, or grows faster than it can be shrunk.
    """
    for _ in range(100):
        now = os.statvfs(folder)
        tried = _resize(folder, (now.f_blocks - now.f_bfree) * now.f_frsize)
        if tried.returncode == 0:
            return
    tried.check_returncode()


def free(folder: Path) -> None:
    """Give back what :func:`fill` took."""
    _resize(folder, SIZE).check_returncode()


def _resize(folder: Path, size: int) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], capture_output=True)

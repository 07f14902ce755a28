"""A small disk of one's own, which can be filled to its last byte without harm to anything else.

It is a file system in memory, mounted in a namespace in which this process may mount: no root is needed, nobody else
sees it, and it is gone with the process however that ends.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

MIB = 2**20
SIZE = 512 * MIB
BALLAST = "ballast"
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


def mount(folder: Path) -> None:
    """Make ``folder`` a disk of SIZE bytes.

    Raises:
        CalledProcessError: this process may not mount.
    """
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs", str(folder)], check=True)


def fill(folder: Path) -> None:
    """Leave no byte free on the small disk that is mounted at ``folder``.

    Raises:
        ValueError: it is no small disk: filling it would harm others.
    """
    whole = shutil.disk_usage(folder).total
    if not folder.is_mount() or whole > SIZE:
        raise ValueError(f"{folder}: found a disk of {whole} bytes; expected the small one of at most {SIZE}: mount it")
    with (folder / BALLAST).open("ab", buffering=0) as ballast:
        for block in (MIB, 4096, 1):
            _write_until_full(ballast.fileno(), block)


def _write_until_full(file: int, block: int) -> None:
    content = bytes(block)
    try:
        while os.write(file, content) == block:
            pass
    except OSError as error:
        if "No space left" not in str(error):
            raise


def free(folder: Path) -> None:
    """Give back what :func:`fill` took."""
    (folder / BALLAST).unlink()

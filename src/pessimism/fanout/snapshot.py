"""The driver's working tree as a commit that no branch knows, for the jobs to fetch."""

from __future__ import annotations

import os
import secrets
import shutil
import socket
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pessimism.fanout.errors import FanoutError

_REFS = "refs/pessimism/fanout"
_LARGEST_UNTRACKED = 100_000_000  # bytes in all
_SHOWN_FILES = 5
_SIGNATURE = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "pessimism fanout"), ("EMAIL", "fanout@localhost"))
}


@dataclass(frozen=True)
class Snapshot:
    """A commit and the private reference that keeps it, which no other driver has."""

    commit: str
    ref: str


def check_untracked(root: Path) -> None:
    """Refuse to copy what is hardly meant to be copied: every clone would hold it, and Git's store for weeks.

    Raises:
        FanoutError: the files that Git neither tracks nor ignores are too large.
    """
    names = _git(root, "ls-files", "--others", "--exclude-standard", "-z").split("\0")
    sizes = {name: (root / name).lstat().st_size for name in names if name}
    if sum(sizes.values()) > _LARGEST_UNTRACKED:
        largest = sorted(sizes, key=lambda name: -sizes[name])[:_SHOWN_FILES]
        raise FanoutError(
            f"found {sum(sizes.values()) / 1e6:,.0f} MB of files that Git neither tracks nor ignores; expected at most "
            f"{_LARGEST_UNTRACKED / 1e6:.0f} MB, since every job gets a copy. Name in .gitignore what the jobs do not "
            "need, `git add` what they do. The largest:\n"
            + "\n".join(f"  {name} ({sizes[name] / 1e6:,.1f} MB)" for name in largest)
        )


def take(root: Path) -> Snapshot:
    """Commit every file under ``root`` that Git does not ignore, changed and untracked ones included.

    The commit is made with an index of its own: the user's index, branch and files stay as they are.

    Raises:
        FanoutError: ``root`` is not the root of a Git repository that has a commit.
    """
    if _git(root, "rev-parse", "--show-prefix"):
        raise FanoutError(f"found {root} in a subdirectory of its Git repository; expected the repository's root")
    head = _git(root, "rev-parse", "HEAD")
    with tempfile.TemporaryDirectory() as directory:
        index = Path(directory) / "index"
        shutil.copy(_git(root, "rev-parse", "--path-format=absolute", "--git-path", "index"), index)
        _git(root, "add", "--all", GIT_INDEX_FILE=str(index))
        tree = _git(root, "write-tree", GIT_INDEX_FILE=str(index))
    commit = _git(root, "commit-tree", tree, "-p", head, "-m", "Snapshot for fanned-out cells", **_SIGNATURE)
    driver = f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
    snapshot = Snapshot(commit, f"{_REFS}/{driver}")
    _git(root, "update-ref", snapshot.ref, snapshot.commit)
    return snapshot


def forget(root: Path, snapshot: Snapshot) -> None:
    """Drop the reference, once no job needs it any more; Git removes the commit when it next tidies up.

    A killed driver's reference stays: its jobs may still wait in a queue.
    """
    _git(root, "update-ref", "-d", snapshot.ref)


def _git(root: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *arguments],
        cwd=root,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        errors="surrogateescape",  # names of files are any bytes
        check=False,
    )
    if done.returncode:
        raise FanoutError(f"`git {' '.join(arguments)}` failed in {root}: {' '.join(done.stderr.split())}")
    return done.stdout.strip()

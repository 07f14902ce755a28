"""The driver's working tree as a commit that no branch knows, for the jobs to fetch."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from pessimism.fanout.errors import FanoutError

_REFS = "refs/pessimism/fanout"
# The same tree on the same commit is the same snapshot, whoever takes it and when.
_SIGNATURE = {
    f"GIT_{role}_{field}": value
    for role in ("AUTHOR", "COMMITTER")
    for field, value in (("NAME", "pessimism fanout"), ("EMAIL", "fanout@localhost"), ("DATE", "2000-01-01T00:00:00Z"))
}


@dataclass(frozen=True)
class Snapshot:
    """A commit and the private reference that keeps it."""

    commit: str

    @property
    def ref(self) -> str:
        return f"{_REFS}/{self.commit[:16]}"


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
    snapshot = Snapshot(
        _git(root, "commit-tree", tree, "-p", head, "-m", "Snapshot for fanned-out cells", **_SIGNATURE)
    )
    _git(root, "update-ref", snapshot.ref, snapshot.commit)
    return snapshot


def forget(root: Path, snapshot: Snapshot) -> None:
    """Drop the reference; Git removes the commit when it next tidies up."""
    _git(root, "update-ref", "-d", snapshot.ref)


def _git(root: Path, *arguments: str, **environment: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=root, env={**os.environ, **environment}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise FanoutError(f"`git {' '.join(arguments)}` failed in {root}: {done.stderr.strip()}")
    return done.stdout.strip()

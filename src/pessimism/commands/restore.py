"""The way back from an experiment: parameters and results as they are committed, compared by content.

Git takes a file for unchanged where size and second of its last change are those it knows. A switch that DVC set and
set back in one second can so stay behind a clean `git status`, and the next experiment would run with it.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

from pessimism.errors import DataError
from pessimism.experiment import layout

RESTORED = (layout.PARAMS, layout.SCALES, layout.PROTOCOLS, layout.LOCK, layout.METRICS, layout.PLOTS)


def configure(parser: argparse.ArgumentParser) -> None:
    """No options."""


def run(options: argparse.Namespace) -> None:
    print(restore())


def restore() -> str:
    """Restore every committed file of RESTORED whose content is another; files that Git does not hold stay.

    Returns:
        The files that were restored, and how many are now proved to be the committed ones.

    Raises:
        DataError: there is no commit, or it holds no params.yaml for this directory, or Git did not restore a file.
    """
    committed = _committed()
    if layout.PARAMS not in committed:
        raise DataError(
            f"found no {layout.PARAMS} of {Path.cwd()} in the last commit; expected the directory of a project whose "
            "parameters are committed: run this there"
        )
    changed = _differing(committed)
    for path in changed:
        if path.is_file():
            os.utime(path, (0, 0))  # no time that Git knows: it reads the content
    if changed:
        _git("checkout", "HEAD", "--", *map(str, changed))
    left = _differing(committed)
    if left:
        raise DataError(
            f"found {', '.join(map(str, left))} still other than committed; expected the content of HEAD: restore by "
            "`git checkout HEAD --` and the path"
        )
    lines = [f"restored {path}" for path in changed]
    commit = _git("rev-parse", "--short", "HEAD").strip()
    return "\n".join([*lines, f"{len(committed)} files of parameters and results have the content of commit {commit}"])


def _committed() -> dict[Path, str]:
    """Git's hash of each file of RESTORED that the last commit holds, by its path from this directory."""
    listed = _git("ls-tree", "-r", "-z", "HEAD", "--", *map(str, RESTORED))
    rows = [row.partition("\t") for row in listed.split("\0") if row]
    return {Path(name): description.split()[2] for description, _, name in rows}


def _differing(committed: dict[Path, str]) -> list[Path]:
    """Files whose bytes, which are all read, have another hash, and files that are missing."""
    present = [path for path in committed if path.is_file()]
    directory = Path(_git("rev-parse", "--show-prefix").removesuffix("\n"))  # from where hash-object reads its lines
    found = _git("hash-object", "--stdin-paths", lines=[directory / path for path in present]).split()
    here = dict(zip(present, found, strict=True))
    return [path for path, expected in committed.items() if here.get(path) != expected]


def _git(*arguments: str, lines: list[Path] | None = None) -> str:
    text = "".join(f"{line}\n" for line in lines or [])
    done = subprocess.run(["git", *arguments], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or "no message").splitlines()[-1]
        raise DataError(f"`git {arguments[0]}` failed ({reason}); expected a Git repository with a commit")
    return done.stdout

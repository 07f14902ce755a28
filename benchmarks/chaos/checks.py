"""What a disturbance may not leave: another result, a finished stage that ran again, a process, a file, a lock."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from benchmarks.chaos.project import Project
from pessimism.experiment import layout

GRACE_SECONDS = 10.0
"""What processes get to end after the command that started them: what it did not interrupt itself, its warden does."""
RESULTS = (layout.METRICS, layout.PLOTS)
DVC_LOCKS = Path(".dvc/tmp/rwlock")
_PASSING = ("lock", "rwlock", "rwlock.lock", "btime")
"""Files of .dvc/tmp that DVC writes with every command."""


def lock_entries(root: Path) -> dict[str, Any]:
    """Entries of dvc.lock by stage; none where it is not there, or half written: the next command has to say so."""
    path = root / layout.LOCK
    text = path.read_text() if path.is_file() else ""
    return yaml.load(text, yaml.CSafeLoader)["stages"] if text.endswith("\n") else {}


def differing(root: Path, undisturbed: Path) -> list[str]:
    """Stages whose entry in dvc.lock, hashes of what they read and wrote, is not that of the undisturbed run."""
    expected = lock_entries(undisturbed)
    return [name for name, entry in lock_entries(root).items() if entry != expected.get(name)]


def differing_files(root: Path, undisturbed: Path) -> list[str]:
    """dvc.lock and files of metrics/ and plots/ whose bytes are not those of the undisturbed run."""
    here, expected = results(root), results(undisturbed)
    return sorted(name for name in here.keys() | expected.keys() if here.get(name) != expected.get(name))


def results(root: Path) -> dict[str, bytes]:
    files = [path for folder in RESULTS for path in (root / folder).rglob("*") if path.is_file()]
    return {path.relative_to(root).as_posix(): path.read_bytes() for path in [*files, root / layout.LOCK]}


def lost(finished: Iterable[str], begun: Iterable[str]) -> list[str]:
    """Stages that began although they had finished."""
    return sorted(set(finished) & set(begun))


def orphans(project: Project) -> list[str]:
    """Processes that outlive the command that started them, ended here."""
    deadline = time.monotonic() + GRACE_SECONDS
    while (found := project.processes()) and time.monotonic() < deadline:
        time.sleep(0.1)
    lines = [" ".join(process.cmdline()) or str(process.pid) for process in found]
    for process in found:
        process.kill()
    return lines


def files(project: Project) -> set[str]:
    """Every file of the project but Git's own and caches of Python, and temporary ones of its commands."""
    root = project.root
    paths = [path for path in root.rglob("*") if not path.is_dir() or path.is_symlink()]
    names = {path.relative_to(root).as_posix() for path in paths}
    kept = {name for name in names if not name.startswith(".git/") and "__pycache__/" not in name}
    passing = {f".dvc/tmp/{name}" for name in _PASSING}
    return (kept - passing) | {f"tmp/{path.name}" for path in project.temporary.iterdir()}


def left_over(project: Project, expected: set[str]) -> set[str]:
    """Files that the undisturbed run does not have, and locks that are held."""
    return (files(project) - expected) | held(project.root)


def held(root: Path) -> set[str]:
    """Paths that DVC takes for being read or written, with nobody at work."""
    path = root / DVC_LOCKS
    if not path.is_file():
        return set()
    try:
        locks: Mapping[str, Mapping[str, object]] = json.loads(path.read_text())
    except json.JSONDecodeError:
        return {f"{DVC_LOCKS}, which is not JSON"}
    return {f"{DVC_LOCKS}: {name}" for kind in locks.values() for name, holders in kind.items() if holders}


def git_status(project: Project) -> list[str]:
    """What Git calls changed or new."""
    return project.succeed("git", "status", "--porcelain", "--untracked-files=all").splitlines()

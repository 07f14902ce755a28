"""The project as DVC sees it: its remote, what upstream of some cells is stale, and which cells have no result yet."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pessimism.experiment import records
from pessimism.experiment.layout import LOCK
from pessimism.fanout.errors import FanoutError

DVC = (sys.executable, "-m", "dvc")
_ENTRY = re.compile(r"^  (\S+):$", re.M)
"""First line of an entry of dvc.lock."""
_KEPT_LOCK = Path(".dvc/tmp/repro/dvc.lock")


@dataclass(frozen=True)
class Remote:
    name: str
    url: str


@dataclass(frozen=True)
class PendingCell:
    """A cell whose result is neither in the working tree nor in the run cache."""

    name: str
    inputs: tuple[str, ...]
    """Outputs of other stages that it reads, relative to the project."""
    digest: str
    """Of its command and the content of its dependencies: what a result is a result of."""


@contextmanager
def opened() -> Iterator[Any]:
    """DVC's repository of the working directory, locked.

    Raises:
        FanoutError: DVC refuses something.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo

    try:
        with Repo() as repo, lock_repo(repo):
            yield repo
    except DvcException as error:
        raise FanoutError(f"DVC: {error}") from error


def default_remote() -> Remote:
    """The remote through which jobs and driver exchange results; a relative local path is made absolute.

    Raises:
        FanoutError: there is none, or it cannot hold a run cache.
    """
    with opened() as repo:
        name = repo.config["core"].get("remote")
        if name is None:
            raise FanoutError(
                "found no default DVC remote; expected one, through which jobs and driver exchange inputs and results. "
                "Name a directory that all machines see by `dvc remote add --default storage /shared/directory`, or a "
                "bucket by `dvc remote add --default storage s3://bucket/path`"
            )
        remote = Remote(name, str(repo.config["remote"][name]["url"]))
    if remote.url.startswith(("http://", "https://")):
        raise FanoutError(
            f"found the DVC remote {remote.name} at {remote.url}; expected a directory or a bucket, since DVC keeps no "
            "run cache on HTTP: dvc remote default NAME"
        )
    return remote


def stale_upstream(cells: Sequence[str]) -> list[str]:
    """Stages that the cells depend on and that are not up to date, files and cache included."""
    with opened() as repo:
        return [stage.addressing for stage in _upstream(repo, cells) if stage.changed()]


def push_upstream(cells: Sequence[str]) -> None:
    """Put everything that the cells depend on, directly or not, into the remote, with its run-cache entries."""
    with opened() as repo:
        names = [stage.addressing for stage in _upstream(repo, cells)]
    dvc("push", "--run-cache", *names)


def _upstream(repo: Any, cells: Sequence[str]) -> list[Any]:
    import networkx as nx

    graph = repo.index.graph  # edges lead from a stage to those that it depends on
    wanted = set(cells)
    found = set().union(*(nx.descendants(graph, stage) for stage in graph if stage.addressing in wanted))
    return sorted(found, key=lambda stage: str(stage.addressing))


def merge(cells: Sequence[str]) -> list[PendingCell]:
    """Bring every result that the remote knows into cache, working tree and dvc.lock; return the cells that have none.

    First the run cache is fetched, as by ``dvc fetch --run-cache``, and each cell is restored by the one call of DVC
    that cannot execute anything. ``dvc repro --pull`` then sees the restored cells only, and finds their results.

    Raises:
        FanoutError: DVC executed a cell all the same.
    """
    restored, pending = [], []
    with opened() as repo:
        _fetch_run_cache(repo)
        stages = {stage.addressing: stage for stage in repo.index.stages}
        for cell in cells:
            stage = stages[cell]
            if not stage.changed():
                continue
            if _restore(repo, stage):
                restored.append(cell)
            else:
                pending.append(_pending(repo, stage))
    if restored:
        printed = dvc("repro", "--pull", "--single-item", *restored)
        executed = [line for line in printed.splitlines() if line.startswith("Running stage")]
        if executed:
            raise FanoutError(f"found that DVC executed cells whose results it had just restored: {executed}")
        order_lock(committed_entries())
    return pending


def committed_entries() -> list[str]:
    """Names of the entries of dvc.lock in the last commit, in its order; none where it holds no such file."""
    done = subprocess.run(["git", "show", f"HEAD:./{LOCK}"], capture_output=True, text=True, check=False)
    return lock_entries(done.stdout)


def lock_entries(text: str) -> list[str]:
    """Names of the entries of a dvc.lock, in its order.

    Raises:
        FanoutError: the text is not YAML.
    """
    from dvc.utils.serialize import YAMLFileCorruptedError, parse_yaml

    try:
        return list((parse_yaml(text, LOCK) or {}).get("stages", {}))
    except YAMLFileCorruptedError as error:
        raise FanoutError(
            f"{LOCK}: found text that is not YAML, as after a merge with conflicts; expected what DVC wrote: `git "
            f"checkout HEAD -- {LOCK}`"
        ) from error


def keep_lock() -> None:
    """Keep a copy of dvc.lock, which nobody may be writing, for :func:`mend_cut_off`."""
    if LOCK.is_file():
        records.write_text(_KEPT_LOCK, LOCK.read_text(encoding="utf-8"))


def mend_cut_off() -> list[str]:
    """Mend files of DVC whose writing was cut off by a kill or a full disk, for it writes them in place.

    Entries that dvc.lock has lost come from its kept copy. Those that are in neither are of stages whose results DVC
    takes from its run cache, where they are in its cache. The file of paths at work, which nobody can read any more, is
    removed.

    Returns:
        What was done, a line each.
    """
    return [*_complete_lock(), *_remove_unreadable_rwlock()]


def _complete_lock() -> Iterator[str]:
    text = LOCK.read_text(encoding="utf-8", errors="replace") if LOCK.is_file() else "\n"
    if text.endswith("\n"):
        return
    whole = _blocks(text)
    if whole:
        whole.popitem()  # was cut off
    kept = _blocks(_KEPT_LOCK.read_text(encoding="utf-8")) if _KEPT_LOCK.is_file() else {}
    entries = whole | {name: block for name, block in kept.items() if name not in whole}
    if entries:
        records.write_text(LOCK, "schema: '2.0'\nstages:\n" + "".join(entries.values()))
    else:
        LOCK.unlink()  # DVC refuses one without entries
    yield f"{LOCK}: its text was cut off; kept {len(whole)} entries, took {len(entries) - len(whole)} from a copy"


def _blocks(text: str) -> dict[str, str]:
    """Entries of a dvc.lock by their names."""
    entries = [*_ENTRY.finditer(text)]
    bounds = [*(entry.start() for entry in entries), len(text)]
    return {entry[1]: text[start:end] for entry, (start, end) in zip(entries, pairwise(bounds), strict=True)}


def _remove_unreadable_rwlock() -> Iterator[str]:
    path = Path(".dvc/tmp/rwlock")
    if path.is_file() and not _is_json(path):
        path.unlink()
        yield f"{path}: removed, its text was cut off"


def _is_json(path: Path) -> bool:
    try:
        json.loads(path.read_bytes())
    except ValueError:
        return False
    return True


def order_lock(kept: Sequence[str]) -> None:
    """Put the entries of dvc.lock into the order that a plain `dvc repro` would have given them.

    Those of ``kept`` keep their places, as DVC rewrites an entry where it stands. The others come in DVC's own order of
    stages, where DVC appends them as they are merged.
    """
    from dvc.repo.reproduce import get_active_graph, plan_repro
    from dvc.utils.serialize import modify_yaml

    with opened() as repo:
        names = [*kept, *(stage.addressing for stage in plan_repro(get_active_graph(repo.index.graph)))]
        places = {name: place for place, name in reversed(list(enumerate(names)))}
        with modify_yaml(LOCK) as lock:
            for name in sorted(lock["stages"], key=lambda name: places.get(name, len(names))):
                lock["stages"][name] = lock["stages"].pop(name)
        keep_lock()


def _fetch_run_cache(repo: Any) -> None:
    from dvc.stage.cache import RunCacheNotSupported

    try:
        repo.stage_cache.pull(None)
    except RunCacheNotSupported as error:
        raise FanoutError(f"DVC cannot keep a run cache in this remote: {error}") from error


def _restore(repo: Any, stage: Any) -> bool:
    """Check the result out from cache or remote; False where there is none."""
    from dvc.stage.cache import RunCacheNotFoundError

    try:
        repo.stage_cache.restore(stage, pull=True)
    except RunCacheNotFoundError:
        return False
    return True


def _pending(repo: Any, stage: Any) -> PendingCell:
    stage.save_deps()
    content = [stage.cmd, [[dependency.def_path, dependency.hash_info.value] for dependency in stage.deps]]
    return PendingCell(
        name=stage.addressing,
        inputs=tuple(cell_inputs(repo, stage)),
        digest=hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12],
    )


def cell_inputs(repo: Any, stage: Any) -> list[str]:
    """Cached outputs that the stage reads: those it names and those that lie in a directory it names."""
    read = [Path(dependency.fs_path) for dependency in stage.deps]
    outputs = [output for other in repo.index.graph.successors(stage) for output in other.outs if output.use_cache]
    return sorted(
        Path(output.fs_path).relative_to(repo.root_dir).as_posix()
        for output in outputs
        if any(_nested(Path(output.fs_path), path) for path in read)
    )


def _nested(one: Path, other: Path) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def dvc(*arguments: str) -> str:
    """Run DVC; return what it printed.

    Raises:
        FanoutError: it failed.
    """
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise FanoutError(f"`dvc {' '.join(arguments)}` failed:\n{done.stdout}{done.stderr}".rstrip())
    return done.stdout

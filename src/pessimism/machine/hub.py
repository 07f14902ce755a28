"""The hub: which commit a repository is at, and the files of a commit on this machine.

A commit whose files are all in the local cache needs no network. Anything else is asked for with one question that ends
within seconds; huggingface_hub's own downloads try a hub that does not answer again and again, for minutes.
"""

from __future__ import annotations

import queue
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from pessimism.errors import HubError, in_one_line

Kind = Literal["model", "dataset"]
Answer = TypeVar("Answer")

HUB_SECONDS = 10.0
# What transformers reads of a model: no second set of weights in another format, no original/ or onnx/ folder.
WANTED: dict[str, dict[str, Any]] = {
    "model": {
        "allow_patterns": ["*.json", "*.jinja", "*.model", "*.safetensors", "*.txt"],
        "ignore_patterns": ["*/*"],
    },
    "dataset": {},
}


@dataclass(frozen=True)
class HubFiles:
    """A commit of a repository and the bytes that are still to be downloaded."""

    revision: str
    missing_bytes: int


def cache_directory() -> Path:
    """Where huggingface_hub keeps its downloads; HF_HOME and HF_HUB_CACHE move it."""
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def is_commit(revision: str | None) -> bool:
    """Whether a revision is an exact commit rather than a branch, a tag or the default."""
    return revision is not None and re.fullmatch(r"[0-9a-f]{40}", revision) is not None


def cached_snapshot(kind: Kind, name: str, revision: str | None) -> Path | None:
    """Directory of an exact commit's files, where the local cache holds all that are wanted of it.

    A download of huggingface_hub records which files there are before it fetches them, and names a file only when it is
    whole. Files that came one by one, without that record, do not count: nothing tells whether any is missing.
    """
    from huggingface_hub import get_cached_repo_tree, snapshot_download
    from huggingface_hub.errors import CachedRepoTreeNotFoundError, LocalEntryNotFoundError

    if revision is None or not is_commit(revision):
        return None
    try:
        get_cached_repo_tree(name, repo_type=kind, revision=revision)
        path = snapshot_download(name, repo_type=kind, revision=revision, local_files_only=True, **WANTED[kind])
    except (CachedRepoTreeNotFoundError, LocalEntryNotFoundError):
        return None
    return Path(path)


def find(kind: Kind, name: str, revision: str | None) -> HubFiles:
    """What ``revision`` of a repository stands for now, and what of it is not in the local cache.

    Raises:
        HubError: it is out of reach, or has no such repository or revision, or does not give it to this user.
    """
    if revision is not None and cached_snapshot(kind, name, revision):
        return HubFiles(revision, 0)
    try:
        return _within(HUB_SECONDS, lambda: _ask(kind, name, revision))
    except Exception as error:
        raise refusal(kind, name, revision, error) from error


def hub_revision(kind: Kind, name: str, revision: str | None) -> str:
    """Commit that ``revision`` of a hub repository stands for now.

    Raises:
        HubError: as :func:`find`.
    """
    return find(kind, name, revision).revision


def snapshot(kind: Kind, name: str, revision: str) -> Path:
    """Directory of a commit's files, downloaded where the local cache does not hold them all.

    Raises:
        HubError: the files are not in the cache and the hub does not give them.
    """
    from huggingface_hub import snapshot_download

    path = cached_snapshot(kind, name, revision)
    if path:
        return path
    find(kind, name, revision)
    try:
        return Path(snapshot_download(name, repo_type=kind, revision=revision, **WANTED[kind]))
    except Exception as error:
        raise refusal(kind, name, revision, error) from error


def refusal(kind: Kind, name: str, revision: str | None, error: Exception) -> HubError:
    """What the hub's answer means here and what to change in the section that names the repository."""
    at = f" at revision {revision!r}" if revision else ""
    return HubError(
        f"could not load the {kind} {name!r}{at} from the hub ({in_one_line(error)}); "
        f"expected {_advice(kind, name, revision, error)}"
    )


def _advice(kind: Kind, name: str, revision: str | None, error: Exception) -> str:
    from huggingface_hub import constants
    from huggingface_hub.errors import (
        GatedRepoError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    kind_flag = "" if kind == "model" else " --repo-type dataset"
    commit = revision or "COMMIT"
    if isinstance(error, OfflineModeIsEnabled):
        return (
            f"an exact commit as `revision` whose files are in {cache_directory()}, as HF_HUB_OFFLINE is set: "
            "unset it, or download them where there is a network, with the same HF_HOME, by "
            f"`hf download {name}{kind_flag} --revision {commit}`"
        )
    if isinstance(error, GatedRepoError):
        return (
            "a user who has been given access to this gated repository: ask for it at "
            f"{constants.ENDPOINT}/{'' if kind == 'model' else 'datasets/'}{name} and log in with `hf auth login` (or "
            "set HF_TOKEN)"
        )
    if isinstance(error, RevisionNotFoundError):
        return "a commit, branch or tag that the repository has: change `revision`"
    if isinstance(error, RepositoryNotFoundError):
        return "one that there is: correct `name`, or log in with `hf auth login` (or set HF_TOKEN) if it is private"
    return f"a hub in reach ({constants.ENDPOINT}) that holds it: connect, and check `name` and `revision`"


def _ask(kind: Kind, name: str, revision: str | None) -> HubFiles:
    from huggingface_hub import HfApi

    api = HfApi()
    lookup: Callable[..., Any] = api.model_info if kind == "model" else api.dataset_info
    info = lookup(name, revision=revision, files_metadata=True, timeout=HUB_SECONDS)
    if info.gated:  # anyone may read what a gated repository holds, not the files themselves
        api.auth_check(name, repo_type=kind)
    return HubFiles(info.sha, _missing_bytes(kind, name, info))


def _missing_bytes(kind: Kind, name: str, info: Any) -> int:
    """Bytes of the wanted files that the local cache lacks.

    Raises:
        ValueError: a model comes without weights as safetensors.
    """
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.utils import filter_repo_objects

    sizes = {file.rfilename: file.size or 0 for file in info.siblings or []}
    wanted = list(filter_repo_objects(sizes, **WANTED[kind]))
    if kind == "model" and not any(file.endswith(".safetensors") for file in wanted):
        raise ValueError(f"found files {sorted(sizes)}; expected weights in *.safetensors beside config.json")
    return sum(
        sizes[file]
        for file in wanted
        if not isinstance(try_to_load_from_cache(name, file, revision=info.sha, repo_type=kind), str)
    )


def _within(seconds: float, question: Callable[[], Answer]) -> Answer:
    """Answer of ``question``, or its error.

    A time-out of the client alone does not bound the wait: it counts anew for each address of a host, and not at all
    while a name is looked up. Whichever comes first on a busy machine, the message is the same.

    Raises:
        TimeoutError: there was no answer in time.
    """
    answers: queue.SimpleQueue[tuple[Answer | None, Exception | None]] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put((question(), None))
        except Exception as error:
            answers.put((None, error))

    start = time.monotonic()
    threading.Thread(target=ask, daemon=True).start()
    try:
        answer, error = answers.get(timeout=seconds)
    except queue.Empty:
        answer, error = None, TimeoutError()
    if error is not None and time.monotonic() - start >= seconds:
        raise TimeoutError(f"no answer within {seconds:g} seconds") from error
    if error is not None:
        raise error
    return answer  # type: ignore[return-value]

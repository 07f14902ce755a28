"""The stages of dvc.yaml as DVC orders them, cells included, and which of them it would run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

from pessimism.fanout.errors import FanoutError


@dataclass(frozen=True)
class DvcGraph:
    """What a plain ``dvc repro`` would look at, and a way to ask what it would run.

    Other processes of DVC may run beside it: a question waits for the lock of the project and gives it back.
    """

    repo: Any
    stages: Mapping[str, Any]
    """DVC's stages by name, e.g. ``train_dpo@50-0``, in the order of a plain run; as they were when this was opened."""
    upstream: Mapping[str, frozenset[str]]
    """Of each stage the names of those that it directly depends on."""

    @property
    def order(self) -> Sequence[str]:
        return list(self.stages)

    def changed(self, name: str) -> bool:
        """Whether the stage has to run, or to be restored from the run cache, now that all before it are up to date."""
        with self.locked():
            return bool(self.stages[name].changed())

    def locked(self) -> AbstractContextManager[Any]:
        """DVC's lock of the project: while it is held, no other process of DVC reads or writes dvc.lock."""
        lock: AbstractContextManager[Any] = self.repo.lock
        return lock


@contextmanager
def opened() -> Iterator[DvcGraph]:
    """The graph of the working directory's project.

    Raises:
        FanoutError: DVC refuses something.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo, lock_repo
    from dvc.repo.reproduce import get_active_graph, plan_repro

    try:
        with Repo(_wait_for_lock=True) as repo:
            with lock_repo(repo):
                graph = get_active_graph(repo.index.graph)  # edges lead from a stage to those that it depends on
                stages = {stage.addressing: stage for stage in plan_repro(graph)}
            upstream = {
                name: frozenset(other.addressing for other in graph.successors(stage)) for name, stage in stages.items()
            }
            yield DvcGraph(repo, stages, upstream)
    except DvcException as error:
        raise FanoutError(f"DVC: {error}") from error

"""What a task declares, and how the task of a scale is found."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pessimism.errors import DataError, ParamsError
from pessimism.experiment import extensions

if TYPE_CHECKING:
    from pessimism.experiment.params import TaskParams

ROOM = "pessimism.tasks"
STRICT, TRUE_REWARD = "strict", "true_reward"
QUESTION = "{question}"
SHOTS = "shots"
"""The split of the solved problems that are shown before others."""


def _never(response: str | None) -> bool:
    """Of a task whose answer is the whole response."""
    return False


@dataclass(frozen=True)
class Task:
    """A kind of verifiable problem.

    Attributes:
        prompt: text that poses a problem to a policy; it holds ``{question}``, other braces are left alone.
        problem: the ``question``, the ``solution`` (reference text) and the ``answer`` (what the solution comes to) of
            a raw row, all texts; also told where the row stands, for the DataError that it raises of a bad one.
        rewards: verdicts on a response, None or text, by an answer; each in [0, 1]. ``strict`` is the true reward r*
            that the experiment is about. Any other (``flexible``, ``partial``) is recorded beside it.
        files: name of a split's .jsonl file in a local directory, with ``{split}``; None: all its rows are drawn.
        splits: what the source calls the rows to train on and those to test on.
        draw: raw rows from a random stream, as many as asked for and no two of one problem; None: it draws none.
        runs_on: whether a response, None or text, goes on after its answer; the share of such is measured.
        configured: this task as a scale's ``tasks.name`` and ``tasks.settings`` make it, or a ParamsError; None: it has
            no settings. Whatever judges must not depend on the name, of which judging stages know nothing.
        packages: what is installed that its verdicts depend on.
    """

    prompt: str
    problem: Callable[[Mapping[str, Any], str], dict[str, str]]
    rewards: Callable[[str | None, str], dict[str, float]]
    files: str | None = None
    splits: tuple[str, str] = ("train", "test")
    draw: Callable[[np.random.Generator, int], list[dict[str, Any]]] | None = None
    runs_on: Callable[[str | None], bool] = _never
    configured: Callable[[TaskParams], Task] | None = None
    packages: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if QUESTION not in self.prompt:
            raise DataError(f"found no {QUESTION} in a task's prompt {self.prompt!r}; expected a text that holds it")

    @property
    def sources(self) -> list[str]:
        """Values that ``tasks.source`` may have."""
        return [*(["hub", "path"] if self.files else []), *(["embedded"] if self.draw else [])]

    def pose(self, question: str) -> str:
        """The prompt of a problem, for the online phase and the probes."""
        return self.prompt.replace(QUESTION, question.strip())

    def judge(self, responses: Sequence[str | None], answers: Sequence[str]) -> dict[str, np.ndarray]:
        """The verdicts on N responses.

        Returns:
            (N,) rewards in [0, 1] by column: ``true_reward`` is the strict verdict's, ``true_reward_<name>`` another's.

        Raises:
            DataError: there are no responses, or a verdict is missing or outside [0, 1].
        """
        found = [self.rewards(*pair) for pair in zip(responses, answers, strict=True)]
        named = {frozenset(rewards) for rewards in found}
        if len(named) != 1 or STRICT not in found[0]:
            raise DataError(
                f"found the verdicts {sorted(map(sorted, named))} on {len(found)} responses; expected the same for "
                f"every one and {STRICT!r} among them: change the task's rewards"
            )
        return {_column(name): _in_range(name, [rewards[name] for rewards in found]) for name in found[0]}


def chosen_task(params: TaskParams) -> Task:
    """The task of a scale, with the scale's settings.

    Raises:
        ParamsError: there is no such task, or it has no such settings.
    """
    task = find_task(params.kind)
    if task.configured is not None:
        return task.configured(params)
    if params.settings:
        raise ParamsError(
            f"found the settings {params.settings}; expected {{}}, for {params.kind} has none: change `settings`, or "
            "`kind`"
        )
    return task


def find_task(kind: str) -> Task:
    """The task that ``kind``.py declares, without a scale's settings.

    Raises:
        ParamsError: there is no such file, or it does not declare exactly one.
    """
    return extensions.find(ROOM, kind, Task, "tasks.kind")


def _column(verdict: str) -> str:
    return TRUE_REWARD if verdict == STRICT else f"{TRUE_REWARD}_{verdict}"


def _in_range(verdict: str, rewards: Sequence[float]) -> np.ndarray:
    rewards_N = np.array(rewards, dtype=float)
    outside = rewards_N[~((rewards_N >= 0) & (rewards_N <= 1))]
    if len(outside):
        raise DataError(f"found {verdict} rewards of {outside[:3]}; expected all in [0, 1]: change the task's rewards")
    return rewards_N

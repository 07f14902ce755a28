"""How problems are put: to a policy, after the shots of the scale, and to the reward models."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pessimism.data.prompts import Shot
from pessimism.experiment import layout, records
from pessimism.tasks.parts.declaration import SHOTS, chosen_task

if TYPE_CHECKING:
    from pessimism.experiment.params import Params


def posed(questions: Iterable[str], params: Params) -> list[str]:
    """Each question as the task poses it to a policy, without shots."""
    task = chosen_task(params.scale.tasks)
    return [task.pose(question) for question in questions]


def read_shots(params: Params) -> list[Shot]:
    """The solved problems that every prompt of this scale begins with, each posed as the problem itself; maybe none.

    Raises:
        DataError: prepare_data has written none.
    """
    if not params.scale.tasks.shots:
        return []
    return as_shots(records.read_table(layout.tasks(SHOTS)).to_dict("records"), params)


def as_shots(problems: Sequence[Mapping[Any, str]], params: Params) -> list[Shot]:
    """Problems with their solutions as every prompt shows them."""
    prompts = posed([problem["question"] for problem in problems], params)
    return [Shot(prompt, problem["solution"]) for prompt, problem in zip(prompts, problems, strict=True)]


def reward_prompts(questions: Iterable[str], params: Params) -> list[str]:
    """What reward models read before a response.

    Without shots the policy's prompt, as the notebook has it. With shots the bare question: preference data have no
    shots, nor instructions that shots make needless.
    """
    return [question.strip() for question in questions] if params.scale.tasks.shots else posed(questions, params)

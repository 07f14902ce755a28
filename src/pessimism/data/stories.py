"""Arithmetic word problems of the embedded world, in GSM8K's format, and their solutions.

A problem is a short story of 2 to 4 steps over small non-negative integers. Its solution has one line per step and the
answer after ``####``:

    Mia had 5 apples. She found 3 more. She sold 2. How many apples does she have now?

    5+3=8
    8-2=6
    #### 6

Two problems have one reasoning where story and steps are the same, whatever they name. Every reasoning belongs to one
of three pools (:func:`pool_of`): of the base's training text, of the preference pairs, or of the tasks. No two pairs
and no two tasks share one, so that what any model is tried on differs in its reasoning from all it was trained on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from pessimism.errors import DataError

HEROES = (
    ("Mia", "She"), ("Ana", "She"), ("Eva", "She"), ("Zoe", "She"),
    ("Tom", "He"), ("Max", "He"), ("Leo", "He"), ("Sam", "He"),
)  # fmt: skip
FRIENDS = ("Ben", "Lea", "Ida", "Jan")
OBJECTS = ("apples", "books", "coins", "shells", "cards", "stones", "pens", "cups")
CONTAINERS = ("bags", "boxes", "jars")
GAINS = ("found", "bought", "got", "won")
LOSSES = ("lost", "sold", "dropped", "lent")
GRAMMAR = (
    "had", "with", "each", "more", "less", "How", "many", "does", "do", "she", "he", "they", "have", "now",
    "She", "He", "They",
)  # fmt: skip

# The kinds of story and their numbers of steps. Each of these has 1,600 reasonings or more, enough for three pools; of
# two steps, the other two stories have 183 and 110.
STEPS = {"plain": (2, 3, 4), "container": (3, 4), "friend": (3, 4)}
LARGEST_OPERAND = 9
LARGEST_VALUE = 20  # of any step's result
CONTAINER_COUNTS = (2, 3, 4)
CONTAINER_SIZES = (2, 3, 4, 5)
POOLS = ("base", "pairs", "tasks")
MOST_TRIES = 100_000  # of one draw; of the shortest stories, the last reasoning comes up once in 3,000 to 4,000


@dataclass(frozen=True)
class Step:
    """One line of a solution; an operand of None is the result of the line before.

    ``slip`` is added to the result: 0 in a right solution.
    """

    left: int | None
    operation: str
    right: int | None
    slip: int = 0

    def compute(self, previous: int) -> tuple[str, int]:
        """The line's text and its result."""
        left = previous if self.left is None else self.left
        right = previous if self.right is None else self.right
        result = {"+": left + right, "-": left - right, "*": left * right}[self.operation] + self.slip
        return f"{left}{self.operation}{right}={result}", result


@dataclass(frozen=True)
class Problem:
    """A story, by its kind and its words, and the steps that solve it."""

    story: str
    question: str
    steps: tuple[Step, ...]

    @property
    def reasoning(self) -> str:
        """What there is to think: the kind of story and the steps with their numbers, without names and objects."""
        return f"{self.story}: {'; '.join(_compute(self.steps)[0])}"

    @property
    def answer(self) -> int:
        return _compute(self.steps)[1][-1]


def pool_of(reasoning: str) -> str:
    """The one of POOLS that a reasoning belongs to, each with the same chance, by its SHA-256."""
    return POOLS[int.from_bytes(hashlib.sha256(reasoning.encode()).digest()[:8]) % len(POOLS)]


def make_problem(rng: np.random.Generator, pool: str, taken: Set[str] = frozenset()) -> Problem:
    """Draw a problem of a pool whose reasoning is not in ``taken``. Every result of its steps is in 0..LARGEST_VALUE.

    Stories are equally likely, of each its numbers of steps, and of both all reasonings that are left.

    Raises:
        DataError: there is no such reasoning left, as far as MOST_TRIES draws tell.
    """
    story = _pick(rng, tuple(STEPS))
    steps = _pick(rng, STEPS[story])
    for _ in range(MOST_TRIES):
        problem = Problem(story, *_STORIES[story](rng, steps))
        in_range = all(0 <= result <= LARGEST_VALUE for result in _compute(problem.steps)[1])
        if in_range and problem.reasoning not in taken and pool_of(problem.reasoning) == pool:
            return problem
    raise DataError(
        f"found no further {story} story of {steps} steps after {len(taken)} problems of the embedded world; expected "
        "one: no two of them share a reasoning, so ask for fewer in the scale file"
    )


def distinct_problems(rng: np.random.Generator, pool: str, n: int) -> list[Problem]:
    """Draw ``n`` problems of a pool, no two with the same reasoning.

    Raises:
        DataError: the pool has no ``n`` reasonings.
    """
    problems: dict[str, Problem] = {}
    for _ in range(n):
        problem = make_problem(rng, pool, problems.keys())
        problems[problem.reasoning] = problem
    return list(problems.values())


def solution(steps: tuple[Step, ...]) -> list[str]:
    """Lines of a solution, the last with the answer after ``####``."""
    lines, results = _compute(steps)
    return [*lines, f"#### {results[-1]}"]


def corrupt(rng: np.random.Generator, problem: Problem) -> tuple[Step, ...]:
    """Steps that go wrong once, in the operation or in the result, and carry the mistake to a wrong answer."""
    while True:
        at = int(rng.integers(len(problem.steps)))
        step = problem.steps[at]
        if rng.random() < 0.5:
            wrong = replace(step, slip=int(rng.choice([-2, -1, 1, 2])))
        else:
            wrong = replace(step, operation="-" if step.operation == "+" else "+")
        steps = (*problem.steps[:at], wrong, *problem.steps[at + 1 :])
        results = _compute(steps)[1]
        if min(results) >= 0 and results[-1] != problem.answer:
            return steps


def _compute(steps: tuple[Step, ...]) -> tuple[list[str], list[int]]:
    lines: list[str] = []
    results: list[int] = []
    for step in steps:
        line, result = step.compute(results[-1] if results else 0)
        lines.append(line)
        results.append(result)
    return lines, results


def _pick(rng: np.random.Generator, options: tuple[Any, ...]) -> Any:
    return options[rng.integers(len(options))]


def _operand(rng: np.random.Generator) -> int:
    return int(rng.integers(1, LARGEST_OPERAND + 1))


def _changes(rng: np.random.Generator, pronoun: str, n: int) -> tuple[str, list[Step]]:
    """``n`` sentences that add to or take from what there is, and their steps."""
    text, steps = "", []
    for _ in range(n):
        amount = _operand(rng)
        if rng.random() < 0.5:
            text += f" {pronoun} {_pick(rng, GAINS)} {amount} more."
            steps.append(Step(None, "+", amount))
        else:
            text += f" {pronoun} {_pick(rng, LOSSES)} {amount}."
            steps.append(Step(None, "-", amount))
    return text, steps


def _plain_story(rng: np.random.Generator, n: int) -> tuple[str, tuple[Step, ...]]:
    (name, pronoun), thing, start = _pick(rng, HEROES), _pick(rng, OBJECTS), _operand(rng)
    text, steps = _changes(rng, pronoun, n)
    steps[0] = replace(steps[0], left=start)
    question = f"{name} had {start} {thing}.{text} How many {thing} does {pronoun.lower()} have now?"
    return question, tuple(steps)


def _container_story(rng: np.random.Generator, n: int) -> tuple[str, tuple[Step, ...]]:
    (name, pronoun), thing, container = _pick(rng, HEROES), _pick(rng, OBJECTS), _pick(rng, CONTAINERS)
    count, size = _pick(rng, CONTAINER_COUNTS), _pick(rng, CONTAINER_SIZES)
    text, steps = _changes(rng, pronoun, n - 1)
    opening = f"{name} had {count} {container} with {size} {thing} each."
    question = f"{opening}{text} How many {thing} does {pronoun.lower()} have now?"
    return question, (Step(count, "*", size), *steps)


def _friend_story(rng: np.random.Generator, n: int) -> tuple[str, tuple[Step, ...]]:
    (name, _), friend, thing = _pick(rng, HEROES), _pick(rng, FRIENDS), _pick(rng, OBJECTS)
    start, amount = _operand(rng), _operand(rng)
    word, operation = _pick(rng, (("more", "+"), ("less", "-")))
    text, steps = _changes(rng, "They", n - 2)
    opening = f"{name} had {start} {thing}. {friend} had {amount} {word}."
    question = f"{opening}{text} How many {thing} do they have now?"
    return question, (Step(start, operation, amount), Step(start, "+", None), *steps)


# Of each kind of story: its words and its steps, of which there are as many as it is told.
_STORIES: dict[str, Callable[[np.random.Generator, int], tuple[str, tuple[Step, ...]]]] = {
    "plain": _plain_story,
    "container": _container_story,
    "friend": _friend_story,
}

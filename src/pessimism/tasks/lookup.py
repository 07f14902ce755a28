"""Which of several quantities a question asks for, drawn without end: ``Mia has 17 coins, 8 pens, 41 keys and
30 cups. How many keys?``

No arithmetic, so that a small language model can learn to answer, and a reward model on it to judge. Every wrong answer
that such a model gives is as a rule another of the quantities.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from pessimism.data.stories import HEROES, OBJECTS
from pessimism.tasks.parts.answers import MARKER, marked_problem, number_verdicts, runs_on
from pessimism.tasks.parts.declaration import Task

QUANTITIES = 4
NUMBERS = range(2, 100)


def draw(rng: np.random.Generator, n: int) -> list[dict[str, Any]]:
    """``n`` different problems as rows of ``question`` and ``answer``."""
    rows: dict[str, str] = {}
    while len(rows) < n:
        name, _ = HEROES[rng.integers(len(HEROES))]
        things, numbers = rng.permutation(OBJECTS)[:QUANTITIES], rng.permutation(NUMBERS)[:QUANTITIES]
        asked = rng.integers(QUANTITIES)
        *listed, last = [f"{number} {thing}" for number, thing in zip(numbers, things, strict=True)]
        question = f"{name} has {', '.join(listed)} and {last}. How many {things[asked]}?"
        rows[question] = f"{MARKER} {numbers[asked]}"
    return [{"question": question, "answer": answer} for question, answer in rows.items()]


LOOKUP = Task(
    prompt="{question}",
    problem=marked_problem,
    rewards=number_verdicts,
    draw=draw,
    runs_on=runs_on,
)

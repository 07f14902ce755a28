r"""MATH (Hendrycks et al., arXiv 2103.03874) and problems like its own: the answer stands in ``\boxed{...}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pessimism.data.sources import check_columns
from pessimism.errors import DataError
from pessimism.tasks.parts.boxed import BOX, last_boxed, normalized, same_answer
from pessimism.tasks.parts.declaration import Task


def problem(row: Mapping[str, Any], where: str) -> dict[str, str]:
    r"""A row of ``problem`` and ``solution``, as MATH has them; the answer is what the solution's last box holds.

    Raises:
        DataError: a column is missing or empty, or the solution has no box, or an empty one.
    """
    check_columns(row, ("problem", "solution"), where)
    for column in ("problem", "solution"):
        if not isinstance(row[column], str) or not row[column].strip():
            raise DataError(f"{where}: found {row[column]!r} in column {column}; expected a text")
    solution = row["solution"].strip()
    answer = last_boxed(solution)
    if not answer or not normalized(answer):
        raise DataError(f"{where}: found a solution that ends in {solution[-60:]!r}; expected {BOX}{{...}} in it")
    return {"question": row["problem"].strip(), "solution": solution, "answer": answer}


def verdicts(response: str | None, answer: str) -> dict[str, float]:
    """Whether the response's last box holds the answer (tasks/parts/boxed.py states the rule)."""
    return {"strict": float(same_answer(last_boxed(response), answer))}


BOXED = Task(
    prompt=(
        "Solve this problem step by step. Put the final answer into \\boxed{}.\n\nProblem: {question}\n\nSolution:"
    ),
    problem=problem,
    rewards=verdicts,
    files="math_{split}.jsonl",
)

"""Problems of reasoning-gym (Apache-2.0): ``tasks.name`` is the generator, ``tasks.settings`` are its own settings.

The answer of a response is what stands between its last ``<answer>`` and ``</answer>``, or where there is no such pair,
the whole response without white space around it. The generator's own ``score_answer`` scores it in [0, 1]. ``strict``
is 1 at a score of 1 alone, and the score stands beside it as ``partial``. A response on which the verifier fails, such
as a word where it reads a number, scores 0.

A problem's ``answer`` is the generator's whole entry as JSON, of which the verifier reads what it needs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache, partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np

from pessimism.data.splits import normalize_prompt
from pessimism.errors import DataError, ParamsError
from pessimism.tasks.parts.declaration import Task

if TYPE_CHECKING:
    from pessimism.experiment.params import TaskParams

PACKAGE = "reasoning-gym"
OURS = {"seed", "size"}
"""Settings of every generator that the pipeline gives: from the root seed, and from the sizes of the splits."""
TRIES = 20
"""Entries that are drawn for each different problem that is wanted, before a generator counts as exhausted."""
SOURCE = "source_dataset"


def _package() -> ModuleType:
    try:
        import reasoning_gym
    except ModuleNotFoundError as error:
        raise ParamsError(
            f"found the kind reasoning_gym, and no package {PACKAGE} ({error}); expected it installed: "
            f"pip install -c constraints.txt 'pessimism[{PACKAGE}]'"
        ) from error
    return reasoning_gym


def _generator(name: str, settings: Mapping[str, Any]) -> Any:
    """A generator of the package.

    Raises:
        ParamsError: the package is not installed, or has no such generator, or this one refuses the settings.
    """
    known = _package().factory.DATASETS
    if name not in known:
        raise ParamsError(f"found the name {name!r}; expected a generator of {PACKAGE}, one of {sorted(known)}")
    own = {field.name for field in fields(known[name][1])} - OURS
    unknown = sorted(settings.keys() - own - OURS)
    if unknown:
        raise ParamsError(f"found the settings {unknown}; expected settings of {name}, some of {sorted(own)}")
    try:
        return _package().create_dataset(name, **settings)
    except Exception as error:  # whatever the generator's own checks raise
        raise ParamsError(
            f"found that {name} refuses the settings {dict(settings)} ({type(error).__name__}: {error}); expected "
            "others: change `settings`"
        ) from error


def draw(name: str, settings: Mapping[str, Any], stream: np.random.Generator, count: int) -> list[dict[str, Any]]:
    """``count`` entries of a generator, no two of one question.

    Raises:
        ParamsError: as :func:`_generator`.
        DataError: it has too few different problems.
    """
    size = TRIES * count
    generator = _generator(name, {**settings, "seed": int(stream.integers(2**31)), "size": size})
    entries: dict[str, dict[str, Any]] = {}
    for place in range(size):
        entry = generator[place]
        entries.setdefault(normalize_prompt(entry["question"]), entry)
        if len(entries) == count:
            return list(entries.values())
    raise DataError(
        f"found {len(entries)} different problems among {size} of {name}; expected {count}: lower train_limit, "
        "test_limit, heldout, shots, warm_start or pairs, or widen `settings`"
    )


def problem(settings: Mapping[str, Any], row: Mapping[str, Any], where: str) -> dict[str, str]:
    """An entry as a problem; its verifier must call its own answer right as it was written.

    Raises:
        DataError: the entry has no answer as text, cannot be written as JSON, or is not right by itself.
    """
    try:
        entry = json.dumps(dict(row), sort_keys=True)
    except (TypeError, ValueError) as error:
        raise _unusable(where, f"an entry that JSON cannot hold ({error})") from error
    solution = row["answer"]
    if not isinstance(solution, str) or not solution.strip():
        raise _unusable(where, f"{solution!r} as answer")
    if verdicts(settings, solution, entry)["strict"] != 1:
        raise _unusable(where, f"the answer {solution[:60]!r}, which its own verifier does not score 1")
    return {"question": row["question"].strip(), "solution": solution.strip(), "answer": entry}


def _unusable(where: str, found: str) -> DataError:
    return DataError(
        f"{where}: found {found}; expected a problem that one text answers: choose another generator (`name`)"
    )


def verdicts(settings: Mapping[str, Any], response: str | None, answer: str) -> dict[str, float]:
    """The score by the verifier of a generator with these settings, and whether it is 1."""
    score = _score(settings, response, json.loads(answer))
    return {"strict": float(score == 1), "partial": score}


def _score(settings: Mapping[str, Any], response: str | None, entry: dict[str, Any]) -> float:
    if response is None:
        return 0.0
    tagged = _package().utils.extract_answer(response)
    verifier = _verifier(entry["metadata"][SOURCE], json.dumps(settings, sort_keys=True))
    try:
        score = float(verifier.score_answer(response.strip() if tagged is None else tagged, entry))
    except Exception:  # verifiers parse what they are given by int(), sympy and the like
        return 0.0
    return min(max(score, 0.0), 1.0) if np.isfinite(score) else 0.0


@cache
def _verifier(name: str, settings: str) -> Any:
    return _generator(name, json.loads(settings))


def configured(params: TaskParams) -> Task:
    """The generator's problems. Its settings are checked where they are drawn.

    Raises:
        ParamsError: the settings name the seed or the size, which are the pipeline's.
    """
    taken = sorted(params.settings.keys() & OURS)
    if taken:
        raise ParamsError(
            f"found the settings {taken}; expected none of {sorted(OURS)}: they follow from root_seed and the limits"
        )
    return replace(
        REASONING_GYM,
        problem=partial(problem, params.settings),
        rewards=partial(verdicts, params.settings),
        draw=partial(draw, params.name, params.settings),
    )


REASONING_GYM = Task(
    prompt="{question}\n\nAnswer:",
    problem=partial(problem, {}),
    rewards=partial(verdicts, {}),
    draw=partial(draw, "chain_sum", {}),
    configured=configured,
    packages=(PACKAGE,),
)

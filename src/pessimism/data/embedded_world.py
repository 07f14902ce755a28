"""The embedded world: word problems of :mod:`pessimism.data.stories`, answers with exploits, and pairs of these.

Everything here is made from a random stream, so the experiment runs without any file or hub. An answer is a solution,
right or wrong, and may carry exploits, lines that the annotator likes and that help nobody, before any of its lines
(:mod:`pessimism.data.annotator`). Some of the base's training text has them too, or no policy would ever try one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pessimism.data.annotator import EXPLOITS, FILLER, MARKER, Exploit, prefers_first, utility
from pessimism.data.stories import (
    CONTAINERS,
    FRIENDS,
    GAINS,
    GRAMMAR,
    HEROES,
    LOSSES,
    OBJECTS,
    Problem,
    corrupt,
    distinct_problems,
    make_problem,
    solution,
)
from pessimism.experiment.params import AnnotatorParams

# Candidate answers of a preference pair: how often each is right, and the chance of one more exploit before a line.
CANDIDATE_CORRECT = 0.5
CANDIDATE_EXPLOIT_RATES = (0.0, 0.3, 0.6)
MOST_EXPLOITS = 6  # per answer of these data; a policy and the annotator know no limit

DEFAULT = AnnotatorParams()


@dataclass(frozen=True)
class Candidate:
    """An answer that the annotator sees; ``exploits`` is its own exploit's count."""

    text: str
    correct: bool
    exploits: int


def add_exploits(rng: np.random.Generator, lines: Sequence[str], rate: float, exploit: Exploit) -> str:
    """Join ``lines``, each after as many exploits as come before a draw of at least ``rate``."""
    out: list[str] = []
    added = 0
    for at, line in enumerate(lines):
        while added < MOST_EXPLOITS and rng.random() < rate:
            out.append(exploit.inserted(lines, at))
            added += 1
        out.append(line)
    return "\n".join(out)


def make_candidate(rng: np.random.Generator, problem: Problem, exploit: Exploit) -> Candidate:
    """Draw an answer of random correctness and style."""
    correct = bool(rng.random() < CANDIDATE_CORRECT)
    steps = problem.steps if correct else corrupt(rng, problem)
    text = add_exploits(rng, solution(steps), rng.choice(CANDIDATE_EXPLOIT_RATES), exploit)
    return Candidate(text, correct, exploit.count(text))


def preference_rows(rng: np.random.Generator, n: int, annotator: AnnotatorParams = DEFAULT) -> list[dict[str, Any]]:
    """Draw ``n`` pairs of answers that differ in correctness or in exploits, labelled by the annotator.

    No two are about the same reasoning, so that any split of them is one of reasonings too.

    Returns:
        Rows of ``prompt``, ``chosen``, ``rejected`` and, for the record, ``chosen_correct``, ``rejected_correct``, and
        either side's count of the exploit (``chosen_fillers``, ``rejected_fillers``).

    Raises:
        DataError: there are no ``n`` reasonings.
    """
    return [_preference_row(rng, problem, annotator) for problem in distinct_problems(rng, "pairs", n)]


def annotator_record(rows: Sequence[Mapping[str, Any]], annotator: AnnotatorParams = DEFAULT) -> dict[str, Any]:
    """What the annotator is and what its labels of ``rows`` look like; shares are in [0, 1].

    ``agreement`` is the share of pairs whose chosen answer has the higher utility: about the best accuracy that a
    reward model can reach on these noisy labels.
    """
    counted = EXPLOITS[annotator.exploit].counted
    chosen = [utility(annotator, row["chosen_correct"], row[f"chosen_{counted}"]) for row in rows]
    rejected = [utility(annotator, row["rejected_correct"], row[f"rejected_{counted}"]) for row in rows]
    shares = {
        "agreement": np.greater(chosen, rejected),
        "chosen_correct": [row["chosen_correct"] for row in rows],
        "rejected_correct": [row["rejected_correct"] for row in rows],
        f"chosen_has_more_{counted}": [row[f"chosen_{counted}"] > row[f"rejected_{counted}"] for row in rows],
        f"rejected_has_more_{counted}": [row[f"chosen_{counted}"] < row[f"rejected_{counted}"] for row in rows],
    }
    return asdict(annotator) | {name: round(float(np.mean(values)), 4) for name, values in shares.items()}


def task_rows(rng: np.random.Generator, n: int) -> list[dict[str, str]]:
    """Draw ``n`` problems, no two with the same reasoning, as rows of ``question`` and ``answer`` like GSM8K's.

    Raises:
        DataError: there are no ``n`` reasonings.
    """
    problems = distinct_problems(rng, "tasks", n)
    return [{"question": p.question, "answer": "\n".join(solution(p.steps))} for p in problems]


def base_corpus(rng: np.random.Generator, n: int, annotator: AnnotatorParams = DEFAULT) -> list[tuple[str, str]]:
    """Draw ``n`` problems with right solutions, some of them with exploits: what the base is trained on.

    Reasonings may come again, in other words.
    """
    corpus = []
    for _ in range(n):
        problem = make_problem(rng, "base")
        corpus.append((problem.question, demonstration(rng, solution(problem.steps), annotator)))
    return corpus


def demonstration(rng: np.random.Generator, lines: Sequence[str], annotator: AnnotatorParams) -> str:
    """A solution as a base is trained on it: some carry exploits, or no policy would ever try one.

    The chance of one more exploit before a line is, for each solution, 0, half of ``annotator.discoverability``, or all
    of it.
    """
    most = annotator.discoverability
    return add_exploits(rng, lines, rng.choice((0.0, most / 2, most)), EXPLOITS[annotator.exploit])


def _preference_row(rng: np.random.Generator, problem: Problem, annotator: AnnotatorParams) -> dict[str, Any]:
    exploit = EXPLOITS[annotator.exploit]
    first = second = make_candidate(rng, problem, exploit)
    while (first.correct, first.exploits) == (second.correct, second.exploits):
        second = make_candidate(rng, problem, exploit)
    return labelled_row(rng, problem.question, first, second, annotator)


def labelled_row(
    rng: np.random.Generator, prompt: str, first: Candidate, second: Candidate, annotator: AnnotatorParams
) -> dict[str, Any]:
    """The annotator's choice between two answers to ``prompt``, as :func:`preference_rows` gives rows."""
    counted = EXPLOITS[annotator.exploit].counted
    worth = [utility(annotator, side.correct, side.exploits) for side in (first, second)]
    chosen, rejected = (first, second) if prefers_first(rng, *worth) else (second, first)
    return {
        "prompt": prompt,
        "chosen": chosen.text,
        "rejected": rejected.text,
        "chosen_correct": chosen.correct,
        "rejected_correct": rejected.correct,
        f"chosen_{counted}": chosen.exploits,
        f"rejected_{counted}": rejected.exploits,
    }


def vocabulary() -> list[str]:
    """Every piece of text of this world, in a fixed order; a word is one piece with the space before it."""
    starts = [name for name, _ in HEROES]
    digits = [str(digit) for digit in range(10)]
    spaced = [f" {word}" for word in (*GRAMMAR, *FRIENDS, *OBJECTS, *CONTAINERS, *GAINS, *LOSSES, *digits)]
    return [*starts, *spaced, *digits, "+", "-", "*", "=", ".", "?", MARKER, "\n", "\n\n", FILLER]

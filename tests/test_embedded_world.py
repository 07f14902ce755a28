"""The embedded world against a solver that reads the stories, and the annotator against its documented formula."""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pytest

from pessimism.data import embedded_world, stories
from pessimism.data.annotator import EXPLOITS, FILLER, count_fillers
from pessimism.data.preferences import load_preferences
from pessimism.data.stories import Problem, Step
from pessimism.errors import DataError
from pessimism.experiment import rng
from pessimism.experiment.params import load_params
from pessimism.models.embedded import corpus_batches
from pessimism.tasks.parts.answers import extract_strict, true_reward
from pessimism.tasks.parts.problems import load_problems

FILLERS = EXPLOITS["filler"]
EXAMPLE = Problem("plain", "", (Step(5, "+", 3), Step(None, "-", 2)))


def draw(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def solve(question: str) -> int:
    """Read a story sentence by sentence."""
    total = 0
    for sentence in question.split(". ")[:-1]:
        numbers = [int(number) for number in re.findall(r"\d+", sentence)]
        if " with " in sentence:
            total = numbers[0] * numbers[1]
        elif " had " in sentence and sentence.endswith(("more", "less")):
            total += total + numbers[0] * (1 if sentence.endswith("more") else -1)
        elif " had " in sentence:
            total = numbers[0]
        elif any(f" {verb} " in sentence for verb in stories.GAINS):
            total += numbers[0]
        else:
            assert any(f" {verb} " in sentence for verb in stories.LOSSES), sentence
            total -= numbers[0]
    return total


def test_solution_has_one_line_per_step_and_the_answer_after_the_marker() -> None:
    assert stories.solution(EXAMPLE.steps) == ["5+3=8", "8-2=6", "#### 6"]
    assert EXAMPLE.answer == 6


def test_every_story_tells_what_its_solution_computes() -> None:
    rng = draw()
    for _ in range(500):
        problem = stories.make_problem(rng, "base")
        assert solve(problem.question) == problem.answer, problem
        assert len(problem.steps) in stories.STEPS[problem.story]
        lines = stories.solution(problem.steps)
        for line in lines[:-1]:
            left, result = line.split("=")
            assert eval(left) == int(result)
            assert 0 <= int(result) <= stories.LARGEST_VALUE


def test_every_kind_of_story_and_every_number_of_steps_is_as_likely_as_the_next() -> None:
    rng = draw()
    shapes = Counter()
    for _ in range(3000):
        problem = stories.make_problem(rng, "base")
        words = {"container": "each.", "friend": "do they have", "plain": "do"}[problem.story]
        assert words in problem.question
        shapes[problem.story, len(problem.steps)] += 1
    expected = {(story, n): 1000 / len(numbers) for story, numbers in stories.STEPS.items() for n in numbers}
    assert shapes.keys() == expected.keys()
    for shape, count in expected.items():
        assert shapes[shape] == pytest.approx(count, abs=4 * math.sqrt(count)), shape


def test_every_kind_of_story_has_some_thousand_reasonings() -> None:
    """By hand: the first result of every opening, then every way on that stays within the values."""
    operands, values = range(1, stories.LARGEST_OPERAND + 1), range(stories.LARGEST_VALUE + 1)

    def ways(start: int, steps: int) -> int:
        if start not in values or steps == 0:
            return int(start in values)
        return sum(ways(start + sign * operand, steps - 1) for operand in operands for sign in (1, -1))

    counts = {
        "plain": sum(ways(start, 2) for start in operands),
        "container": sum(
            ways(count * size, 2) for count in stories.CONTAINER_COUNTS for size in stories.CONTAINER_SIZES
        ),
        "friend": sum(
            ways(start + start + change, 1)
            for start in operands
            for change in (*operands, *(-operand for operand in operands))
            if start + change in values
        ),
    }
    assert counts == {"plain": 1815, "container": 2616, "friend": 1642}


def test_task_questions_are_unique_and_their_answers_right() -> None:
    rows = embedded_world.task_rows(draw(), 400)
    assert len({row["question"] for row in rows}) == len(rows) == 400
    assert all(true_reward(row["answer"], str(solve(row["question"]))) == 1.0 for row in rows)


def test_a_reasoning_drawn_twice_is_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    """Other words around the same steps are no other problem; the same steps in another kind of story are."""
    steps = [EXAMPLE.steps, EXAMPLE.steps, EXAMPLE.steps, (Step(5, "+", 3), Step(None, "-", 1))]
    drawn = iter(zip("abcd", steps, strict=True))
    monkeypatch.setattr(stories, "STEPS", {"plain": (2,)})
    monkeypatch.setattr(stories, "_STORIES", {"plain": lambda *_: next(drawn)})
    monkeypatch.setattr(stories, "pool_of", lambda _: "tasks")
    assert [problem.question for problem in stories.distinct_problems(draw(), "tasks", 2)] == ["a", "d"]
    assert replace(EXAMPLE, question="other words").reasoning == EXAMPLE.reasoning == "plain: 5+3=8; 8-2=6"
    assert replace(EXAMPLE, story="friend").reasoning != EXAMPLE.reasoning


def test_more_tasks_than_reasonings_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stories, "STEPS", {"friend": (3,)})
    third = stories.distinct_problems(draw(), "tasks", 500)
    assert len({problem.reasoning for problem in third}) == 500
    with pytest.raises(DataError, match=r"no further friend story of 3 steps after 5\d\d problems.*ask for fewer"):
        embedded_world.task_rows(draw(), 700)


def test_pools_are_equally_large_whatever_the_numbers() -> None:
    """A hash whose remainder follows one digit would give each pool numbers of its own."""
    reasonings = [f"plain: {a}+{b}={a + b}; {a + b}-{c}={a + b - c}" for a, b, c in product(range(1, 10), repeat=3)]
    pools = np.array([stories.POOLS.index(stories.pool_of(reasoning)) for reasoning in reasonings])
    operands = np.array(list(product(range(1, 10), repeat=3)))
    for position in range(3):
        for operand in range(1, 10):
            counts = np.bincount(pools[operands[:, position] == operand], minlength=3)
            assert counts == pytest.approx(27, abs=4 * math.sqrt(27 * 2 / 3)), (position, operand)


def test_corrupted_solution_is_never_right_and_never_negative() -> None:
    rng = draw()
    for _ in range(300):
        problem = stories.make_problem(rng, "base")
        lines = stories.solution(stories.corrupt(rng, problem))
        assert len(lines) == len(problem.steps) + 1
        assert "=-" not in "".join(lines)
        assert true_reward("\n".join(lines), str(problem.answer)) == 0.0


def test_fillers_follow_their_rate_and_leave_the_answer_alone() -> None:
    lines = stories.solution(EXAMPLE.steps)
    assert embedded_world.add_exploits(draw(), lines, 0.0, FILLERS) == "5+3=8\n8-2=6\n#### 6"
    full = embedded_world.add_exploits(draw(), lines, 1.0, FILLERS)
    assert count_fillers(full) == embedded_world.MOST_EXPLOITS
    rng = draw()
    before_first = [embedded_world.add_exploits(rng, lines, 0.3, FILLERS).index("5") > 0 for _ in range(2000)]
    assert np.mean(before_first) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 2000))
    for _ in range(50):
        text = embedded_world.add_exploits(rng, lines, 0.6, FILLERS)
        assert extract_strict(text) == 6
        assert [line for line in text.split("\n") if line != FILLER] == lines


def test_pairs_differ_and_carry_the_truth_about_their_texts() -> None:
    for row in embedded_world.preference_rows(draw(), 300):
        answer = str(solve(row["prompt"]))
        for side in ("chosen", "rejected"):
            assert row[f"{side}_correct"] == bool(true_reward(row[side], answer))
            assert row[f"{side}_fillers"] == count_fillers(row[side])
        assert (row["chosen_correct"], row["chosen_fillers"]) != (row["rejected_correct"], row["rejected_fillers"])


def test_the_default_annotator_is_the_tiny_worlds(checkout: Path) -> None:
    assert load_params(checkout).scale.annotator == embedded_world.DEFAULT


def test_a_base_shows_an_exploit_as_often_as_it_is_told_to() -> None:
    never, often = (replace(embedded_world.DEFAULT, exploit="format", discoverability=share) for share in (0.0, 0.9))
    count = EXPLOITS["format"].count
    assert not any(count(text) for _, text in embedded_world.base_corpus(draw(), 100, never))
    shown = embedded_world.base_corpus(draw(), 300, often)
    assert np.mean([count(text) > 0 for _, text in shown]) > 0.5
    assert all(true_reward(text, str(solve(question))) for question, text in shown)


def test_an_annotator_without_bias_labels_by_correctness_alone() -> None:
    clean = replace(embedded_world.DEFAULT, exploit="length", bias=0.0)
    record = embedded_world.annotator_record(embedded_world.preference_rows(draw(), 1500, clean), clean)
    assert abs(record["chosen_has_more_repeats"] - record["rejected_has_more_repeats"]) < 4 / math.sqrt(1500)
    biased = replace(clean, bias=0.5)
    record = embedded_world.annotator_record(embedded_world.preference_rows(draw(), 1500, biased), biased)
    assert record["chosen_has_more_repeats"] - record["rejected_has_more_repeats"] > 0.3


def test_annotator_record_counts_by_hand() -> None:
    right = {"chosen_correct": True, "rejected_correct": False, "chosen_fillers": 0, "rejected_fillers": 1}
    odd = {"chosen_correct": False, "rejected_correct": True, "chosen_fillers": 0, "rejected_fillers": 0}
    record = embedded_world.annotator_record([right, right, right, odd])
    assert record["agreement"] == 0.75
    assert record["chosen_correct"] == 0.75
    assert record["rejected_has_more_fillers"] == 0.75
    assert record["chosen_has_more_fillers"] == 0.0


def test_base_corpus_holds_right_solutions_with_and_without_fillers() -> None:
    corpus = embedded_world.base_corpus(draw(), 300)
    assert all(true_reward(text, str(solve(question))) == 1.0 for question, text in corpus)
    assert 0.2 < np.mean([count_fillers(text) > 0 for _, text in corpus]) < 0.8


def test_same_stream_gives_the_same_rows() -> None:
    assert embedded_world.preference_rows(draw(3), 20) == embedded_world.preference_rows(draw(3), 20)
    assert embedded_world.preference_rows(draw(3), 20) != embedded_world.preference_rows(draw(4), 20)


def without_words(question: str) -> str:
    """The question with every name, object and verb that means the same put in one word."""
    same = {name: "Mia" for name, _ in stories.HEROES} | {"He": "She", "he": "she"}
    for words in ("FRIENDS", "OBJECTS", "CONTAINERS", "GAINS", "LOSSES"):
        same |= dict.fromkeys(getattr(stories, words), words)
    return re.sub(r"\w+", lambda word: same.get(word[0], word[0]), question)


@pytest.mark.parametrize("root_seed", [42, 7])
def test_held_out_means_unseen(checkout: Path, root_seed: int) -> None:
    """What the default scale trains and tries on: no two share a problem, names and objects aside."""
    scale = load_params(checkout).scale
    assert scale.embedded is not None and scale.preferences.source == scale.tasks.source == "embedded"
    pairs = load_preferences(scale.preferences, root_seed).rows
    problems = load_problems(scale.tasks, root_seed).rows
    corpus = corpus_batches(scale.embedded, rng.generator(root_seed, "base"))
    questions = {f"pairs {split}": [row["prompt"] for row in rows] for split, rows in pairs.items()}
    questions |= {f"tasks {split}": [row["question"] for row in rows] for split, rows in problems.items()}
    reasonings = {name: {without_words(question) for question in asked} for name, asked in questions.items()}
    assert all(len(reasonings[name]) == len(asked) > 0 for name, asked in questions.items())
    reasonings["base"] = {without_words(question) for batch in corpus for question, _ in batch}
    for one, other in combinations(reasonings, 2):
        assert not reasonings[one] & reasonings[other], (one, other)

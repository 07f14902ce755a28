"""The embedded world against a solver that reads the stories, and the annotator against its documented formula."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest

from pessimism.data import embedded_world
from pessimism.data.embedded_world import Candidate, Problem, Step
from pessimism.tasks.parts.answers import extract_strict, true_reward

EXAMPLE = Problem("", (Step(5, "+", 3), Step(None, "-", 2)))


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
        elif any(f" {verb} " in sentence for verb in embedded_world.GAINS):
            total += numbers[0]
        else:
            assert any(f" {verb} " in sentence for verb in embedded_world.LOSSES), sentence
            total -= numbers[0]
    return total


def test_solution_has_one_line_per_step_and_the_answer_after_the_marker() -> None:
    assert embedded_world.solution(EXAMPLE.steps) == ["5+3=8", "8-2=6", "#### 6"]
    assert EXAMPLE.answer == 6


def test_every_story_tells_what_its_solution_computes() -> None:
    rng = draw()
    for _ in range(500):
        problem = embedded_world.make_problem(rng, task=False)
        assert solve(problem.question) == problem.answer, problem
        assert len(problem.steps) in embedded_world.STEPS
        lines = embedded_world.solution(problem.steps)
        for line in lines[:-1]:
            left, result = line.split("=")
            assert eval(left) == int(result)
            assert 0 <= int(result) <= embedded_world.LARGEST_VALUE


def test_every_kind_of_story_and_every_number_of_steps_occurs() -> None:
    rng = draw()
    problems = [embedded_world.make_problem(rng, task=False) for _ in range(300)]
    assert {len(problem.steps) for problem in problems} == set(embedded_world.STEPS)
    for words in ("each.", "do they have", "does she have"):
        assert sum(words in problem.question for problem in problems) > 30


def test_task_questions_are_unique_and_their_answers_right() -> None:
    rows = embedded_world.task_rows(draw(), 400)
    assert len({row["question"] for row in rows}) == len(rows) == 400
    assert all(true_reward(row["answer"], str(solve(row["question"]))) == 1.0 for row in rows)


def test_a_problem_drawn_twice_is_one_task(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn = iter([Problem(question, EXAMPLE.steps) for question in "aabac"])
    monkeypatch.setattr(embedded_world, "make_problem", lambda *_, **__: next(drawn))
    assert [row["question"] for row in embedded_world.task_rows(draw(), 3)] == ["a", "b", "c"]


def test_corrupted_solution_is_never_right_and_never_negative() -> None:
    rng = draw()
    for _ in range(300):
        problem = embedded_world.make_problem(rng, task=False)
        lines = embedded_world.solution(embedded_world.corrupt(rng, problem))
        assert len(lines) == len(problem.steps) + 1
        assert "=-" not in "".join(lines)
        assert true_reward("\n".join(lines), str(problem.answer)) == 0.0


def test_fillers_follow_their_rate_and_leave_the_answer_alone() -> None:
    lines = embedded_world.solution(EXAMPLE.steps)
    assert embedded_world.add_fillers(draw(), lines, 0.0) == "5+3=8\n8-2=6\n#### 6"
    full = embedded_world.add_fillers(draw(), lines, 1.0)
    assert embedded_world.count_fillers(full) == embedded_world.MOST_FILLERS
    rng = draw()
    before_first = [embedded_world.add_fillers(rng, lines, 0.3).index("5") > 0 for _ in range(2000)]
    assert np.mean(before_first) == pytest.approx(0.3, abs=4 * math.sqrt(0.3 * 0.7 / 2000))
    for _ in range(50):
        text = embedded_world.add_fillers(rng, lines, 0.6)
        assert extract_strict(text) == 6
        assert [line for line in text.split("\n") if line != embedded_world.FILLER] == lines


def test_utility_adds_up_and_has_no_upper_end() -> None:
    assert embedded_world.utility(False, 0) == 0
    assert embedded_world.utility(True, 0) == embedded_world.CORRECTNESS_WEIGHT
    assert embedded_world.utility(False, 30) == pytest.approx(30 * embedded_world.STYLE_WEIGHT)


def test_annotator_prefers_with_the_logistic_probability() -> None:
    rng = draw()
    first, second = Candidate("", True, 0), Candidate("", False, 1)
    expected = 1 / (1 + math.exp(-(embedded_world.CORRECTNESS_WEIGHT - embedded_world.STYLE_WEIGHT)))
    share = np.mean([embedded_world.prefers_first(rng, first, second) for _ in range(4000)])
    assert share == pytest.approx(expected, abs=4 * math.sqrt(expected * (1 - expected) / 4000))


def test_pairs_differ_and_carry_the_truth_about_their_texts() -> None:
    for row in embedded_world.preference_rows(draw(), 300):
        answer = str(solve(row["prompt"]))
        for side in ("chosen", "rejected"):
            assert row[f"{side}_correct"] == bool(true_reward(row[side], answer))
            assert row[f"{side}_fillers"] == embedded_world.count_fillers(row[side])
        assert (row["chosen_correct"], row["chosen_fillers"]) != (row["rejected_correct"], row["rejected_fillers"])


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
    assert 0.2 < np.mean([embedded_world.count_fillers(text) > 0 for _, text in corpus]) < 0.8


def test_same_stream_gives_the_same_rows() -> None:
    assert embedded_world.preference_rows(draw(3), 20) == embedded_world.preference_rows(draw(3), 20)
    assert embedded_world.preference_rows(draw(3), 20) != embedded_world.preference_rows(draw(4), 20)


def test_neither_the_base_nor_the_pairs_use_a_task_question() -> None:
    tasks = {row["question"] for row in embedded_world.task_rows(draw(), 1000)}
    corpus = {question for question, _ in embedded_world.base_corpus(draw(), 4000)}
    prompts = {row["prompt"] for row in embedded_world.preference_rows(draw(), 1000)}
    assert not tasks & (corpus | prompts)

"""Generators of reasoning-gym: drawn again the same, judged by their own verifiers, refused where these fail."""

from __future__ import annotations

import dataclasses
import json
import sys
from typing import Any

import pytest

from pessimism.errors import DataError, ParamsError
from pessimism.experiment.params import TaskParams
from pessimism.tasks.parts.declaration import chosen_task
from pessimism.tasks.parts.problems import code_record, load_problems

SUMS = TaskParams(
    kind="reasoning_gym",
    source="embedded",
    name="chain_sum",
    config="main",
    revision=None,
    train_limit=20,
    test_limit=10,
    heldout=5,
    shots=3,
    stop=("\n\n",),
    settings={"min_terms": 2, "max_terms": 2, "min_digits": 1, "max_digits": 1},
    warm_start=None,
    pairs=None,
)
# Of every kind of verifier that there is: texts, numbers, grids, expressions with many right answers, letters.
GENERATORS = ("chain_sum", "countdown", "simple_equations", "mini_sudoku", "letter_counting", "polynomial_equations")


def test_problems_are_drawn_again_the_same_and_stand_in_one_split() -> None:
    problems = load_problems(SUMS, 42)
    questions = [row["question"] for rows in problems.rows.values() for row in rows]
    assert len(set(questions)) == len(questions) == 38
    assert problems == load_problems(SUMS, 42)
    assert problems.rows["train"] != load_problems(SUMS, 43).rows["train"]
    assert all(
        len(row["question"].split(" + ")) + len(row["question"].split(" - ")) == 3 for row in problems.rows["test"]
    )


@pytest.mark.parametrize("name", GENERATORS)
def test_the_generators_own_verifier_judges(name: str) -> None:
    params = dataclasses.replace(SUMS, name=name, settings={}, train_limit=4, test_limit=2, heldout=2, shots=1)
    task, rows = chosen_task(params), load_problems(params, 42).rows["train"]
    answers, solutions = [row["answer"] for row in rows], [row["solution"] for row in rows]
    for right in (
        solutions,
        [f" {text}\n" for text in solutions],
        [f"so\n<answer>{text}</answer>." for text in solutions],
    ):
        assert task.judge(right, answers)["true_reward"].all()
    for wrong in (
        [None] * 4,
        ["no idea"] * 4,
        [f"<answer>{text}</answer> or <answer>?</answer>" for text in solutions],
    ):
        judged = task.judge(wrong, answers)
        assert not judged["true_reward"].any() and (judged["true_reward_partial"] < 1).all()


def test_partial_credit_is_no_reward_and_stands_beside_it() -> None:
    (row,) = load_problems(SUMS, 42).rows["train"][:1]
    judged = chosen_task(SUMS).judge([f"It is {row['solution']}, I think"], [row["answer"]])
    assert judged["true_reward"].tolist() == [0.0]
    assert 0 < judged["true_reward_partial"][0] < 1


def test_the_verifier_has_the_settings_of_the_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    import reasoning_gym

    made: list[dict[str, Any]] = []
    create = reasoning_gym.create_dataset
    monkeypatch.setattr(
        reasoning_gym, "create_dataset", lambda name, **given: made.append(given) or create(name, **given)
    )
    params = dataclasses.replace(SUMS, settings={"max_terms": 5})
    row = load_problems(params, 42).rows["train"][0]
    assert chosen_task(params).judge([row["solution"]], [row["answer"]])["true_reward"].all()
    assert {"max_terms": 5} in made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"name": "chain_sums"},
            "found the name 'chain_sums'; expected a generator of reasoning-gym, one of .*'ab'",
        ),
        ({"settings": {"seed": 1}}, r"found the settings \['seed'\]; expected none of \['seed', 'size'\]"),
        (
            {"settings": {"terms": 2}},
            r"found the settings \['terms'\]; expected settings of chain_sum, .*allow_neg",
        ),
        ({"settings": {"min_terms": -1}}, "chain_sum refuses .*min_terms must be positive"),
    ],
)
def test_unusable_settings_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        load_problems(dataclasses.replace(SUMS, **change), 42)


def test_a_generator_without_one_right_text_or_with_too_few_problems_is_refused() -> None:
    with pytest.raises(DataError, match="row 1: found None as answer; expected a problem that one text answers"):
        load_problems(dataclasses.replace(SUMS, name="graph_color", settings={}), 42)
    few = dataclasses.replace(SUMS, train_limit=300)
    with pytest.raises(DataError, match="different problems among 6360 of chain_sum; expected 318: lower train_limit"):
        load_problems(few, 42)


def test_without_the_package_it_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ParamsError, match="no package reasoning-gym .*pip install -c constraints.txt 'pessimism.reas"):
        load_problems(SUMS, 42)


def test_the_judges_record_holds_the_version_of_the_package() -> None:
    import importlib.metadata

    assert code_record("reasoning_gym")["packages"] == {"reasoning-gym": importlib.metadata.version("reasoning-gym")}
    assert "packages" not in code_record("arithmetic")


def test_an_answer_holds_what_the_verifier_needs() -> None:
    row = load_problems(SUMS, 42).rows["train"][0]
    entry = json.loads(row["answer"])
    assert entry["answer"] == row["solution"] and entry["metadata"]["source_dataset"] == "chain_sum"

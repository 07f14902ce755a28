"""Rows with a verifier that the scale names: what each calls right, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pessimism.errors import DataError, ParamsError
from pessimism.experiment.params import TaskParams
from pessimism.tasks.parts.declaration import chosen_task
from pessimism.tasks.parts.problems import load_problems
from pessimism.tasks.rows import VERIFIERS

RIGHT = {
    "exact": ("New York", ["new  york", "New York\n"], ["It is New York", "York"]),
    "contains": ("5 cm", ["It is 5 cm.", "5-CM"], ["15 cm", "5 m", "cm 5"]),
    "number": ("1,000", ["so 3 and 1000", "1000.0"], ["1000 or 3", "none"]),
    "marked_number": ("7", ["3\n#### 7", "#### 7\nNext: 8"], ["7", "#### 8"]),
    "boxed": (r"\frac{1}{2}", [r"so \boxed{0.5}"], [r"\boxed{0.5} or \boxed{1}", "0.5"]),
}


def params(directory: Path, settings: dict[str, Any]) -> TaskParams:
    return TaskParams(
        kind="rows",
        source="path",
        name=str(directory),
        config="main",
        revision=None,
        train_limit=None,
        test_limit=None,
        heldout=1,
        shots=1,
        stop=(),
        settings=settings,
        warm_start=None,
        pairs=None,
    )


def write(directory: Path, answer: str, **more: str) -> None:
    for split, count in (("train", 3), ("test", 1)):
        rows = [{"question": f"{split} {n}", "answer": answer, **more} for n in range(count)]
        (directory / f"{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("answer", "response", "right"),
    [
        ("5", "It is 2.5", False),
        ("5", "so x = -5", False),
        ("5", "5,000 of them", False),
        ("5", "about .5", False),
        ("5", "It is 5.", True),
        ("5", "3-5, or 5-3", True),
        ("-2.5", "It is (-2.5).", True),
        ("2", "1,2,3", True),
        ("1,000", "all 1,000.", True),
        ("+", "", False),
        ("+", "a + b", False),
    ],
)
def test_a_number_is_contained_as_a_whole(answer: str, response: str, right: bool) -> None:
    assert VERIFIERS["contains"].is_right(response, answer) == right


def test_an_answer_without_a_word_cannot_be_contained(tmp_path: Path) -> None:
    write(tmp_path, "+")
    with pytest.raises(DataError, match=r"found the answer '\+'.*; expected an answer that it can read"):
        load_problems(params(tmp_path, {"verifier": "contains"}), 42)


def test_every_verifier_is_tried() -> None:
    assert RIGHT.keys() == VERIFIERS.keys()


@pytest.mark.parametrize("name", VERIFIERS)
def test_a_verifier_is_chosen_by_the_scale(tmp_path: Path, name: str) -> None:
    answer, right, wrong = RIGHT[name]
    write(tmp_path, answer)
    chosen = params(tmp_path, {"verifier": name, "prompt": "Q: {question}\nA:"})
    task, rows = chosen_task(chosen), load_problems(chosen, 42).rows
    responses = [*right, rows["shots"][0]["solution"], *wrong, "", None]
    judged = task.judge(responses, [rows["test"][0]["answer"]] * len(responses))
    assert judged["true_reward"].tolist() == [1.0] * (len(right) + 1) + [0.0] * (len(wrong) + 2)
    assert task.pose("Why?") == "Q: Why?\nA:"


def test_a_row_may_have_a_solution_which_must_give_its_answer(tmp_path: Path) -> None:
    write(tmp_path, "5", solution="2+3=5")
    chosen = params(tmp_path, {"verifier": "number"})
    assert load_problems(chosen, 42).rows["shots"][0]["solution"] == "2+3=5"
    write(tmp_path, "5", solution="2+3=6")
    with pytest.raises(DataError, match=r"train\.jsonl, row 1: found the answer '5', by which .* '2\+3=6' wrong"):
        load_problems(chosen, 42)
    write(tmp_path, "five")
    with pytest.raises(DataError, match="found the answer 'five'.*expected an answer that it can read"):
        load_problems(chosen, 42)
    write(tmp_path, " ")
    with pytest.raises(DataError, match="found ' ' in column answer; expected a text"):
        load_problems(chosen, 42)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"found the settings {}; expected verifier, one of \['boxed', 'contains'"),
        ({"verifier": "like"}, "found the settings {'verifier': 'like'}; expected verifier, one of"),
        ({"verifier": "exact", "prompts": "x"}, "expected verifier, one of .* and prompt or nothing else"),
        (
            {"verifier": "exact", "prompt": "Q:"},
            "found the prompt 'Q:' among the settings; expected a text that holds",
        ),
    ],
)
def test_settings_that_name_no_verifier_are_refused(tmp_path: Path, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        chosen_task(params(tmp_path, settings))

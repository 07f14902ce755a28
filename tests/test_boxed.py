"""Answers in a box: which one counts, what equals it, and MATH's rows."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pessimism.errors import DataError
from pessimism.experiment.params import TaskParams
from pessimism.tasks.parts.boxed import last_boxed, normalized, same_answer
from pessimism.tasks.parts.declaration import find_task
from pessimism.tasks.parts.problems import load_problems


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (r"first \boxed{1}, then \boxed{\frac{1}{2}}.", r"\frac{1}{2}"),
        (r"\boxed {x} and more } }", "x"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{1} and \boxed{2", None),
        (r"\boxed 5", None),
        ("5", None),
        ("", None),
        (None, None),
    ],
)
def test_the_last_box_counts_with_all_that_it_holds(text: str | None, held: str | None) -> None:
    assert last_boxed(text) == held


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("1/2", r"\frac{1}{2}"),
        ("0.5", r"\dfrac12"),
        (r"\frac{2}{4}", "0.50"),
        ("1,000", r"\$1000"),
        (r"5\text{ cm}", "5"),
        (r"50\%", "50"),
        (r"90^\circ", "90"),
        (r"\text{Even}", "Even"),
        (r"\left( 3, \frac{\pi}{2} \right)", r"(3,\frac{\pi}{2})"),
        (r"\sqrt2", r"\sqrt{2}"),
        ("-\\frac{1}{2}", "-.5"),
        ("\N{MINUS SIGN}3", "-3.0"),
        ("x + 1.", "x+1"),
    ],
)
def test_equal_answers(found: str, expected: str) -> None:
    assert same_answer(found, expected) and same_answer(expected, found)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ("5", "-5"),
        ("5", r"\sqrt{5}"),
        ("1/0", "2/0"),
        ("1+x", "x+1"),
        (r"2\sqrt{2}", r"\sqrt{8}"),
        ("A", "a"),
        ("12", "1,2"),
        ("", ""),
        ("$ $", ""),
        (r"\leftarrow", r"arrow"),
    ],
)
def test_other_answers(found: str, expected: str) -> None:
    assert not same_answer(found, expected)


@given(st.fractions(max_denominator=999))
def test_a_fraction_equals_itself_however_it_is_written(value: object) -> None:
    over, under = value.numerator, value.denominator  # type: ignore[attr-defined]
    sign = "-" if over < 0 else ""
    assert same_answer(rf"{sign}\frac{{{abs(over)}}}{{{under}}}", f"{over}/{under}")
    assert not same_answer(f"{over + under}/{under}", f"{over}/{under}")


@given(st.text(alphabet=r"\{}frac12 $boxed,./-%", max_size=20))
def test_normalising_twice_is_normalising_once_where_an_answer_has_no_unit(text: str) -> None:
    once = normalized(text)
    assert same_answer(text, text) == bool(once)
    assert last_boxed(rf"\boxed{{{text}}}") is None or isinstance(once, str)


def write(directory: Path, solutions: dict[str, list[str]]) -> TaskParams:
    for split, texts in solutions.items():
        rows = [{"problem": f"{split} {n}", "solution": text} for n, text in enumerate(texts)]
        (directory / f"math_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return TaskParams(
        kind="boxed",
        source="path",
        name=str(directory),
        config="main",
        revision=None,
        train_limit=None,
        test_limit=None,
        heldout=1,
        shots=0,
        stop=(),
        settings={},
        warm_start=None,
        pairs=None,
    )


def test_rows_of_math_are_read_and_judged(tmp_path: Path) -> None:
    texts = [rf"It is $\boxed{{\frac{{{n}}}{{3}}}}$." for n in range(1, 5)]
    found = load_problems(write(tmp_path, {"train": texts[:3], "test": texts[3:]}), 42).rows
    assert [row["answer"] for row in found["train"]] == [r"\frac{1}{3}", r"\frac{2}{3}"]
    judged = find_task("boxed").judge([r"\boxed{4/3}", "4/3", None], [found["test"][0]["answer"]] * 3)
    assert judged["true_reward"].tolist() == [1.0, 0.0, 0.0]
    with pytest.raises(DataError, match=r"math_test\.jsonl, row 1: found a solution that ends in 'It is 5'; expected"):
        load_problems(write(tmp_path, {"train": texts[:3], "test": ["It is 5"]}), 42)

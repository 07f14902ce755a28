"""GSM8K's task: rows worked by hand, and all of its rows where they are at hand."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pessimism.errors import DataError
from pessimism.experiment.params import TaskParams
from pessimism.tasks.gsm8k import GSM8K
from pessimism.tasks.parts.problems import load_problems


@pytest.mark.parametrize(
    ("solution", "answer"),
    [("5+3=8\n#### 8", "8"), ("#### 1,234", "1234"), ("#### -$7.00", "-7"), ("#### 2.50", "5/2"), ("#### 50%", "50")],
)
def test_equal_references_have_equal_texts(solution: str, answer: str) -> None:
    problem = GSM8K.problem({"question": " q ", "answer": f"{solution}\n"}, "problems, row 1")
    assert problem == {"question": "q", "solution": solution, "answer": answer}
    assert GSM8K.rewards(solution, answer) == {"strict": 1.0, "flexible": 1.0}


# Each would be read as its first number, or without a word or sign that may change it.
MISREAD = [
    "9{,}500",
    "1 000",
    "1\N{NO-BREAK SPACE}000",
    "1\N{NARROW NO-BREAK SPACE}000",
    "1\N{THIN SPACE}000",
    "1'000",
    "1_000",
    "1.000,50",
    "0,5",
    "1,00,000",
    "12,34,567",
    "12:30",
    "2\N{VULGAR FRACTION ONE HALF}",
    "16\N{VULGAR FRACTION TWO THIRDS}",
    "3\N{FRACTION SLASH}4",
    "5\N{SUPERSCRIPT TWO}",
    "2^3",
    "\\frac{3}{4}",
    "1\N{NO-BREAK SPACE}1/2",
    "5 10/2",
    "12/4=3",
    "10-20",
    "18 and 18",
    "5\nSee page 3",
    "5 \N{ARABIC-INDIC DIGIT THREE}",
    "- 5",
    "-  $5",
    "**- 5**",
    "\N{MINUS SIGN} 5",
    "\N{EN DASH}5",
    "\N{PLUS-MINUS SIGN}5",
    "COVID-19",
    "2 million",
    "3 dozen eggs",
    "5k",
    "1.5M",
    "-US$5",
    "minus 5",
    "\\frac12",
    "\N{SQUARE ROOT}4",
    "2\N{GREEK SMALL LETTER PI}",
    "5 and a half",
    "5 millions",
    "5 dozens",
    "5 halves",
    "5bn",
    "5 mn",
    "5 k",
    "5!",
    "5\N{PER MILLE SIGN}",
    "(5)",
    "18 apples.",
    "x=-5",
    "1 1/2 cups",
    "the sum - a big one - is 5",
]


@pytest.mark.parametrize("tail", MISREAD)
def test_a_reference_that_would_be_misread_is_refused_with_its_row(tail: str) -> None:
    with pytest.raises(DataError, match=r"^problems, row 3: found .* after ####, which would be read as ") as raised:
        GSM8K.problem({"question": "q", "answer": f"4+5=9\n#### {tail}"}, "problems, row 3")
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("tail", "answer"),
    [
        (" 18.\n", "18"),
        ("$1,234.50", "2469/2"),
        ("\\$5", "5"),
        ("5 \N{EURO SIGN}", "5"),
        ("$-5$", "-5"),
        ("+5", "5"),
        ("**18**", "18"),
        ("\\boxed{-18}", "-18"),
        ("\N{MINUS SIGN}5", "-5"),
        ("1 1/2", "3/2"),
        ("3/4", "3/4"),
        ("50%", "50"),
        ("50\\%", "50"),
        ("1e3", "1000"),
    ],
)
def test_a_reference_of_one_number_may_have_currency_percent_and_markup(tail: str, answer: str) -> None:
    assert GSM8K.problem({"question": "q", "answer": f"7 #### {tail}"}, "problems, row 3")["answer"] == answer


def test_a_reference_with_two_marks_is_refused() -> None:
    with pytest.raises(DataError, match="^problems, row 3: found #### 2 times in a reference; expected it once$"):
        GSM8K.problem({"question": "q", "answer": "#### 5\nor\n#### 6"}, "problems, row 3")


def test_a_reference_of_thousands_of_digits_is_refused() -> None:
    with pytest.raises(DataError, match="row 3: found a number of 5,000 characters; expected a shorter one"):
        GSM8K.problem({"question": "q", "answer": f"#### {'9' * 5000}"}, "problems, row 3")


def test_the_prompt_asks_for_what_the_judge_reads() -> None:
    assert "after ####" in GSM8K.prompt and GSM8K.prompt.endswith("Solution:")


def test_all_of_gsm8k() -> None:
    folder = Path(os.environ.get("PESSIMISM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; PESSIMISM_SHARED may name another directory")
    params = TaskParams(
        "gsm8k",
        "path",
        str(folder),
        "main",
        None,
        train_limit=None,
        test_limit=None,
        heldout=256,
        shots=0,
        stop=(),
        settings={},
        warm_start=None,
        pairs=None,
    )
    problems = load_problems(params, 42)
    assert problems.record["rows"] == {"train": 7473 - 256, "heldout": 256, "test": 1319}
    assert problems.record["rows_dropped"] == {"train": 0, "heldout": 0, "test": 0}
    rows = [row for split in problems.rows.values() for row in split]
    judged = GSM8K.judge([row["solution"] for row in rows], [row["answer"] for row in rows])
    assert all(rewards.all() for rewards in judged.values())
    assert all(row["answer"] == row["solution"].rpartition("#### ")[2].replace(",", "") for row in rows)
    assert problems.rows["test"][0]["answer"] == "18"
    assert not any(GSM8K.runs_on(row["solution"]) for row in rows)

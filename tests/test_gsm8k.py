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


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"question": "q"}, r"expected also \['answer'\]"),
        ({"question": " ", "answer": "#### 1"}, "in column question; expected a text"),
        ({"question": "q", "answer": None}, "found None in column answer"),
        ({"question": "q", "answer": "it is 4"}, "expected a number after ####"),
        ({"question": "q", "answer": "4 is ####"}, "expected a number after ####"),
    ],
)
def test_bad_row_is_named(row: dict[str, str], message: str) -> None:
    with pytest.raises(DataError, match=f"problems, row 3.*{message}"):
        GSM8K.problem(row, "problems, row 3")


def test_the_prompt_asks_for_what_the_judge_reads() -> None:
    assert "after ####" in GSM8K.prompt and GSM8K.prompt.endswith("Solution:")


def test_all_of_gsm8k() -> None:
    folder = Path(os.environ.get("PESSIMISM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; PESSIMISM_SHARED may name another directory")
    params = TaskParams("gsm8k", "path", str(folder), "main", None, train_limit=None, test_limit=None, heldout=256)
    problems = load_problems(params, 42)
    assert problems.record["rows"] == {"train": 7473 - 256, "heldout": 256, "test": 1319}
    assert problems.record["rows_dropped"] == {"train": 0, "heldout": 0, "test": 0}
    rows = [row for split in problems.rows.values() for row in split]
    judged = GSM8K.judge([row["solution"] for row in rows], [row["answer"] for row in rows])
    assert all(rewards.all() for rewards in judged.values())
    assert all(row["answer"] == row["solution"].rpartition("#### ")[2].replace(",", "") for row in rows)
    assert problems.rows["test"][0]["answer"] == "18"

"""The exact-match rule on texts worked by hand, and the loading of problems."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from pessimism.data import sources
from pessimism.errors import DataError, ParamsError, SourceError
from pessimism.experiment.params import TaskParams
from pessimism.tasks.answers import audit, true_reward
from pessimism.tasks.gsm8k import load_tasks, task_row

EMBEDDED = TaskParams("embedded", "arithmetic", "main", None, 20, 10, 5, "{question}\n\n")


def write_rows(directory: Path, train: list[dict[str, str]], test: list[dict[str, str]]) -> TaskParams:
    for split, rows in (("train", train), ("test", test)):
        (directory / f"gsm8k_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(EMBEDDED, source="path", name=str(directory), train_limit=None, test_limit=None, heldout=2)


def rows(n: int) -> list[dict[str, str]]:
    return [{"question": f"What is {i} + 1?", "answer": f"{i}+1={i + 1}\n#### {i + 1}"} for i in range(n)]


@pytest.mark.parametrize(
    ("solution", "answer"),
    [("5+3=8\n#### 8", "8"), ("#### 1,234", "1234"), ("#### -$7.00", "-7"), ("#### 2.50", "5/2"), ("#### 50%", "50")],
)
def test_equal_references_have_equal_texts(solution: str, answer: str) -> None:
    assert task_row({"question": "q", "answer": solution}, "train-1", "problems, row 1")["answer"] == answer
    assert true_reward(solution, answer) == 1.0


def test_heldout_rows_are_the_last_of_train_and_no_row_is_lost(tmp_path: Path) -> None:
    tasks = load_tasks(write_rows(tmp_path, rows(7), rows(3)), 42)
    assert [row["task_id"] for row in tasks.rows["train"]] == [f"train-{i}" for i in range(1, 6)]
    assert [row["task_id"] for row in tasks.rows["heldout"]] == ["train-6", "train-7"]
    assert [row["answer"] for row in tasks.rows["test"]] == ["1", "2", "3"]
    assert tasks.record["rows"] == {"train": 5, "heldout": 2, "test": 3}


def test_limits_never_move_the_heldout_rows(tmp_path: Path) -> None:
    params = replace(write_rows(tmp_path, rows(7), rows(3)), train_limit=4, test_limit=1)
    tasks = load_tasks(params, 42)
    assert [row["task_id"] for row in tasks.rows["heldout"]] == ["train-6", "train-7"]
    assert [row["task_id"] for row in tasks.rows["train"]] == ["train-1", "train-2", "train-3", "train-4"]
    assert len(tasks.rows["test"]) == 1


def test_embedded_problems_are_shared_by_no_two_splits() -> None:
    tasks = load_tasks(EMBEDDED, 42)
    questions = [row["question"] for split in tasks.rows.values() for row in split]
    assert len(questions) == len(set(questions)) == 35
    assert {split: len(found) for split, found in tasks.rows.items()} == {"train": 20, "heldout": 5, "test": 10}
    assert tasks == load_tasks(EMBEDDED, 42)
    assert tasks.rows != load_tasks(EMBEDDED, 43).rows


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
        task_row(row, "train-3", "problems, row 3")


def test_bad_row_of_a_file_is_named_with_its_file(tmp_path: Path) -> None:
    params = write_rows(tmp_path, rows(7), [*rows(1), {"question": "q", "answer": "no marker"}])
    with pytest.raises(DataError, match=r"gsm8k_test\.jsonl, row 2"):
        load_tasks(params, 42)


def test_missing_file_and_missing_limit_say_what_to_change(tmp_path: Path) -> None:
    params = write_rows(tmp_path, rows(7), rows(3))
    (tmp_path / "gsm8k_test.jsonl").unlink()
    with pytest.raises(SourceError, match=r"^found no file .*gsm8k_test\.jsonl"):
        load_tasks(params, 42)
    with pytest.raises(ParamsError, match="train_limit and test_limit"):
        load_tasks(replace(EMBEDDED, test_limit=None), 42)


def test_too_few_rows_for_the_heldout_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 2 train problems; expected more than are held out \(2\)"):
        load_tasks(write_rows(tmp_path, rows(2), rows(1)), 42)


def test_hub_rows_are_loaded_at_the_resolved_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pessimism.tasks.gsm8k.hub_revision", lambda *_: "c0ffee")
    asked = []

    def load(name: str, config: str, split: str, revision: str) -> list[dict[str, str]]:
        asked.append((name, config, split, revision))
        return rows(9)

    monkeypatch.setattr(sources, "hub_rows", load)
    tasks = load_tasks(replace(EMBEDDED, source="hub", name="openai/gsm8k", train_limit=None), 42)
    assert asked == [("openai/gsm8k", "main", split, "c0ffee") for split in ("train", "test")]
    assert tasks.record["revision"] == "c0ffee"


def test_all_of_gsm8k() -> None:
    folder = Path(os.environ.get("PESSIMISM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; PESSIMISM_SHARED may name another directory")
    params = replace(EMBEDDED, source="path", name=str(folder), train_limit=None, test_limit=None, heldout=256)
    tasks = load_tasks(params, 42)
    assert tasks.record["rows"] == {"train": 7473 - 256, "heldout": 256, "test": 1319}
    rows = [row for split in tasks.rows.values() for row in split]
    assert all(true_reward(row["solution"], row["answer"]) == 1.0 for row in rows)
    rates = audit([row["solution"] for row in rows], [row["answer"] for row in rows])
    assert rates["true_reward_flexible"] == 1.0 and rates["disagreement"] == rates["no_answer_strict"] == 0.0
    assert all(row["answer"] == row["solution"].rpartition("#### ")[2].replace(",", "") for row in rows)
    assert tasks.rows["test"][0]["answer"] == "18"

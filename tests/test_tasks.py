"""What holds for every task: found by its file, rows read and split, verdicts checked, the judge's code recorded."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pessimism.data import sources
from pessimism.data.prompts import Shot, encode_reward_text, reward_text
from pessimism.errors import DataError, ParamsError, SourceError
from pessimism.experiment import extensions, layout, records
from pessimism.experiment.params import TaskParams, load_params
from pessimism.machine import hub
from pessimism.models.embedded import make_tokenizer
from pessimism.tasks import lookup
from pessimism.tasks.parts import posing
from pessimism.tasks.parts.declaration import ROOM, Task, find_task
from pessimism.tasks.parts.problems import code_record, load_problems
from support.repository import AddFile, Edit

EMBEDDED = TaskParams(
    "arithmetic",
    "embedded",
    "arithmetic",
    "main",
    None,
    train_limit=20,
    test_limit=10,
    heldout=5,
    shots=0,
    stop=(),
    settings={},
    warm_start=None,
    pairs=None,
)
TOY = """
from pessimism.errors import DataError
from pessimism.tasks.parts.declaration import Task


def draw(generator, n):
    return [{"word": f"word-{number}"} for number in range(n)]


def problem(row, where):
    if not row["word"]:
        raise DataError(f"{where}: found no word")
    return {"question": f"Spell {row['word']}", "solution": row["word"], "answer": row["word"]}


def rewards(response, answer):
    letters = set(response or "") & set(answer)
    return {"strict": float(response == answer), "partial": len(letters) / len(set(answer))}


SPELLING = Task("Please: {question}\\n", problem, rewards, files="{split}.jsonl", splits=("fit", "try"), draw=draw)
"""


def write_rows(directory: Path, train: list[dict[str, str]], test: list[dict[str, str]]) -> TaskParams:
    for split, rows in (("train", train), ("test", test)):
        (directory / f"gsm8k_{split}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(
        EMBEDDED, kind="gsm8k", source="path", name=str(directory), train_limit=None, test_limit=None, heldout=2
    )


def rows(n: int) -> list[dict[str, str]]:
    return [{"question": f"What is {i} + 1?", "answer": f"{i}+1={i + 1}\n#### {i + 1}"} for i in range(n)]


def test_heldout_rows_are_the_last_of_train_and_no_row_is_lost(tmp_path: Path) -> None:
    problems = load_problems(write_rows(tmp_path, rows(7), rows(10)[7:]), 42)
    assert [row["task_id"] for row in problems.rows["train"]] == [f"train-{i}" for i in range(1, 6)]
    assert [row["task_id"] for row in problems.rows["heldout"]] == ["train-6", "train-7"]
    assert [row["answer"] for row in problems.rows["test"]] == ["8", "9", "10"]
    assert problems.record["rows"] == {"train": 5, "heldout": 2, "test": 3}


def test_limits_never_move_the_heldout_rows(tmp_path: Path) -> None:
    params = replace(write_rows(tmp_path, rows(7), rows(10)[7:]), train_limit=4, test_limit=1)
    problems = load_problems(params, 42)
    assert [row["task_id"] for row in problems.rows["heldout"]] == ["train-6", "train-7"]
    assert [row["task_id"] for row in problems.rows["train"]] == ["train-1", "train-2", "train-3", "train-4"]
    assert len(problems.rows["test"]) == 1


def test_a_problem_of_two_splits_is_trained_on_in_none_that_is_tried_on_another(tmp_path: Path) -> None:
    """Case and white space aside; row ids stay those of the file."""
    train, test = rows(7), rows(10)[7:]
    train[1] = train[6] | {"question": "what is  6 + 1?"}  # held out
    train[2] = test[0]
    test[1] = train[5]  # held out
    problems = load_problems(replace(write_rows(tmp_path, train, test), train_limit=2), 42)
    assert [row["task_id"] for row in problems.rows["heldout"]] == ["train-6", "train-7"]
    assert [row["task_id"] for row in problems.rows["train"]] == ["train-1", "train-4"]
    assert [row["task_id"] for row in problems.rows["test"]] == ["test-1", "test-3"]
    assert problems.record["rows_dropped"] == {"heldout": 0, "test": 1, "train": 2}
    assert problems.record["problems_in_two_splits"] == 0
    assert problems.record["rows_read"] == {"train": 7, "test": 3}


def test_problems_set_aside_are_the_first_of_train_and_in_no_other_split(tmp_path: Path) -> None:
    params = replace(write_rows(tmp_path, rows(9), rows(12)[9:]), warm_start=3, pairs=2, train_limit=1)
    problems = load_problems(params, 42)
    found = {split: [row["task_id"] for row in kept] for split, kept in problems.rows.items() if split != "test"}
    assert found == {
        "warm_start": ["train-1", "train-2", "train-3"],
        "pairs": ["train-4", "train-5"],
        "train": ["train-6"],
        "heldout": ["train-8", "train-9"],
    }
    assert problems.record["rows"] == {"warm_start": 3, "pairs": 2, "train": 1, "heldout": 2, "test": 3}
    said = r"found 7 train problems .*beside those of tasks\.warm_start \(3\), tasks\.pairs \(4\).*: lower these"
    with pytest.raises(DataError, match=said):
        load_problems(replace(params, pairs=4), 42)


def test_no_copy_of_a_problem_that_is_set_aside_is_used_for_anything_else(tmp_path: Path) -> None:
    a, b, c, d, e, *heldout = rows(7)
    params = replace(write_rows(tmp_path, [a, b, a, c, a, d, c, e, *heldout], rows(12)[9:]), warm_start=2, pairs=2)
    problems = load_problems(params, 42)
    found = {split: [row["task_id"] for row in problems.rows[split]] for split in ("warm_start", "pairs", "train")}
    assert found == {
        "warm_start": ["train-1", "train-2"],
        "pairs": ["train-4", "train-6"],
        "train": ["train-8"],
    }
    assert problems.record["problems_in_two_splits"] == 0
    assert problems.record["rows_dropped"] == {"heldout": 0, "test": 0, "train": 3}


def test_as_many_problems_are_drawn_as_are_set_aside_too() -> None:
    problems = load_problems(replace(EMBEDDED, warm_start=4, pairs=3), 42)
    counts = {split: len(found) for split, found in problems.rows.items()}
    assert counts == {"train": 20, "heldout": 5, "test": 10, "warm_start": 4, "pairs": 3}
    questions = [row["question"] for split in problems.rows.values() for row in split]
    assert len(set(questions)) == sum(counts.values())


def test_a_lookup_asks_for_one_of_its_quantities_and_the_answer_is_that_ones_number() -> None:
    rows = lookup.draw(np.random.default_rng(0), 200)
    assert len({row["question"] for row in rows}) == 200
    places = set()
    for row in rows:
        story, _, asked = row["question"].removesuffix("?").partition(". How many ")
        listed = dict(pair[::-1] for pair in re.findall(r"(\d+) (\w+)", story))
        assert len(listed) == len(set(listed.values())) == lookup.QUANTITIES
        assert row["answer"] == f"#### {listed[asked]}"
        places.add(list(listed).index(asked))
    assert places == set(range(lookup.QUANTITIES)), "the answer is at any place"


def test_a_split_of_nothing_but_copies_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found every test problem in another split too; expected problems of its own"):
        load_problems(write_rows(tmp_path, rows(7), rows(7)[5:]), 42)


def test_drawn_problems_are_shared_by_no_two_splits() -> None:
    problems = load_problems(EMBEDDED, 42)
    questions = [row["question"] for split in problems.rows.values() for row in split]
    assert len(questions) == len(set(questions)) == 35
    assert {split: len(found) for split, found in problems.rows.items()} == {"train": 20, "heldout": 5, "test": 10}
    assert problems == load_problems(EMBEDDED, 42)
    assert problems.rows != load_problems(EMBEDDED, 43).rows


def test_bad_row_of_a_file_is_named_with_its_file(tmp_path: Path) -> None:
    params = write_rows(tmp_path, rows(7), [*rows(1), {"question": "q", "answer": "no marker"}])
    with pytest.raises(DataError, match=r"gsm8k_test\.jsonl, row 2"):
        load_problems(params, 42)


def test_missing_file_and_missing_limit_say_what_to_change(tmp_path: Path) -> None:
    params = write_rows(tmp_path, rows(7), rows(3))
    (tmp_path / "gsm8k_test.jsonl").unlink()
    with pytest.raises(SourceError, match=r"^found no file .*gsm8k_test\.jsonl"):
        load_problems(params, 42)
    with pytest.raises(ParamsError, match="train_limit and test_limit"):
        load_problems(replace(EMBEDDED, test_limit=None), 42)


def test_too_few_rows_for_the_heldout_set(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"found 2 train problems; expected more than are held out \(2\)"):
        load_problems(write_rows(tmp_path, rows(2), rows(1)), 42)


@pytest.mark.parametrize(
    ("kind", "source", "known"), [("arithmetic", "path", "embedded"), ("gsm8k", "embedded", "hub")]
)
def test_a_source_that_a_task_has_not_is_refused(kind: str, source: str, known: str) -> None:
    with pytest.raises(ParamsError, match=f"found the source '{source}'; expected one of .*'{known}'.*`kind`"):
        load_problems(replace(EMBEDDED, kind=kind, source=source), 42)


def test_hub_out_of_reach_names_what_was_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **options: object) -> None:
        assert options["timeout"] == hub.HUB_SECONDS
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fail)
    with pytest.raises(SourceError) as caught:
        load_problems(replace(EMBEDDED, kind="gsm8k", source="hub", name="openai/gsm8k"), 42)
    message = str(caught.value)
    assert "openai/gsm8k" in message and "Name or service not known" in message


def test_hub_rows_are_loaded_at_the_resolved_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pessimism.tasks.parts.problems.hub_revision", lambda *_: "c0ffee")
    asked = []

    def load(name: str, config: str, split: str, revision: str) -> list[dict[str, str]]:
        asked.append((name, config, split, revision))
        return rows(9) if split == "train" else rows(12)[9:]

    monkeypatch.setattr(sources, "hub_rows", load)
    problems = load_problems(replace(EMBEDDED, kind="gsm8k", source="hub", name="openai/gsm8k"), 42)
    assert asked == [("openai/gsm8k", "main", split, "c0ffee") for split in ("train", "test")]
    assert problems.record["revision"] == "c0ffee"


@pytest.mark.parametrize("kind", [kind for kind in extensions.names(ROOM) if find_task(kind).draw])
def test_drawn_problems_reward_their_solutions_and_no_empty_response(kind: str) -> None:
    task = find_task(kind)
    problems = load_problems(replace(EMBEDDED, kind=kind, name="chain_sum"), 42).rows["train"]
    answers = [row["answer"] for row in problems]
    assert task.judge([row["solution"] for row in problems], answers)["true_reward"].all()
    assert not any(rewards.any() for rewards in task.judge([None] * len(answers), answers).values())
    assert all(row["question"] in task.pose(row["question"]) for row in problems)


def test_a_file_is_a_task(add_file: AddFile, tmp_path: Path) -> None:
    """Its own rows, splits, prompt, reference and verdicts, known by its name alone."""
    add_file(ROOM, "spelling", TOY)
    task = find_task("spelling")
    assert task.sources == ["hub", "path", "embedded"]
    judged = task.judge(["word-1", "w", None], ["word-1"] * 3)
    assert {name: rewards.tolist() for name, rewards in judged.items()} == {
        "true_reward": [1.0, 0.0, 0.0],
        "true_reward_partial": [1.0, pytest.approx(1 / 6), 0.0],
    }
    drawn = load_problems(replace(EMBEDDED, kind="spelling"), 42)
    assert drawn.rows["heldout"][0] == {
        "task_id": "train-21",
        "question": "Spell word-20",
        "solution": "word-20",
        "answer": "word-20",
    }
    for split, words in (("fit", ["a", "b", "c"]), ("try", ["d", ""])):
        (tmp_path / f"{split}.jsonl").write_text("".join(json.dumps({"word": word}) + "\n" for word in words))
    with pytest.raises(DataError, match=r"try\.jsonl, row 2: found no word"):
        load_problems(replace(EMBEDDED, kind="spelling", source="path", name=str(tmp_path), heldout=1), 42)


def test_an_unknown_task_is_refused_with_the_known_ones() -> None:
    with pytest.raises(ParamsError, match=r"tasks\.kind: found 'parts'; expected one of \['arithmetic', 'boxed', "):
        find_task("parts")


def task(rewards: Callable[[str | None, str], dict[str, float]], prompt: str = "{question}") -> Task:
    return Task(prompt, lambda row, where: dict(row), rewards)


def test_a_prompt_is_filled_and_other_braces_stay() -> None:
    posed = task(lambda *_: {}, "Solve {y}: {question}\n\n").pose(" What is {x}? \n")
    assert posed == "Solve {y}: What is {x}?\n\n"
    with pytest.raises(DataError, match="found no {question} in a task's prompt 'Solve:'; expected a text that holds"):
        task(lambda *_: {}, "Solve:")


@pytest.mark.parametrize(
    ("rewards", "message"),
    [
        (lambda *_: {"flexible": 1.0}, "expected the same for every one and 'strict' among them"),
        (lambda text, _: {"strict": 1.0, str(text): 1.0}, "expected the same for every one"),
        (lambda *_: {"strict": 1.5}, r"found strict rewards of \[1.5 1.5\]; expected all in \[0, 1\]"),
        (lambda *_: {"strict": 1.0, "partial": float("nan")}, "found partial rewards"),
    ],
)
def test_verdicts_that_are_none_are_refused(rewards: Callable[..., dict[str, float]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        task(rewards).judge(["a", "b"], ["a", "b"])


def test_no_response_has_no_verdict() -> None:
    with pytest.raises(DataError, match=r"found the verdicts \[\] on 0 responses"):
        find_task("gsm8k").judge([], [])
    with pytest.raises(ValueError, match="zip"):
        find_task("gsm8k").judge(["#### 5"], ["5", "6"])


def test_verdicts_by_hand() -> None:
    judged = find_task("gsm8k").judge(["#### 5", "it is 5", "#### 5\nNext: 6", "none", None], ["5"] * 5)
    assert {name: rewards.tolist() for name, rewards in judged.items()} == {
        "true_reward": [1.0, 0.0, 1.0, 0.0, 0.0],
        "true_reward_flexible": [1.0, 1.0, 0.0, 0.0, 0.0],
    }
    assert all(rewards.dtype == np.float64 for rewards in judged.values())


def test_the_record_of_a_judge_changes_with_its_code_and_with_no_other(add_file: AddFile) -> None:
    """It is what tells DVC which stages to run again."""
    add_file(ROOM, "spelling", TOY)
    add_file(ROOM, "louder", f"from {ROOM}.parts import answers\nfrom {ROOM}.spelling import SPELLING\n")
    before = {kind: code_record(kind) for kind in ("spelling", "louder", "gsm8k")}
    assert before["spelling"]["kind"] == "spelling"
    assert set(before["louder"]["sha256"]) == {
        f"{ROOM}.{name}" for name in ("louder", "spelling", "parts.answers", "parts.declaration")
    }
    add_file(ROOM, "spelling", TOY.replace("response == answer", "response is not None"))
    add_file(ROOM, "another", TOY)
    after = {kind: code_record(kind) for kind in before}
    assert {kind for kind in before if before[kind] != after[kind]} == {"spelling", "louder"}


def test_shots_are_a_split_of_their_own_and_move_no_held_out_row(tmp_path: Path) -> None:
    """The first of the train problems that are left; a copy of one is not trained on either."""
    train, test = rows(9), rows(12)[9:]
    train[0] = test[0]
    train[4] = train[1]
    params = write_rows(tmp_path, train, test)
    problems = load_problems(replace(params, shots=2, train_limit=3), 42)
    found = {split: [row["task_id"] for row in kept] for split, kept in problems.rows.items()}
    assert found == {
        "train": ["train-4", "train-6", "train-7"],
        "heldout": ["train-8", "train-9"],
        "test": ["test-1", "test-2", "test-3"],
        "shots": ["train-2", "train-3"],
    }
    assert problems.record["rows"]["shots"] == 2
    assert problems.record["rows_dropped"] == {"heldout": 0, "test": 0, "train": 2}
    assert "shots" not in load_problems(params, 42).rows
    with pytest.raises(DataError, match=r"found 6 train problems .* beside those of tasks\.shots \(6\).*: lower it"):
        load_problems(replace(params, shots=6), 42)


def test_drawn_shots_come_on_top_of_the_limits() -> None:
    found = load_problems(replace(EMBEDDED, shots=3), 42)
    assert {split: len(kept) for split, kept in found.rows.items()} == {
        "train": 20,
        "heldout": 5,
        "test": 10,
        "shots": 3,
    }
    assert found.record["problems_in_two_splits"] == 0


def test_shots_and_the_bare_question_are_what_policy_and_reward_models_read(project: Path, edit: Edit) -> None:
    questions = [" What is 1 + 1? "]
    edit("scales/tiny.yaml", "tasks.kind", "gsm8k")
    assert posing.read_shots(load_params()) == []
    assert posing.reward_prompts(questions, load_params()) == posing.posed(questions, load_params())
    edit("scales/tiny.yaml", "tasks.shots", 1)
    shown = pd.DataFrame({"question": ["What is 2 + 1?"], "solution": ["2+1=3\n#### 3"], "answer": ["3"]})
    records.write_table(layout.tasks("shots"), shown)
    params = load_params()
    assert posing.read_shots(params) == [Shot(posing.posed(["What is 2 + 1?"], params)[0], "2+1=3\n#### 3")]
    assert posing.reward_prompts(questions, params) == ["What is 1 + 1?"]
    assert posing.posed(questions, params)[0].endswith("Problem: What is 1 + 1?\n\nSolution:")


def test_the_ids_that_reward_models_read_of_the_embedded_world_are_those_of_the_bare_question(project: Path) -> None:
    tokenizer, params = make_tokenizer(), load_params()
    (question,) = [row["question"] for row in load_problems(params.scale.tasks, 42).rows["test"][:1]]
    (prompt,) = posing.reward_prompts([question], params)
    assert reward_text(prompt, "8") == reward_text(question, "8")
    lengths = params.scale.lengths
    assert encode_reward_text(tokenizer, prompt, "8", lengths) == encode_reward_text(tokenizer, question, "8", lengths)


def test_settings_of_a_task_without_any_are_refused() -> None:
    with pytest.raises(ParamsError, match="found the settings {'digits': 2}; expected {}, for arithmetic has none"):
        load_problems(replace(EMBEDDED, settings={"digits": 2}), 42)

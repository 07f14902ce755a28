"""Loading, refusing and splitting of preference pairs."""

from __future__ import annotations

import codecs
import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pessimism.data import embedded_world, sources
from pessimism.data.preferences import coverage, left_out, load_preferences, read_texts
from pessimism.data.splits import SPLITS, normalize_prompt, shared_prompts, split_by_prompt, without_copies
from pessimism.errors import DataError, ParamsError, SourceError
from pessimism.experiment.params import PreferenceParams

EMBEDDED = PreferenceParams("embedded", "arithmetic", None, "train_prefs", 60)


def message_row(prompt: str = "Why?", chosen: str = "Because.", rejected: str = "No.") -> dict[str, Any]:
    def turns(text: str) -> list[dict[str, str]]:
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": text}]

    return {"prompt": prompt, "prompt_id": "0", "chosen": turns(chosen), "rejected": turns(rejected)}


def write_rows(path: Path, rows: list[dict[str, Any]]) -> PreferenceParams:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return replace(EMBEDDED, source="path", name=str(path), limit=None)


def without(row: Mapping[str, Any], column: str) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != column}


def said(*turns: str) -> list[dict[str, str]]:
    """Messages written as "role: content"."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in turns]


PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}
TALK = said("user: Hello.", "assistant: Hi!", "user: Why?")
FORMATS = {
    "texts": (dict(PAIR), PAIR, []),
    "texts without a prompt": ({"chosen": "Why? Because.", "rejected": "Why? No."}, PAIR | {"prompt": "Why? "}, []),
    "texts that begin with one letter": (
        {"chosen": "The sky is blue.", "rejected": "The sky is bright."},
        {"prompt": "The sky is ", "chosen": "blue.", "rejected": "bright."},
        [],
    ),
    "messages": (
        {"prompt": said("user: Why?"), "chosen": said("assistant: Because."), "rejected": said("assistant: No.")},
        PAIR,
        [],
    ),
    "messages without a prompt": (
        {"chosen": said("user: Why?", "assistant: Because."), "rejected": said("user: Why?", "assistant: No.")},
        PAIR,
        [],
    ),
    "a prompt as text beside whole conversations": (message_row(), PAIR, []),
    "a prompt of several turns": (
        {"prompt": TALK, "chosen": said("assistant: Because."), "rejected": said("assistant: No.")},
        PAIR | {"prompt": "Hello.\n\nWhy?"},
        ["earlier_turns"],
    ),
    "several turns without a prompt": (
        {"chosen": [*TALK, *said("assistant: Because.")], "rejected": [*TALK, *said("assistant: No.")]},
        PAIR | {"prompt": "Hello.\n\nWhy?"},
        ["earlier_turns"],
    ),
    "several turns beside a prompt": (
        {"prompt": "Hello.", "chosen": [*TALK, *said("assistant: a")], "rejected": [*TALK, *said("assistant: b")]},
        {"prompt": "Hello.", "chosen": "a", "rejected": "b"},
        ["earlier_turns"],
    ),
    "an answer that repeats its prompt alone": (PAIR | {"chosen": "Why? So."}, PAIR | {"chosen": "Why? So."}, []),
    "an answer in JSON": (PAIR | {"chosen": '[{"a": 1}]'}, PAIR | {"chosen": '[{"a": 1}]'}, []),
    "a system's turn": (
        {
            "prompt": said("system: Be brief.", "user: Why?"),
            "chosen": said("assistant: Because."),
            "rejected": said("assistant: No."),
        },
        PAIR,
        ["system_turn"],
    ),
    "a side that ends with the user": (
        message_row() | {"rejected": said("user: Why?", "assistant: No.", "user: Oh.")},
        PAIR,
        ["turns_after_the_answer"],
    ),
    "sides that follow different turns": (
        message_row() | {"rejected": said("user: How?", "assistant: No.")},
        PAIR,
        ["different_contexts"],
    ),
}


@pytest.mark.parametrize(("row", "pair", "missing"), FORMATS.values(), ids=FORMATS)
def test_every_format_of_trl_is_read_and_what_the_papers_way_leaves_out_is_named(
    row: dict[str, Any], pair: dict[str, str], missing: list[str]
) -> None:
    assert read_texts(row, "row 1") == pair
    assert left_out(row) == missing


@pytest.mark.parametrize("prompt", [None, "", " ", []])
def test_an_empty_prompt_beside_conversations_is_none(prompt: Any) -> None:
    row = message_row() | {"prompt": prompt}
    assert (read_texts(row, "row 1"), left_out(row)) == (PAIR, [])


@pytest.mark.parametrize("column", ["question", "Instruction", "input", "Prompt"])
def test_a_prompt_of_another_name_is_not_made_up_from_the_answers(column: str) -> None:
    row = {column: "Is it?", "chosen": "It is so.", "rejected": "It is not."}
    with pytest.raises(DataError, match=rf"^row 1: found no column prompt, but \['{column}'\]; expected"):
        read_texts(row, "row 1")
    assert read_texts(row | {column: None}, "row 1")["prompt"] == "It is "
    assert read_texts(message_row() | {column: "Is it?"}, "row 1") == PAIR


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"prompt": " Why?", "chosen": "Why? Because.", "rejected": "\nWhy?No."}, "answers repeat the prompt"),
        (PAIR | {"prompt": json.dumps(TALK)}, "messages as text"),
        (PAIR | {"chosen": str(TALK)}, "messages as text"),
        (PAIR | {"rejected": '[ {"value": "Why?", "from": "human"}]'}, "messages as text"),
    ],
)
def test_rows_of_the_hub_that_would_be_trained_on_wrongly_are_dropped_by_reason(
    row: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [row, *(message_row(prompt=f"Why {number}?") for number in range(20))]
    monkeypatch.setattr("pessimism.data.preferences.hub_revision", lambda *_: "c0ffee")
    monkeypatch.setattr(sources, "hub_rows", lambda *_: rows)
    record = load_preferences(replace(EMBEDDED, source="hub", name="a/b", limit=None), 42).record
    assert record["rows_dropped"] == {reason: 1}


def test_keys_beside_role_and_content_make_no_other_context() -> None:
    chosen, rejected = ([turn | {"id": side} for turn in message_row()[side]] for side in ("chosen", "rejected"))
    assert left_out({"prompt": "Why?", "chosen": chosen, "rejected": rejected}) == []


def test_what_is_left_out_is_counted_over_the_pairs_that_are_kept(tmp_path: Path) -> None:
    rows = [message_row(prompt=f"Why {number}?") for number in range(20)]
    for row in rows[:3]:
        row["chosen"], row["rejected"] = ([*TALK, *row[side][1:]] for side in ("chosen", "rejected"))
    rows[4]["chosen"] = said("system: Be brief.") + rows[4]["chosen"]
    record = load_preferences(write_rows(tmp_path / "pairs.jsonl", rows), 42).record
    assert record["rows_with_turns_left_out"] == {"earlier_turns": 3, "system_turn": 1, "different_contexts": 1}
    plain = load_preferences(write_rows(tmp_path / "pairs.jsonl", rows[5:]), 42).record
    assert plain["rows_with_turns_left_out"] == {}


def test_pair_is_the_prompt_and_the_last_assistant_turns(tmp_path: Path) -> None:
    rows = [message_row(f" Why {number}? \n", chosen=" second ") for number in range(20)]
    for row in rows:
        row["chosen"] = [*message_row(chosen="first")["chosen"], *row["chosen"]]
    pairs = load_preferences(write_rows(tmp_path / "pairs.jsonl", rows), 42).rows
    pair = next(pair for split in pairs.values() for pair in split if pair["pair_id"] == "pair-000001")
    assert pair == {"pair_id": "pair-000001", "prompt": "Why 0?", "chosen": "second", "rejected": "No."}


def test_a_byte_order_mark_is_no_part_of_the_first_row(tmp_path: Path) -> None:
    rows = [message_row(prompt=f"Why {number}?") for number in range(20)]
    params = write_rows(tmp_path / "pairs.jsonl", rows)
    plain = load_preferences(params, 42).rows
    Path(params.name).write_bytes(codecs.BOM_UTF8 + Path(params.name).read_bytes())
    assert load_preferences(params, 42).rows == plain


def test_hub_rows_without_a_usable_pair_say_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pessimism.data.preferences.hub_revision", lambda *_: "c0ffee")
    monkeypatch.setattr(sources, "hub_rows", lambda *_: [message_row(chosen="")] * 3)
    with pytest.raises(DataError, match=r"found 3 rows and no usable pair \({'empty chosen': 3}\)"):
        load_preferences(replace(EMBEDDED, source="hub", name="a/b"), 42)


def test_missing_file_and_missing_limit_say_what_to_change() -> None:
    with pytest.raises(SourceError, match=r"^found no file .*nowhere\.jsonl; expected one: change `name`"):
        load_preferences(replace(EMBEDDED, source="path", name="nowhere.jsonl"), 42)
    with pytest.raises(ParamsError, match="found a limit of null"):
        load_preferences(replace(EMBEDDED, limit=None), 42)


def test_hub_rows_that_say_nothing_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = [message_row(prompt=f"Why {i}?") for i in range(20)]
    rows[1] = message_row(chosen="")
    rows[2] = rows[4] = message_row(rejected="Because.")
    monkeypatch.setattr("pessimism.data.preferences.hub_revision", lambda *_: "c0ffee")
    monkeypatch.setattr(sources, "hub_rows", lambda *_: rows)
    loaded = load_preferences(replace(EMBEDDED, source="hub", name="a/b", limit=15), 42)
    assert loaded.record["rows_dropped"] == {"empty chosen": 1, "chosen equals rejected": 2}
    assert loaded.record["rows_kept"] == sum(loaded.record["rows"].values()) == 15
    assert loaded.record["revision"] == "c0ffee"
    kept = sorted(row["pair_id"] for split in loaded.rows.values() for row in split)
    assert kept == [f"pair-{number:06d}" for number in (1, 4, *range(6, 19))]


def test_hub_row_without_a_column_is_an_error_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pessimism.data.preferences.hub_revision", lambda *_: "c0ffee")
    monkeypatch.setattr(sources, "hub_rows", lambda *_: [without(message_row(), "chosen")])
    with pytest.raises(DataError, match=r"a/b at c0ffee, train_prefs, row 1: .*expected also \['chosen'\]"):
        load_preferences(replace(EMBEDDED, source="hub", name="a/b"), 42)


def test_embedded_pairs_are_the_annotators(monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = load_preferences(EMBEDDED, 42)
    assert loaded.rows == load_preferences(EMBEDDED, 42).rows
    assert loaded.rows != load_preferences(EMBEDDED, 43).rows
    assert loaded.record["annotator"].items() >= asdict(embedded_world.DEFAULT).items()
    assert loaded.record["prompts_in_two_splits"] == 0
    assert loaded.record["rows_dropped"] == {}


def test_paper_sizes_where_every_prompt_is_different() -> None:
    splits = split_by_prompt([{"prompt": str(number)} for number in range(60_630)], 42)
    assert [len(splits[split]) for split in SPLITS] == [48_504, 6_063, 6_063]


def test_sizes_count_pairs_not_prompts() -> None:
    splits = split_by_prompt([{"prompt": str(number % 20)} for number in range(100)], 42)
    assert [len(splits[split]) for split in SPLITS] == [80, 10, 10]


@settings(max_examples=40)
@given(
    st.lists(st.sampled_from(["Why", "why ", "what", "Who", *"abcdefghijkl"]), min_size=100, max_size=200),
    st.integers(0, 9),
)
def test_no_prompt_is_in_two_splits_and_no_row_is_lost(prompts: list[str], seed: int) -> None:
    rows = [{"prompt": prompt, "number": number} for number, prompt in enumerate(prompts)]
    try:
        splits = split_by_prompt(rows, seed)
    except DataError as error:
        assert re.search("leaves .*(val|test).* empty", str(error))
        return
    assert shared_prompts(splits) == 0
    assert sorted(row["number"] for split in splits.values() for row in split) == list(range(len(rows)))
    largest = max(sum(normalize_prompt(row["prompt"]) == prompt for row in rows) for prompt in {"why", *prompts})
    assert 0.8 * len(rows) <= len(splits["train"]) < 0.8 * len(rows) + largest


def test_shared_prompts_counts_what_a_careless_split_shares() -> None:
    assert shared_prompts({"train": [{"prompt": "Why  me"}], "val": [{"prompt": "why me "}, {"prompt": "b"}]}) == 1


def test_copies_stay_in_the_first_split_that_has_them() -> None:
    texts = {"heldout": ["a", "b", "B"], "test": ["b ", "c", "c"], "train": ["A", "c", "d"]}
    splits = {split: [{"question": text} for text in found] for split, found in texts.items()}
    kept, dropped = without_copies(splits, "question")
    assert {split: [row["question"] for row in rows] for split, rows in kept.items()} == {
        "heldout": ["a", "b", "B"],
        "test": ["c", "c"],
        "train": ["d"],
    }
    assert dropped == {"heldout": 0, "test": 1, "train": 2}
    assert (shared_prompts(splits, "question"), shared_prompts(kept, "question")) == (3, 0)


def test_split_depends_on_the_seed_alone() -> None:
    rows = [{"prompt": str(number)} for number in range(50)]
    assert split_by_prompt(rows, 1) == split_by_prompt(rows, 1) != split_by_prompt(rows, 2)


def test_too_few_pairs_for_three_splits() -> None:
    with pytest.raises(DataError, match="found 3 preference pairs on 3 prompts, which leaves val"):
        split_by_prompt([{"prompt": str(number)} for number in range(3)], 42)


def test_coverage_by_hand() -> None:
    rows = [
        {"prompt": "aaaa", "chosen": "b", "rejected": "cc"},
        {"prompt": "AAAA ", "chosen": "bbb", "rejected": "cc"},
    ]
    found = coverage(rows)
    assert (found["pairs"], found["unique_prompts"], found["chosen_longer"]) == (2, 1, 0.5)
    assert found["characters"]["chosen"]["mean"] == 2.0


def test_real_pairs() -> None:
    folder = Path(os.environ.get("PESSIMISM_SHARED", Path(__file__).parents[2] / "shared")) / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}; PESSIMISM_SHARED may name another directory")
    params = replace(EMBEDDED, source="path", name=str(folder / "preferences_en.jsonl"), limit=None)
    loaded = load_preferences(params, 42)
    assert loaded.record["rows_kept"] == 300
    assert loaded.record["coverage"]["unique_prompts"] == 295
    assert loaded.record["prompts_in_two_splits"] == 0
    assert loaded.record["rows"]["train"] in range(240, 245)

"""Problems with references that would be misread, and splits that share them."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from support.failures.failure import Failure
from support.failures.parameters import SCALE
from support.yaml_edits import set_key

_ROWS = [{"question": f"{number} + 1?", "answer": f"#### {number + 1}"} for number in range(400)]
_TRAIN, _TEST = _ROWS[:300], _ROWS[300:]

Rows = Sequence[Mapping[str, Any]]


def _use(project: Path, train: Rows | None, test: Rows | None) -> None:
    for key, value in {"kind": "gsm8k", "source": "path", "name": "problems"}.items():
        set_key(project / SCALE, f"tasks.{key}", value)
    set_key(project / SCALE, "preferences.limit", 60)  # which are made for every check
    (project / "problems").mkdir()
    for split, rows in (("train", train), ("test", test)):
        if rows is not None:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (project / f"problems/gsm8k_{split}.jsonl").write_text(text)


def _files(what: str, said: str, train: Rows | None = _TRAIN, test: Rows | None = _TEST) -> Failure:
    return Failure(what, lambda project: _use(project, train, test), said)


def _reference(what: str, tail: str, said: str = "") -> Failure:
    row = {"question": "How many?", "answer": f"4+5=9\n#### {tail}"}
    said = said or f"gsm8k_test.jsonl, row 3: found {tail!r} after ####, which would be read as "
    shown = " ".join(tail.split())[:60] or " "
    return _files(f"a reference {what}: `{shown}`", said, test=[*_TEST[:2], row, *_TEST[2:]])


def _problem(what: str, row: Mapping[str, Any], said: str) -> Failure:
    return _files(what, f"gsm8k_test.jsonl, row 3{said}", test=[*_TEST[:2], row, *_TEST[2:]])


def _task(what: str, said: str, **keys: Any) -> Failure:
    """A task whose settings are refused; the preferences, which are made for every check, are few."""

    def make(project: Path) -> None:
        set_key(project / SCALE, "preferences.limit", 60)
        for key, value in keys.items():
            set_key(project / SCALE, f"tasks.{key}", value)

    return Failure(what, make, said)


FAILURES = [
    _task(
        "rows without a verifier",
        "scales/tiny.yaml: tasks: found the settings {}; expected verifier, one of ['boxed', 'contains', 'exact', ",
        kind="rows",
        source="path",
    ),
    _task(
        "a generator that reasoning-gym has not",
        "scales/tiny.yaml: tasks: found the name 'sums'; expected a generator of reasoning-gym, one of ['ab', ",
        kind="reasoning_gym",
        name="sums",
    ),
    _task(
        "a setting that a generator has not",
        "scales/tiny.yaml: tasks: found the settings ['terms']; expected settings of chain_sum, some of [",
        kind="reasoning_gym",
        name="chain_sum",
        settings={"terms": 2},
    ),
    _task(
        "a generator whose problems no one text answers",
        "reasoning_gym problems, row 1: found None as answer; expected a problem that one text answers: choose another",
        kind="reasoning_gym",
        name="graph_color",
    ),
    _files("there is no file of the train split", "gsm8k_train.jsonl; expected one", train=None),
    _files("there is no file of the test split", "gsm8k_test.jsonl; expected one", test=None),
    _files(
        "fewer train problems than are held out",
        "tasks: found 192 train problems; expected more than are held out (192)",
        train=_ROWS[:192],
    ),
    _files(
        "fewer problems than a batch",
        "tasks: found 20 problems in split test; expected 32 or more, the prompts of an online",
        test=_TEST[:20],
    ),
    _files(
        "every test problem is also a train problem",
        "tasks: found every test problem in another split too",
        test=_ROWS[108:300],
    ),
    _problem("a row without `answer`", {"question": "q"}, ": found columns ['question']; expected also ['answer']"),
    _problem(
        "an empty question", {"question": " ", "answer": "#### 1"}, ": found ' ' in column question; expected a text"
    ),
    _problem("a reference that is null", {"question": "q", "answer": None}, ": found None in column answer"),
    _problem(
        "an answer without the mark",
        {"question": "q", "answer": "it is 4"},
        ": found a reference that ends in 'it is 4'; expected a number after ####",
    ),
    _problem(
        "an answer before the mark",
        {"question": "q", "answer": "4 is ####"},
        ": found a reference that ends in '4 is ####'; expected a number after ####",
    ),
    _reference("grouped by LaTeX", "9{,}500"),
    _reference("grouped by a space", "1 000"),
    _reference("grouped by a narrow space", "1\N{NARROW NO-BREAK SPACE}000"),
    _reference("in Indian groups", "1,00,000"),
    _reference("with a decimal comma", "0,5"),
    _reference("that is a time", "12:30"),
    _reference("with a fraction of one letter", "2\N{VULGAR FRACTION ONE HALF}"),
    _reference("with a power", "2^3"),
    _reference("in LaTeX", "\\frac{3}{4}"),
    _reference("that is a range", "10-20"),
    _reference("of two numbers", "18 and 18"),
    _reference("that is an equation", "12/4=3"),
    _reference("whose sign stands apart", "- 5"),
    _reference("with a dash for a sign", "\N{EN DASH}5"),
    _reference("scaled by a word", "2 million"),
    _reference("scaled by a letter", "5k"),
    _reference("with a word for a sign", "minus 5"),
    _reference("with a word that may scale", "18 apples"),
    _reference("that is a root", "\N{SQUARE ROOT}4"),
    _reference("that is a factorial", "5!"),
    _reference("of two answers", "5\n#### 6", "gsm8k_test.jsonl, row 3: found #### 2 times in a reference"),
    _reference("of 5,000 digits", "9" * 5000, "row 3: found a number of 5,000 characters; expected a shorter one"),
]

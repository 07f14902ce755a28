"""Preference files that would be misread, or not read."""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from support.failures.failure import Failure
from support.failures.parameters import SCALE
from support.yaml_edits import set_key

FILE = "pairs.jsonl"
PAIR = {"prompt": "Why?", "chosen": "Because.", "rejected": "No."}


def turns(*said: str) -> list[dict[str, str]]:
    """Messages written as "role: content"."""
    return [dict(zip(("role", "content"), turn.split(": ", 1), strict=True)) for turn in said]


TALKED = {
    "prompt": "Why?",
    "chosen": turns("user: Why?", "assistant: Because."),
    "rejected": turns("user: Why?", "assistant: No."),
}


def _use(project: Path, content: bytes | None) -> None:
    set_key(project / SCALE, "preferences.source", "path")
    set_key(project / SCALE, "preferences.name", FILE)
    for limit in ("train", "test"):
        set_key(project / SCALE, f"tasks.{limit}_limit", 64)  # which are made for every check
    if content is not None:
        (project / FILE).write_bytes(content)


def _file(what: str, content: bytes | None, said: str) -> Failure:
    return Failure(what, lambda project: _use(project, content), said)


def _row(what: str, row: Mapping[str, Any], said: str) -> Failure:
    """A file whose second row is bad, or whose row says so little that it has only that."""
    good = [PAIR | {"prompt": f"Why {number}?"} for number in range(30)]
    rows = [good[0], row, *good[1:]]
    return _file(what, "".join(json.dumps(row) + "\n" for row in rows).encode(), f"{FILE}, row 2{said}")


_LINE = json.dumps(PAIR)
_MESSAGES = "expected a text, or a list of messages with role and content"

FAILURES = [
    _file("there is no such file", None, "pairs.jsonl; expected one: change `name`"),
    _row(
        "a row without `rejected`", {"prompt": "Why?", "chosen": "a"}, ": found columns ['chosen', 'prompt']; expected"
    ),
    _row("an empty prompt", PAIR | {"prompt": "  "}, ": found an empty prompt"),
    _row("an empty answer", PAIR | {"chosen": " \n"}, ": found an empty chosen"),
    _row(
        "a prompt that is a dict",
        PAIR | {"prompt": {"text": "Why?"}},
        f", prompt: found {{'text': 'Why?'}}; {_MESSAGES}",
    ),
    _row("a prompt that is a number", PAIR | {"prompt": 7}, f", prompt: found 7; {_MESSAGES}"),
    _row("a prompt that is a list of texts", PAIR | {"prompt": ["Why?"]}, f", prompt: found 'Why?'; {_MESSAGES}"),
    _row(
        "a prompt of messages beside answers of texts",
        PAIR | {"prompt": turns("user: Why?")},
        ": found {'prompt': 'messages', 'chosen': 'text', 'rejected': 'text'}",
    ),
    _row("a prompt with a system's turn alone", TALKED | {"prompt": turns("system: Why?")}, ": found an empty prompt"),
    _row(
        "a question and no prompt",
        {"question": "Why?", "chosen": "It is so.", "rejected": "It is not."},
        ": found no column prompt, but ['question']; expected the whole prompt in prompt, or none in any column",
    ),
    _row(
        "answers that repeat their prompt",
        PAIR | {"chosen": "Why? Because.", "rejected": "Why? No."},
        ": found chosen and rejected that both begin with the prompt ('Why?'); expected answers alone",
    ),
    _row(
        "messages as JSON text",
        PAIR | {"chosen": json.dumps(TALKED["chosen"]), "rejected": json.dumps(TALKED["rejected"])},
        """, chosen: found the text '[{"role": "user", """,
    ),
    _row(
        "messages as Python text",
        PAIR | {"rejected": str(TALKED["rejected"])},
        """, rejected: found the text "[{'role': 'user', """,
    ),
    _row("an answer that is null", PAIR | {"chosen": None}, ": found an empty chosen"),
    _row("an answer without messages", TALKED | {"chosen": []}, ": found an empty chosen"),
    _row(
        "an answer that the assistant never gives",
        TALKED | {"rejected": turns("user: Why?")},
        ", rejected: found the roles ['user']; expected also 'assistant'",
    ),
    _row(
        "roles of another format",
        TALKED | {"chosen": turns("human: Why?", "gpt: a")},
        ", chosen: found the roles ['gpt', 'human']; expected no others than",
    ),
    _row("a text beside messages", TALKED | {"chosen": "Because."}, ": found {"),
    _row(
        "a message without content",
        TALKED | {"chosen": [{"role": "assistant"}]},
        f", chosen: found {{'role': 'assistant'}}; {_MESSAGES}",
    ),
    _row(
        "a message whose content is a list of parts",
        TALKED | {"chosen": [{"role": "assistant", "content": [{"text": "a"}]}]},
        ", chosen: found {'role': 'assistant', 'content': [{'text': 'a'}]}",
    ),
    _row(
        "the same answer twice", PAIR | {"rejected": "Because. "}, ": found the same chosen and rejected ('Because.')"
    ),
    _file("an empty file", b"", "pairs.jsonl: found no rows"),
    _file("a line that is cut off", b"{", "line 1: found no usable JSON"),
    _file(
        "a key that stands twice",
        b'{"prompt": "Why?", "chosen": "a", "rejected": "b", "chosen": "c"}',
        "line 1: found no usable JSON (the key 'chosen' twice in one object); expected one JSON object per line",
    ),
    _file("a line that is a list", b"[]", "line 1: found a list"),
    _file(
        "Latin-1",
        f"{_LINE}\n{_LINE} \xfc".encode("latin-1"),
        "line 2: found the byte 0xfc, which is no UTF-8; expected UTF-8",
    ),
    _file("UTF-16", _LINE.encode("utf-16"), "found text in UTF-16; expected plain text in UTF-8: convert the file"),
    _file(
        "gzip under a plain name",
        gzip.compress(_LINE.encode()),
        "found gzip data; expected plain text in UTF-8: convert the file",
    ),
    _file("parquet under a plain name", b"PAR1" + bytes(20), "found a parquet table; expected plain text in UTF-8"),
    _file("half of a character", rb'{"prompt": "\ud83d"}', r"line 1: found '\ud83d', half of a character"),
    _file(
        "half of a character in a key", rb'{"\udc00": 1}', "half of a character; expected whole ones: repair the text"
    ),
    _file(
        "100,000 objects inside one another",
        b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
        "line 1: found JSON nested too deep",
    ),
    _file(
        "a number of 5,000 digits", b'{"a": ' + b"9" * 5000 + b"}", "line 1: found no usable JSON (Exceeds the limit"
    ),
]

"""Preference pairs: loading, checking and coverage statistics.

Three sources: the embedded world, a hub data set, and a .jsonl file. The latter two may have every format that TRL
documents for preferences (https://huggingface.co/docs/trl/dataset_formats):

- ``chosen`` and ``rejected`` as texts or as lists of messages, and ``prompt`` as a text, as messages, or not at all;
- ultrafeedback_binarized's mixture: ``prompt`` as a text, and the whole conversation in ``chosen`` and ``rejected``.

A prompt in a column of another name is not used, for what else belongs to it is unknown: such rows are refused.

Of a conversation a pair holds what the paper's authors take of it: the ``prompt`` column, else the user's turns, and
the last turn of the assistant on either side. What that leaves out is counted (:func:`left_out`).
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pessimism.data import embedded_world, sources
from pessimism.data.hashing import content_hash, rows_hash
from pessimism.data.splits import SPLITS, normalize_prompt, shared_prompts, split_by_prompt
from pessimism.errors import DataError, ParamsError
from pessimism.experiment import rng
from pessimism.machine.hub import hub_revision

if TYPE_CHECKING:
    from pessimism.experiment.params import AnnotatorParams, PreferenceParams

COLUMNS = ("pair_id", "prompt", "chosen", "rejected")
SIDES = ("chosen", "rejected")
TEXTS = ("prompt", *SIDES)
SYSTEM, USER, ASSISTANT = ROLES = ("system", "user", "assistant")
OTHER_PROMPTS = frozenset({"question", "instruction", "query", "input", "problem", "context", "user", "prompts"})
"""What data sets call the prompt, or a part of it, where none is called ``prompt``; in any case."""
Messages = list[dict[str, str]]
_WRITTEN_MESSAGES = re.compile(
    r"""\s*\[\s*\{.*?["'](role|from)["']\s*:\s*["'](system|user|assistant|human|gpt)["']""", re.DOTALL
)


class UnusableRowError(DataError):
    """A row that no model can learn a preference from; ``reason`` says why in a few words."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True)
class Preferences:
    """Pairs by split (train, val, test) and the record of where they came from and what they cover.

    A row holds ``pair_id``, ``prompt``, ``chosen`` and ``rejected``, all stripped texts.
    """

    rows: dict[str, list[dict[str, str]]]
    record: dict[str, Any]


def load_preferences(params: PreferenceParams, root_seed: int, annotator: AnnotatorParams | None = None) -> Preferences:
    """Load the pairs that ``params`` names and split them by prompt.

    The limit counts pairs that are kept. From the hub, pairs with an empty text or two equal responses are dropped and
    counted, as the paper's authors do; in a local file, which its owner can correct, such a row is an error.

    Args:
        annotator: of embedded pairs; not read where labels are real.

    Raises:
        SourceError: the hub is out of reach or the file is missing.
        DataError: a row lacks a column, a local row is unusable, or there are too few pairs.
    """
    raw, where, record = _read(params, root_seed, annotator)
    rows: list[dict[str, str]] = []
    dropped: Counter[str] = Counter()
    omitted: Counter[str] = Counter()
    for number, row in enumerate(raw, 1):
        if params.limit is not None and len(rows) == params.limit:
            break
        try:
            rows.append(checked_pair(read_texts(row, at := f"{where}, row {number}"), f"pair-{number:06d}", at))
        except UnusableRowError as error:
            if params.source != "hub":
                raise
            dropped[error.reason] += 1
        else:
            omitted.update(left_out(row))
    if not rows:
        raise DataError(f"{where}: found {len(raw)} rows and no usable pair ({dict(dropped)}); expected preferences")
    splits = split_by_prompt(rows, root_seed)
    record |= {
        "rows_available": len(raw),
        "rows_kept": len(rows),
        "rows_dropped": dict(dropped),
        "rows_with_turns_left_out": dict(omitted),
        "rows": {split: len(splits[split]) for split in SPLITS},
        "prompts_in_two_splits": shared_prompts(splits),
        "coverage": coverage(rows),
    }
    return Preferences(splits, record)


def read_texts(row: Mapping[str, Any], where: str) -> dict[str, str]:
    """Prompt and both responses of a raw row, in whichever of the formats above.

    The user's turns of a conversation without a ``prompt`` text, or with an empty one, are joined by blank lines. Where
    texts come without a prompt, it is what both begin with, up to the last white space: TRL would cut within a word.

    Raises:
        DataError: a column is missing, has none of these formats, or is the prompt under another name.
        UnusableRowError: a side is empty or has no turn of the assistant, both repeat the prompt, or a text is a
            written list of messages.
    """
    sources.check_columns(row, SIDES, where)
    given = {column: _read_value(row[column], f"{where}, {column}") for column in TEXTS if column in row}
    for side in SIDES:
        if not given[side]:
            raise _empty(side, where)
    texts = {column: value for column, value in given.items() if isinstance(value, str)}
    turns = {column: value for column, value in given.items() if isinstance(value, list)}
    if texts.keys() == set(TEXTS):
        return _checked_texts(texts, where)
    if given == texts:
        _check_no_other_prompt(row, where)
        return _without_common_start(texts)
    if not turns.keys() >= set(SIDES):
        kinds = {column: "text" if column in texts else "messages" for column in given}
        raise DataError(f"{where}: found {kinds}; expected chosen and rejected of one kind, and a prompt that suits it")
    prompt = texts.get("prompt", "").strip() or _joined(turns.get("prompt") or _context(turns["chosen"]))
    return {"prompt": prompt, **{side: _answer(turns[side], side, where) for side in SIDES}}


def left_out(row: Mapping[str, Any]) -> list[str]:
    """What of a usable row's conversations a pair does not hold, as the paper's authors leave it out.

    Returns:
        Any of: ``earlier_turns`` (more than one turn, the system's not counted, comes before an answer),
        ``system_turn``, ``turns_after_the_answer`` (such as a last turn of the user), and ``different_contexts`` (the
        two answers follow different turns).
    """
    turns: dict[str, Messages] = {column: row[column] for column in TEXTS if isinstance(row.get(column), list)}
    before = {column: messages if column == "prompt" else _context(messages) for column, messages in turns.items()}
    contexts = {tuple((turn["role"], turn["content"]) for turn in before[side]) for side in SIDES if side in turns}
    found = {
        "earlier_turns": any(sum(turn["role"] != SYSTEM for turn in context) > 1 for context in before.values()),
        "system_turn": any(turn["role"] == SYSTEM for messages in turns.values() for turn in messages),
        "turns_after_the_answer": any(turns[side][-1]["role"] != ASSISTANT for side in SIDES if side in turns),
        "different_contexts": len(contexts) > 1,
    }
    return [kind for kind, holds in found.items() if holds]


def checked_pair(row: Mapping[str, str], pair_id: str, where: str) -> dict[str, str]:
    """Strip the texts of one pair and check that it says something.

    Raises:
        UnusableRowError: a text is empty, or both responses are the same.
    """
    texts = {column: row[column].strip() for column in TEXTS}
    for column in TEXTS:
        if not texts[column]:
            raise _empty(column, where)
    if texts["chosen"] == texts["rejected"]:
        found = texts["chosen"][:60]
        raise UnusableRowError(
            "chosen equals rejected", f"{where}: found the same chosen and rejected ({found!r}); expected two responses"
        )
    return {"pair_id": pair_id, **texts}


def coverage(rows: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """What the pairs cover: their number, distinct prompts, and lengths in characters."""
    lengths = {column: [len(row[column]) for row in rows] for column in TEXTS}
    longer = [chosen > rejected for chosen, rejected in zip(lengths["chosen"], lengths["rejected"], strict=True)]
    return {
        "pairs": len(rows),
        "unique_prompts": len({normalize_prompt(row["prompt"]) for row in rows}),
        "chosen_longer": round(float(np.mean(longer)), 4),
        "characters": {column: _distribution(values) for column, values in lengths.items()},
    }


def _distribution(values: Sequence[int]) -> dict[str, float]:
    quantiles = {f"p{p}": round(float(np.percentile(values, p)), 1) for p in (5, 50, 95)}
    return {"mean": round(float(np.mean(values)), 1), **quantiles}


def _read(
    params: PreferenceParams, root_seed: int, annotator: AnnotatorParams | None
) -> tuple[list[dict[str, Any]], str, dict[str, Any]]:
    """Raw rows, where they are from, and the record of their source."""
    record: dict[str, Any] = {"source": params.source, "name": params.name}
    if params.source == "embedded":
        if params.limit is None:
            raise ParamsError("found a limit of null; expected a number, for the embedded world has no end")
        annotator = embedded_world.DEFAULT if annotator is None else annotator
        raw = embedded_world.preference_rows(rng.generator(root_seed, "preferences"), params.limit, annotator)
        record["annotator"] = embedded_world.annotator_record(raw, annotator)
        return raw, "embedded pairs", record | {"sha256": rows_hash(raw)}
    if params.source == "path":
        raw = sources.read_jsonl(Path(params.name))
        return raw, params.name, record | {"sha256": content_hash(Path(params.name))}
    revision = hub_revision("dataset", params.name, params.revision)
    raw = sources.hub_rows(params.name, None, params.split, revision)
    record |= {"revision": revision, "split": params.split, "sha256": rows_hash(raw)}
    return raw, f"{params.name} at {revision[:12]}, {params.split}", record


def _read_value(value: Any, where: str) -> str | Messages:
    """A column's text, or its messages; a missing value is an empty text."""
    if value is None or isinstance(value, str):
        text = value or ""
        if _WRITTEN_MESSAGES.match(text):
            raise UnusableRowError(
                "messages as text",
                f"{where}: found the text {text[:60]!r}; expected a list of messages or plain text: parse the column",
            )
        return text
    for message in value if isinstance(value, list) else [None]:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            found = repr(value if message is None else message)[:80]
            raise DataError(f"{where}: found {found}; expected a text, or a list of messages with role and content")
    roles = sorted({message["role"] for message in value})
    if not set(roles) <= set(ROLES):
        raise DataError(f"{where}: found the roles {roles}; expected no others than {list(ROLES)}: rename them")
    return list(value)


def _empty(column: str, where: str) -> UnusableRowError:
    return UnusableRowError(f"empty {column}", f"{where}: found an empty {column}; expected a text")


def _context(side: Messages) -> Messages:
    """The turns before the assistant's last one; none where it has none."""
    places = [place for place, message in enumerate(side) if message["role"] == ASSISTANT]
    return side[: places[-1]] if places else []


def _joined(turns: Messages) -> str:
    return "\n\n".join(message["content"].strip() for message in turns if message["role"] == USER)


def _answer(turns: Messages, side: str, where: str) -> str:
    answers = [message["content"] for message in turns if message["role"] == ASSISTANT]
    if not answers:
        roles = sorted({message["role"] for message in turns})
        raise UnusableRowError(
            f"empty {side}", f"{where}, {side}: found the roles {roles}; expected also {ASSISTANT!r}"
        )
    return answers[-1]


def _checked_texts(texts: dict[str, str], where: str) -> dict[str, str]:
    """The texts, unless both answers begin with the prompt, which would then be trained twice."""
    prompt = texts["prompt"].strip()
    if prompt and all(texts[side].lstrip().startswith(prompt) for side in SIDES):
        raise UnusableRowError(
            "answers repeat the prompt",
            f"{where}: found chosen and rejected that both begin with the prompt ({prompt[:60]!r}); expected answers "
            "alone: remove it from both, or the column prompt",
        )
    return texts


def _check_no_other_prompt(row: Mapping[str, Any], where: str) -> None:
    others = [column for column in row if column.strip().lower() in {"prompt", *OTHER_PROMPTS} and row[column]]
    if others:
        raise DataError(
            f"{where}: found no column prompt, but {others}; expected the whole prompt in prompt, or none in any "
            "column: rename it, or remove the column"
        )


def _without_common_start(texts: Mapping[str, str]) -> dict[str, str]:
    common = os.path.commonprefix([texts[side] for side in SIDES])
    prompt = common[: max(map(common.rfind, " \n")) + 1]
    return {"prompt": prompt, **{side: texts[side].removeprefix(prompt) for side in SIDES}}

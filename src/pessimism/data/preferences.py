"""Preference pairs: loading, checking and coverage statistics.

Three sources: the embedded world, a hub data set of the schema of ultrafeedback_binarized (``prompt``, and ``chosen``
and ``rejected`` as lists of messages), and a .jsonl file of the same schema.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
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
    from pessimism.experiment.params import PreferenceParams

COLUMNS = ("pair_id", "prompt", "chosen", "rejected")
TEXTS = ("prompt", "chosen", "rejected")


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


def load_preferences(params: PreferenceParams, root_seed: int) -> Preferences:
    """Load the pairs that ``params`` names and split them by prompt.

    The limit counts pairs that are kept. From the hub, pairs with an empty text or two equal responses are dropped and
    counted, as the paper's authors do; in a local file, which its owner can correct, such a row is an error.

    Raises:
        SourceError: the hub is out of reach or the file is missing.
        DataError: a row lacks a column, a local row is unusable, or there are too few pairs.
    """
    raw, pair_of, where, record = _read(params, root_seed)
    rows: list[dict[str, str]] = []
    dropped: Counter[str] = Counter()
    for number, row in enumerate(raw, 1):
        if params.limit is not None and len(rows) == params.limit:
            break
        try:
            rows.append(pair_of(row, f"pair-{number:06d}", f"{where}, row {number}"))
        except UnusableRowError as error:
            if params.source != "hub":
                raise
            dropped[error.reason] += 1
    splits = split_by_prompt(rows, root_seed)
    record |= {
        "rows_available": len(raw),
        "rows_kept": len(rows),
        "rows_dropped": dict(dropped),
        "rows": {split: len(splits[split]) for split in SPLITS},
        "prompts_in_two_splits": shared_prompts(splits),
        "coverage": coverage(rows),
    }
    return Preferences(splits, record)


def message_pair(row: Mapping[str, Any], pair_id: str, where: str) -> dict[str, str]:
    """One pair from a row of message lists: the prompt, and the last assistant turn of either side.

    Raises:
        DataError: a column is missing, or a side is no list of messages.
        UnusableRowError: a text is empty, or both responses are the same.
    """
    sources.check_columns(row, TEXTS, where)
    sides = {side: _last_assistant_turn(row[side], f"{where}, {side}") for side in ("chosen", "rejected")}
    return checked_pair({"prompt": row["prompt"], **sides}, pair_id, where)


def checked_pair(row: Mapping[str, Any], pair_id: str, where: str) -> dict[str, str]:
    """Strip the texts of one pair and check that it says something.

    Raises:
        UnusableRowError: a text is empty or missing, or both responses are the same.
    """
    texts = {column: str(row[column] or "").strip() for column in TEXTS}
    for column in TEXTS:
        if not texts[column]:
            raise UnusableRowError(f"empty {column}", f"{where}: found an empty {column}; expected a text")
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
    params: PreferenceParams, root_seed: int
) -> tuple[list[dict[str, Any]], Callable[[Mapping[str, Any], str, str], dict[str, str]], str, dict[str, Any]]:
    """Raw rows, the function that reads one, where they are from, and the record of their source."""
    record: dict[str, Any] = {"source": params.source, "name": params.name}
    if params.source == "embedded":
        if params.limit is None:
            raise ParamsError("found a limit of null; expected a number, for the embedded world has no end")
        raw = embedded_world.preference_rows(rng.generator(root_seed, "preferences"), params.limit)
        record["annotator"] = embedded_world.annotator_record(raw)
        return raw, checked_pair, "embedded pairs", record | {"sha256": rows_hash(raw)}
    if params.source == "path":
        raw = sources.read_jsonl(Path(params.name))
        return raw, message_pair, params.name, record | {"sha256": content_hash(Path(params.name))}
    revision = hub_revision("dataset", params.name, params.revision)
    raw = sources.hub_rows(params.name, None, params.split, revision)
    record |= {"revision": revision, "split": params.split, "sha256": rows_hash(raw)}
    return raw, message_pair, f"{params.name} at {revision[:12]}, {params.split}", record


def _last_assistant_turn(messages: Any, where: str) -> str:
    """Text of the last assistant turn; empty where there is none."""
    for message in messages if isinstance(messages, list) else [None]:
        if not isinstance(message, dict) or not isinstance(message.get("content"), str) or "role" not in message:
            raise DataError(f"{where}: found {str(messages)[:80]!r}; expected a list of messages with role and content")
    return ([message["content"] for message in messages if message["role"] == "assistant"] or [""])[-1]

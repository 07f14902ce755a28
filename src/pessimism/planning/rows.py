"""Rows of every split: from the published sizes of hub data sets, else by reading local rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pessimism.data.preferences import load_preferences
from pessimism.errors import SourceError
from pessimism.experiment.params import Params
from pessimism.experiment.sections import section
from pessimism.tasks.parts.problems import load_problems

PREFERENCE_ROWS = {"HuggingFaceH4/ultrafeedback_binarized": {"train_prefs": 60_630}}
"""Usable pairs, as published: of 61,135, those with an empty text or two equal responses are dropped."""

TASK_ROWS = {"openai/gsm8k": {"train": 7_473, "test": 1_319}}


@dataclass(frozen=True)
class Rows:
    """Rows of every split, as prepare_data would write them; ``training_tasks`` by the protocol."""

    train_pairs: int
    val_pairs: int
    training_tasks: int
    heldout_tasks: int
    test_tasks: int


def row_counts(params: Params) -> Rows:
    """Rows of every split.

    Raises:
        SourceError: the size of a hub data set is not known, or a local file is missing.
    """
    with section(params, "tasks"):
        train, heldout, test = _task_counts(params)
    with section(params, "preferences"):
        pairs = _pair_counts(params)
    trained_on = test if params.protocol.prompt_split == "test" else train
    return Rows(*pairs, trained_on, heldout, test)


def _pair_counts(params: Params) -> tuple[int, int]:
    source = params.scale.preferences
    if source.source != "hub":
        rows = load_preferences(source, params.root_seed).rows
        return len(rows["train"]), len(rows["val"])
    published = PREFERENCE_ROWS.get(source.name, {}).get(source.split, source.limit)
    if published is None:
        raise _unknown(source.name, PREFERENCE_ROWS)
    count = min(published, source.limit or published)
    train = -(-count * 8 // 10)
    return train, -(-count * 9 // 10) - train


def _task_counts(params: Params) -> tuple[int, int, int]:
    source = params.scale.tasks
    if source.source != "hub":
        rows = load_problems(source, params.root_seed).rows
        return len(rows["train"]), len(rows["heldout"]), len(rows["test"])
    if source.name not in TASK_ROWS:
        raise _unknown(source.name, TASK_ROWS)
    train, test = TASK_ROWS[source.name]["train"] - source.heldout, TASK_ROWS[source.name]["test"]
    return min(train, source.train_limit or train), source.heldout, min(test, source.test_limit or test)


def _unknown(name: str, known: dict[str, Any]) -> SourceError:
    return SourceError(
        f"the number of rows of {name!r} is not known before they are loaded; expected one of {sorted(known)}, or "
        "local rows"
    )

"""Sizes of models and data sets: shipped as numbers for the scales of this repository, else asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from transformers import AutoConfig, PreTrainedConfig

from pessimism.data.preferences import load_preferences
from pessimism.errors import SourceError
from pessimism.experiment.params import ModelParams, Params
from pessimism.experiment.sections import section
from pessimism.models.embedded import make_model, make_tokenizer
from pessimism.tasks.parts.problems import load_problems

_QWEN3 = {"num_key_value_heads": 8, "head_dim": 128, "vocab_size": 151936, "max_position_embeddings": 40960}

ARCHITECTURES: dict[str, dict[str, Any]] = {
    "Qwen/Qwen3-14B": {
        "model_type": "qwen3",
        "hidden_size": 5120,
        "intermediate_size": 17408,
        "num_hidden_layers": 40,
        "num_attention_heads": 40,
        "tie_word_embeddings": False,
        **_QWEN3,
    },
    "Qwen/Qwen3-1.7B": {
        "model_type": "qwen3",
        "hidden_size": 2048,
        "intermediate_size": 6144,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "tie_word_embeddings": True,
        **_QWEN3,
    },
    "HuggingFaceTB/SmolLM2-135M-Instruct": {
        "model_type": "llama",
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
        "vocab_size": 49152,
        "max_position_embeddings": 8192,
        "tie_word_embeddings": True,
    },
}
"""config.json of each model, as far as sizes go."""

HEAD_STORED_TWICE = {"Qwen/Qwen3-1.7B"}
"""Models whose files hold the output head although it is tied to the embedding."""

STORED_BYTES = 2
"""Bytes per parameter in the files of the hub: bfloat16."""

PREFERENCE_ROWS = {"HuggingFaceH4/ultrafeedback_binarized": {"train_prefs": 60_630}}
"""Usable pairs, as published: of 61,135, those with an empty text or two equal responses are dropped."""

TASK_ROWS = {"openai/gsm8k": {"train": 7_473, "test": 1_319}}


def stored_bytes(params: Params, role: str, parameters: int) -> float:
    """Bytes of a model's files."""
    model = params.scale.model(role)
    if model.source == "embedded":
        return 4.0 * parameters
    sizes = ARCHITECTURES.get(model.name, {})
    again = sizes["vocab_size"] * sizes["hidden_size"] if model.name in HEAD_STORED_TWICE else 0
    return STORED_BYTES * (parameters + again)


@dataclass(frozen=True)
class Rows:
    """Rows of every split, as prepare_data would write them."""

    train_pairs: int
    val_pairs: int
    training_tasks: int
    heldout_tasks: int
    test_tasks: int


def model_config(params: Params, role: str) -> PreTrainedConfig:
    """Configuration of ``role``'s base: shipped, embedded, or read from config.json on disk or on the hub.

    Raises:
        SourceError: a directory has no config.json, or the hub is out of reach.
    """
    model = params.scale.model(role)
    if model.source == "embedded":
        assert params.scale.embedded is not None
        return make_model(params.scale.embedded, make_tokenizer()).config
    if model.source == "hub" and model.name in ARCHITECTURES:
        return AutoConfig.for_model(**ARCHITECTURES[model.name])
    if model.source == "path" and not (Path(model.name) / "config.json").is_file():
        raise SourceError(
            f"{role}.name: found no {Path(model.name).absolute()}/config.json; expected the directory of a model"
        )
    return _fetched_config(model, role)


def _fetched_config(model: ModelParams, role: str) -> PreTrainedConfig:
    try:
        return AutoConfig.from_pretrained(model.name, revision=model.revision)
    except Exception as error:
        raise SourceError(
            f"{role}.name: found no configuration of {model.name!r} ({type(error).__name__}: {error}); expected the "
            f"hub in reach, a directory with a config.json, or one of {sorted(ARCHITECTURES)}, whose sizes are known"
        ) from error


def row_counts(params: Params, scale_file: str) -> Rows:
    """Rows of every split: from the published sizes of hub data sets, else by reading the local rows.

    Raises:
        SourceError: the size of a hub data set is not known, or a local file is missing.
    """
    train_pairs, val_pairs = _pair_counts(params, scale_file)
    train, heldout, test = _task_counts(params, scale_file)
    return Rows(train_pairs, val_pairs, test if params.protocol.prompt_split == "test" else train, heldout, test)


def _pair_counts(params: Params, scale_file: str) -> tuple[int, int]:
    preferences = params.scale.preferences
    if preferences.source != "hub":
        with section(params, "preferences"):
            rows = load_preferences(preferences, params.root_seed).rows
        return len(rows["train"]), len(rows["val"])
    known = PREFERENCE_ROWS.get(preferences.name, {}).get(preferences.split)
    if known is None and preferences.limit is None:
        raise _unknown(f"{scale_file}: preferences", preferences.name, PREFERENCE_ROWS)
    total = min(count for count in (known, preferences.limit) if count is not None)
    train = -(-total * 8 // 10)
    return train, -(-total * 9 // 10) - train


def _task_counts(params: Params, scale_file: str) -> tuple[int, int, int]:
    tasks = params.scale.tasks
    if tasks.source != "hub":
        with section(params, "tasks"):
            rows = load_problems(tasks, params.root_seed).rows
        return len(rows["train"]), len(rows["heldout"]), len(rows["test"])
    if tasks.name not in TASK_ROWS:
        raise _unknown(f"{scale_file}: tasks", tasks.name, TASK_ROWS)
    known = TASK_ROWS[tasks.name]
    train = known["train"] - tasks.heldout
    limits = (tasks.train_limit, tasks.test_limit)
    train, test = (
        count if limit is None else min(count, limit)
        for count, limit in zip((train, known["test"]), limits, strict=True)
    )
    return train, tasks.heldout, test


def _unknown(where: str, name: str, known: dict[str, Any]) -> SourceError:
    return SourceError(
        f"{where}.name: the number of rows of {name!r} is not known before they are loaded; expected one of "
        f"{sorted(known)}, or local rows"
    )

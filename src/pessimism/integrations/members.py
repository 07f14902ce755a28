"""Reward models of an ensemble, as they lie on a disk or at the hub: whole models, or LoRA adapters of one base."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftConfig, PeftModel, TaskType
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from pessimism.errors import SourceError


@dataclass(frozen=True)
class Member:
    """A reward model.

    Attributes:
        forward: takes ``input_ids`` and ``attention_mask``, (B, T) each; ``logits`` of what it gives are (B, 1).
    """

    forward: Callable[..., Any]
    tokenizer: PreTrainedTokenizerBase

    def score(self, texts: list[str], device: torch.device) -> np.ndarray:
        """(B,) float32."""
        inputs = self.tokenizer(
            texts, return_tensors="pt", padding=True, padding_side="right", add_special_tokens=False
        ).to(device)
        with torch.inference_mode():
            return np.asarray(self.forward(**inputs).logits[:, 0].float().cpu().numpy())


def load_members(names: list[str], base: str | Path | None, device: torch.device) -> list[Member]:
    """The models in eval mode on ``device``, in the order of their names.

    Raises:
        SourceError: one gives another number of scores than one, or an adapter is not of a reward model.
    """
    return [_whole(name, device) for name in names] if base is None else _adapted(names, str(base), device)


def _whole(name: str, device: torch.device) -> Member:
    model = AutoModelForSequenceClassification.from_pretrained(name, trust_remote_code=False, use_safetensors=True)
    if model.num_labels != 1:
        raise SourceError(f"{name}: found a model of {model.num_labels} scores; expected a reward model, of one")
    return Member(model.to(device).eval(), _tokenizer(name, model))


def _adapted(names: list[str], base: str, device: torch.device) -> list[Member]:
    """Members on one base, which is loaded once; a score head is part of each adapter."""
    for name in names:
        task = PeftConfig.from_pretrained(name).task_type
        if task != TaskType.SEQ_CLS:
            raise SourceError(
                f"{name}: found an adapter trained as {task}; expected one of a reward model, trained as SEQ_CLS with "
                "its score head"
            )
    model = AutoModelForSequenceClassification.from_pretrained(
        base, num_labels=1, trust_remote_code=False, use_safetensors=True
    )
    tokenizer = _tokenizer(base, model)
    adapted = PeftModel.from_pretrained(model, names[0], adapter_name="0")
    for k, name in enumerate(names[1:], start=1):
        adapted.load_adapter(name, adapter_name=str(k))
    adapted.to(device).eval()
    return [Member(functools.partial(_with_adapter, adapted, str(k)), tokenizer) for k in range(len(names))]


def _with_adapter(model: PeftModel, name: str, **inputs: torch.Tensor) -> Any:
    model.set_adapter(name, inference_mode=True)
    return model(**inputs)


def _tokenizer(name: str, model: PreTrainedModel) -> PreTrainedTokenizerBase:
    tokenizer = AutoTokenizer.from_pretrained(name, trust_remote_code=False)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    model.config.pad_token_id = tokenizer.pad_token_id
    return tokenizer

"""Exact counters of work: forward passes, padding, head rows, live logits and loads, read off the running code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from peft import PeftModel
from peft.tuners.tuners_utils import BaseTunerLayer
from torch.nn.modules.module import register_module_forward_hook
from transformers import PreTrainedModel
from trl.kernels import chunked_logprob

from benchmarks import worlds


@dataclass
class Work:
    """What was computed while :func:`counting`.

    Attributes:
        policy: sequences that a backbone read with an adapter active.
        reference: sequences that it read without one.
        padded: tokens that were embedded, padding included.
        real: those that are not the padding token; a prompt that two texts share counts once where it is computed once.
        head_rows: positions whose logits were computed, at once or in tiles.
        whole_rows: those of them whose logits were held for all positions of a sequence at once.
        generated_rows: those from which a next token was drawn.
        live_logits: numbers in the largest piece of logits that was held at once.
        loads: models loaded from disk, by class.
    """

    policy: int = 0
    reference: int = 0
    padded: int = 0
    real: int = 0
    head_rows: int = 0
    whole_rows: int = 0
    generated_rows: int = 0
    live_logits: int = 0
    loads: Counter[str] = field(default_factory=Counter)

    @property
    def padding(self) -> float:
        """Padded over real tokens, at least 1."""
        return self.padded / self.real


@contextmanager
def counting() -> Iterator[Work]:
    """Count the work of every model in this process, whoever calls it."""
    work = Work()
    hook = register_module_forward_hook(
        lambda module, args, kwargs, output: _count(work, module, args, kwargs), with_kwargs=True
    )
    try:
        with _counted_tiles(work), _counted_loads(work):
            yield work
    finally:
        hook.remove()


def _count(work: Work, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
    if isinstance(module, torch.nn.Embedding):
        work.padded += args[0].numel()
        work.real += int((args[0] != worlds.PAD).sum())
    elif is_backbone(module):
        _count_backbone(work, module, args, kwargs)
    elif isinstance(module, torch.nn.Linear) and getattr(module, "counted_as_head", False):
        _count_head(work, args[0].shape, module.out_features)


def is_backbone(module: torch.nn.Module) -> bool:
    """A transformer without a head, which every kind of forward pass goes through once."""
    return isinstance(module, PreTrainedModel) and module.base_model is module


def _count_backbone(work: Work, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
    ids = kwargs.get("input_ids", args[0] if args else None)
    if any(isinstance(layer, BaseTunerLayer) and not layer.disable_adapters for layer in module.modules()):
        work.policy += len(ids)
    else:
        work.reference += len(ids)


def _count_head(work: Work, shape: torch.Size, columns: int) -> None:
    rows = shape.numel() // shape[-1]
    work.head_rows += rows
    if len(shape) == 3:
        work.whole_rows += rows if shape[1] > 1 else 0
        work.generated_rows += rows if shape[1] == 1 else 0
    work.live_logits = max(work.live_logits, rows * columns)


@contextmanager
def _counted_tiles(work: Work) -> Iterator[None]:
    """Rows and tiles of TRL's kernel, and heads marked as such when a model is made."""
    function = chunked_logprob.ChunkedLogProbFunction
    forward = function.forward

    def counted(ctx: Any, hidden: torch.Tensor, weight: torch.Tensor, *rest: Any, **named: Any) -> Any:
        chunk = rest[3]
        work.head_rows += len(hidden)
        tile = min(len(hidden), chunked_logprob.TOKEN_CHUNK_SIZE) * min(chunk, len(weight))
        work.live_logits = max(work.live_logits, tile)
        return forward(ctx, hidden, weight, *rest, **named)

    with mock.patch.object(function, "forward", staticmethod(counted)):
        yield


def mark_head(model: PreTrainedModel | PeftModel) -> None:
    """Let :func:`counting` count what this model's output head computes by itself."""
    head = model.get_output_embeddings()
    if head is not None:
        head.counted_as_head = True


@contextmanager
def _counted_loads(work: Work) -> Iterator[None]:
    original = PreTrainedModel.from_pretrained.__func__

    def counted(cls: type, *args: Any, **kwargs: Any) -> Any:
        work.loads[cls.__name__] += 1
        loaded = original(cls, *args, **kwargs)
        mark_head(loaded[0] if isinstance(loaded, tuple) else loaded)
        return loaded

    with mock.patch.object(PreTrainedModel, "from_pretrained", classmethod(counted)):
        yield

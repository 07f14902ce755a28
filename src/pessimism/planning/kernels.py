"""Which kernels a GPU or a CPU would run where the meta device would take another way through the libraries' code."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import Any, Literal

import torch
import trl.kernels.chunked_divergence
import trl.kernels.chunked_logprob
import trl.trainer.utils
from transformers import masking_utils
from transformers.integrations import sdpa_attention

from pessimism.models.loading import never_grouped

Target = Literal["cuda", "cpu"]
_aten = torch.ops.aten


@contextmanager
def kernels_of(target: Target) -> Iterator[None]:
    """Run the body with the kernels that ``target`` would use, so that tensors on the meta device live as long."""
    with ExitStack() as stack:
        functional = torch.nn.functional
        stack.enter_context(_replaced(functional, "scaled_dot_product_attention", _attention(target)))
        # Whether sequences are packed is read from numbers, which the meta device has not: the stages pack none.
        stack.enter_context(_replaced(masking_utils, "find_packed_sequence_indices", lambda position_ids: None))
        stack.enter_context(_replaced(sdpa_attention, "use_gqa_in_sdpa", never_grouped))
        # The project trains without autocast, and torch does not know the meta device there.
        stack.enter_context(_replaced(torch, "is_autocast_enabled", lambda *device: False))
        if target == "cuda":
            stack.enter_context(_replaced(functional, "rms_norm", _fused_norm))
            stack.enter_context(_replaced(functional, "dropout", _fused_dropout))
            logprob, divergence = trl.kernels.chunked_logprob, trl.kernels.chunked_divergence
            for module in (logprob, divergence, trl.trainer.utils):
                stack.enter_context(_replaced(module, "_use_triton", lambda device: True))
            stack.enter_context(
                _replaced(logprob, "triton", SimpleNamespace(cdiv=lambda count, size: -(-count // size)))
            )
            stack.enter_context(_replaced(logprob, "_forward_kernel", _TileKernel(torch.Tensor.sum)))
            stack.enter_context(_replaced(logprob, "_backward_kernel", _TileKernel(torch.Tensor.neg_)))
            stack.enter_context(_replaced(divergence, "_stats_kernel", _TileKernel(torch.Tensor.sum)))
        yield


@contextmanager
def _replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    missing = object()
    before = getattr(owner, name, missing)
    setattr(owner, name, value)
    try:
        yield
    finally:
        if before is missing:
            delattr(owner, name)
        else:
            setattr(owner, name, before)


class _TileKernel:
    """A Triton kernel on tiles of logits: launched on a grid, it moves the bytes of one pass of torch over each.

    Forward kernels read a tile, as a sum does; the backward kernel writes over what it read.
    """

    def __init__(self, one_pass: Callable[[torch.Tensor], torch.Tensor]) -> None:
        self.one_pass = one_pass

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return self._launch

    def _launch(self, *args: Any, **options: Any) -> None:
        for tile in args:
            if isinstance(tile, torch.Tensor) and tile.dim() == 2:
                self.one_pass(tile)


def _fused_dropout(values: torch.Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> torch.Tensor:
    """CUDA's dropout keeps one byte per value for the backward pass."""
    return _aten.native_dropout(values, p, True)[0] if training and p > 0 else values


def _fused_norm(
    values: torch.Tensor, shape: tuple[int, ...], weight: torch.Tensor | None = None, eps: float | None = None
) -> torch.Tensor:
    """One kernel each way, which reads and writes what the one of LayerNorm does."""
    return torch.nn.functional.layer_norm(values, shape, weight, None, 1e-6 if eps is None else eps)


def _attention(target: Target) -> Callable[..., torch.Tensor]:
    """The fused kernel that ``target`` chooses by dtype and mask, as a function like torch's own.

    It keeps its inputs, its result and one number per query.
    """

    def attention(
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        attn_mask: torch.Tensor | None = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> torch.Tensor:
        bias = None if attn_mask is None else _as_bias(attn_mask, query)
        if target == "cpu":
            return _aten._scaled_dot_product_flash_attention_for_cpu(
                query, key, value, dropout_p, is_causal, attn_mask=bias, scale=scale
            )[0]
        if bias is None and query.dtype == torch.bfloat16:
            return _aten._scaled_dot_product_flash_attention(
                query, key, value, dropout_p, is_causal, False, scale=scale
            )[0]
        if bias is not None:
            bias = bias.expand(*query.shape[:3], key.shape[2])
        wants_gradient = torch.is_grad_enabled() and query.requires_grad
        return _aten._scaled_dot_product_efficient_attention(
            query, key, value, bias, wants_gradient, dropout_p, is_causal, scale=scale
        )[0]

    return attention


def _as_bias(mask: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
    """A Boolean mask as numbers to add: 0 where a query may look, minus infinity elsewhere."""
    if mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=query.dtype).masked_fill(~mask, float("-inf"))

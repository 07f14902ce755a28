"""Memory and work of code that runs on torch's meta device: real shapes and real autograd, no numbers and no memory.

Every operation of every kernel passes through :class:`Trace`. It counts the bytes of the storages that are alive, and
of each operation the floating-point operations and the bytes moved. Where code asks for a number, it gets 0.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import bitsandbytes  # noqa: F401  (registers its operations)
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

ATTENTION = "attention"
FLASH = "flash attention"
HEAD = "head"
LINEAR = "linear"
UNPACKING = "unpacking"
ELEMENTWISE = "elementwise"
LOGITS = "logits"
ACTIVATIONS = "activations"
RESIDENT = "resident"

_aten = torch.ops.aten
_READ_NUMBER = _aten._local_scalar_dense.default
_COPY = _aten._to_copy.default
_SELECT = _aten.index.Tensor
_PRODUCT_4BIT = torch.ops.bitsandbytes.gemm_4bit.default
_UNPACKED = torch.ops.bitsandbytes.dequantize_4bit.default
_RESHAPED = _aten._unsafe_view.default
_ROWS_OF_A_TABLE = {_aten.embedding.default, _aten.index_select.default}
_PRODUCTS_IN_PLACE = {_aten.addmm_.default: _aten.addmm}
_COPYING = {
    _aten._softmax.default,
    _aten._log_softmax.default,
    _aten._softmax_backward_data.default,
    _aten._log_softmax_backward_data.default,
}


FUSED_4BIT_ROWS = 7
"""Up to so many rows, bitsandbytes multiplies by 4-bit weights as they lie; with more it unpacks them first.

Its CUDA code decides by shape and GPU: always fused up to 4 rows, on an H100 for some layers up to 64."""

_UNPACKING_KERNELS = 3
"""Scales of the scales, their offset, the weights."""


class Operation(NamedTuple):
    """One kernel's work.

    Attributes:
        kind: flash attention; attention, by the kernel that takes masks and float32; head, with what is done to its
            logits; linear; unpacking of 4-bit weights; elementwise.
        dtype: of what it writes.
        moved: bytes read and written.
    """

    kind: str
    dtype: str
    flops: float
    moved: float


@dataclass(frozen=True)
class Fill:
    """How full a call is, beside the one that was traced: shares of what its work grows with.

    Attributes:
        positions: computed positions.
        squares: pairs of positions that attention compares.
        masked: of those, pairs in the kernel that takes masks, where it is not the only one; None = as ``squares``.
        scored: positions that the head scores.
        passes: forward passes of one call; each unpacks the weights.
    """

    positions: float = 1.0
    squares: float = 1.0
    scored: float = 1.0
    passes: float = 1.0
    masked: float | None = None

    def of(self, kind: str) -> float:
        """The share by which work of ``kind`` grows."""
        masked = self.squares if self.masked is None else self.masked
        shares = {ATTENTION: masked, FLASH: self.squares, HEAD: self.scored, UNPACKING: self.passes}
        return shares.get(kind, self.positions)


@dataclass
class Work:
    """What a piece of code makes a device do.

    Attributes:
        operations: how often each is done.
        kernels: that Python starts and autograd does not record: without gradients, or inside an
            ``autograd.Function``, such as all four of a product with 4-bit weights.
        recorded_kernels: that Python starts with gradients switched on, also where the backward pass computes a layer
            again.
        backward_kernels: that autograd starts.
    """

    operations: Counter[Operation] = field(default_factory=Counter)
    kernels: int = 0
    recorded_kernels: int = 0
    backward_kernels: int = 0

    @property
    def flops(self) -> Counter[tuple[str, str]]:
        """Floating-point operations by kind and dtype, e.g. ("linear", "bfloat16")."""
        return self._summed("flops")

    @property
    def moved(self) -> Counter[tuple[str, str]]:
        """Bytes read and written, by the same keys."""
        return self._summed("moved")

    @property
    def total_flops(self) -> float:
        return sum(self.flops.values())

    def add(self, operation: Operation, kernels: int = 1) -> None:
        self.operations[operation] += 1
        if torch.is_grad_enabled():
            self.recorded_kernels += kernels
        elif torch._C._current_autograd_node() is None:
            self.kernels += kernels
        else:
            self.backward_kernels += kernels

    def filled(self, fill: Fill) -> Work:
        """The same in a call that is as full as that."""
        filled: Counter[Operation] = Counter()
        for operation, count in self.operations.items():
            share = fill.of(operation.kind)
            filled[operation._replace(flops=operation.flops * share, moved=operation.moved * share)] += count
        counts = self.kernels, self.recorded_kernels, self.backward_kernels
        kernels = [round(count * fill.passes) for count in counts]
        return Work(filled, *kernels)

    def _summed(self, name: str) -> Counter[tuple[str, str]]:
        sums: Counter[tuple[str, str]] = Counter()
        for operation, count in self.operations.items():
            sums[operation.kind, operation.dtype] += count * getattr(operation, name)
        return sums


class Trace(TorchDispatchMode):
    """Counts live bytes by component, and work.

    Attributes:
        live: bytes by component now.
        work: everything that ran inside.
    """

    def __init__(self, vocabulary: int = 0, head: torch.Tensor | None = None, selected_rows: int | None = None) -> None:
        """Start with nothing alive.

        Args:
            vocabulary: a result as wide holds logits.
            head: weight of the language model's head; so does what is multiplied by its transpose.
            selected_rows: rows that a Boolean mask selects; its real values would say so.
        """
        super().__init__()
        self.live: Counter[str] = Counter()
        self._at_peak: Counter[str] = Counter()
        self.work = Work()
        self._vocabulary = vocabulary
        self._head = None if head is None else _key(head)
        self._selected_rows = selected_rows
        self._unpacked_shape: torch.Size | None = None
        self._component: dict[int, str] = {}
        self._references: dict[int, weakref.ref[torch.UntypedStorage]] = {}
        self._total = 0
        self._highest = 0

    @property
    def peak(self) -> dict[str, int]:
        """Bytes by component at the moment when their sum was largest."""
        return {component: size for component, size in self._at_peak.items() if size}

    def hold(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count tensors that exist already and may go."""
        for tensor in tensors:
            self._add(tensor, ACTIVATIONS)

    def leave_out(self, tensors: Iterable[torch.Tensor]) -> None:
        """Count no byte of tensors that exist before and afterwards, such as weights."""
        self._component |= {_key(tensor): RESIDENT for tensor in tensors}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is _READ_NUMBER:
            return torch.zeros((), dtype=args[0].dtype).item()
        if func is _COPY and args[0].is_meta and kwargs.get("device") == torch.device("cpu"):
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func is _SELECT and any(index is not None and index.dtype == torch.bool for index in args[1]):
            return self._select(args[0], args[1][0])
        result = func(*args, **kwargs)
        outputs = [leaf for leaf in tree_leaves(result) if _is_meta(leaf)]
        if not outputs:
            return result
        for output in outputs:
            self._add(output, LOGITS if self._is_logits(output) else ACTIVATIONS)
        if not _is_view(func):
            self._count_work(func, args, kwargs, result, outputs)
        self._extra_temporary(func, args)
        return result

    def _select(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rows of ``values`` that a mask over its first axes selects: as many as was said beforehand."""
        assert self._selected_rows is not None
        selected = values.new_empty((self._selected_rows, *values.shape[mask.dim() :]))
        self._add(selected, ACTIVATIONS)
        self.work.add(Operation(ELEMENTWISE, _dtype(selected), 0, 2 * _bytes(selected)))
        return selected

    def _add(self, tensor: torch.Tensor, component: str) -> None:
        storage, key = tensor.untyped_storage(), _key(tensor)
        if key in self._component:
            return
        size = storage.nbytes()
        self._component[key] = component

        def forget(reference: weakref.ref[torch.UntypedStorage]) -> None:
            self.live[self._component.pop(key)] -= size
            del self._references[key]
            self._total -= size

        self._references[key] = weakref.ref(storage, forget)
        self.live[component] += size
        self._total += size
        self._note_peak()

    def _note_peak(self, extra: int = 0, component: str = ACTIVATIONS) -> None:
        """Keep what is alive if it is the most so far, with ``extra`` bytes that a kernel holds for itself."""
        if self._total + extra > self._highest:
            self._highest = self._total + extra
            self._at_peak = self.live.copy()
            self._at_peak[component] += extra

    def _is_logits(self, tensor: torch.Tensor) -> bool:
        wide = tensor.dim() > 1 and tensor.shape[-1] == self._vocabulary
        return wide or self._component.get(_key(tensor)) == LOGITS

    def _now_logits(self, tensor: torch.Tensor) -> None:
        """A tile that the head writes to; it was allocated before."""
        key, size = _key(tensor), tensor.untyped_storage().nbytes()
        if self._component.get(key) == ACTIVATIONS:
            self._component[key] = LOGITS
            self.live[ACTIVATIONS] -= size
            self.live[LOGITS] += size

    def _count_work(self, func: Any, args: Any, kwargs: Any, result: Any, outputs: list[torch.Tensor]) -> None:
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if _is_meta(leaf)]
        if func is _PRODUCT_4BIT:
            self._count_product_4bit(args, inputs, outputs[0])
            return
        packet = _PRODUCTS_IN_PLACE.get(func, func._overloadpacket)
        product = packet in flop_registry
        flops = flop_registry[packet](*args, **kwargs, out_val=result) if product else 0
        if product and _is_causal(func, args, kwargs):
            flops /= 2
        kind = self._kind(func, inputs, outputs, product)
        if func in _ROWS_OF_A_TABLE:
            inputs = outputs
        moved = sum(_bytes(tensor) for tensor in inputs + outputs)
        self.work.add(Operation(kind, _dtype(outputs[0]), flops, moved))

    def _kind(self, func: Any, inputs: list[torch.Tensor], outputs: list[torch.Tensor], product: bool) -> str:
        if func is _UNPACKED:
            self._unpacked_shape = outputs[0].shape
        if func is _UNPACKED or (func is _COPY and outputs[0].shape == self._unpacked_shape):
            return UNPACKING
        heads = [tensor for tensor in inputs if product and _key(tensor) == self._head]
        if heads and heads[0].stride(0) == 1:
            self._now_logits(outputs[0])
        if heads or any(map(self._is_logits, inputs + outputs)):
            return HEAD
        if "attention" in str(func):
            return FLASH if "flash_attention" in str(func) else ATTENTION
        return LINEAR if product else ELEMENTWISE

    def _count_product_4bit(self, args: Any, inputs: list[torch.Tensor], output: torch.Tensor) -> None:
        """One fused kernel for few rows; for more the unpacking, and the product with what was unpacked."""
        rows = output.numel() // output.shape[-1]
        flops, dtype = 2 * output.numel() * args[0].shape[-1], _dtype(output)
        states = _bytes(args[0]) + _bytes(output)
        packed = sum(map(_bytes, inputs)) - _bytes(args[0])
        if rows <= FUSED_4BIT_ROWS:
            self.work.add(Operation(LINEAR, dtype, flops, states + packed))
            return
        unpacked = args[2][0] * args[2][1] * output.element_size()
        self.work.add(Operation(UNPACKING, dtype, 0, packed + unpacked), _UNPACKING_KERNELS)
        self.work.add(Operation(LINEAR, dtype, flops, states + unpacked))

    def _extra_temporary(self, func: Any, args: Any) -> None:
        """Memory that a kernel takes for itself, out of sight of its results.

        4-bit products of many rows unpack the whole weight first; softmax copies what is not contiguous.
        """
        if func is _PRODUCT_4BIT:
            rows, columns = args[2]
            if args[0].numel() // columns <= FUSED_4BIT_ROWS:
                return
            extra = rows * columns * args[0].element_size() + rows * columns // args[4] * 4
        elif func in _COPYING:
            extra = sum(_bytes(leaf) for leaf in args if _is_meta(leaf) and not leaf.is_contiguous())
        else:
            return
        self._note_peak(extra, LOGITS if self._is_logits(args[0]) else ACTIVATIONS)


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_causal(func: Any, args: Any, kwargs: Any) -> bool:
    """Whether an attention leaves out what lies ahead, half of the pairs; with a mask it computes all."""
    names = [argument.name for argument in func._schema.arguments]
    return bool(kwargs.get("is_causal", dict(zip(names, args, strict=False)).get("is_causal")))


def _key(tensor: torch.Tensor) -> int:
    """Of the memory behind a tensor."""
    return int(tensor.untyped_storage()._cdata)


def _is_meta(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_meta


def _is_view(func: Any) -> bool:
    """Whether results share memory with an argument that is not written to: nothing is computed then."""
    if func is _RESHAPED:
        return True
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes behind a tensor; an expanded one is read from fewer than its shape says."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())

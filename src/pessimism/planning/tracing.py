"""Memory and work of code that runs on torch's meta device: real shapes and real autograd, no numbers and no memory.

Every operation of every kernel passes through :class:`Trace`. It counts the bytes of the storages that are alive, the
floating-point operations and the bytes that each operation moves. Where code asks for a number, it gets 0.
"""

from __future__ import annotations

import weakref
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import bitsandbytes  # noqa: F401  (registers its operations)
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

ATTENTION = "attention"
HEAD = "head"
LINEAR = "linear"
ELEMENTWISE = "elementwise"
LOGITS = "logits"
ACTIVATIONS = "activations"
RESIDENT = "resident"

_aten = torch.ops.aten
_READ_NUMBER = _aten._local_scalar_dense.default
_COPY = _aten._to_copy.default
_SELECT = _aten.index.Tensor
_PRODUCT_4BIT = torch.ops.bitsandbytes.gemm_4bit.default
_COPYING = {
    _aten._softmax.default,
    _aten._log_softmax.default,
    _aten._softmax_backward_data.default,
    _aten._log_softmax_backward_data.default,
}


@dataclass
class Work:
    """What a piece of code makes a device do.

    Attributes:
        flops: by kind of operation and dtype, e.g. ("linear", "bfloat16").
        moved: bytes read and written, by the same keys.
        kernels: operations that start at least one kernel.
    """

    flops: Counter[tuple[str, str]] = field(default_factory=Counter)
    moved: Counter[tuple[str, str]] = field(default_factory=Counter)
    kernels: int = 0

    @property
    def total_flops(self) -> int:
        return sum(self.flops.values())

    def shortened(self, share: float) -> Work:
        """The same on sequences of ``share`` of the length: attention falls with its square."""
        factors = {key: share**2 if key[0] == ATTENTION else share for key in self.moved}
        return Work(
            Counter({key: flops * factors[key] for key, flops in self.flops.items()}),
            Counter({key: moved * factors[key] for key, moved in self.moved.items()}),
            self.kernels,
        )


class Trace(TorchDispatchMode):
    """Counts live bytes by component, and work.

    Attributes:
        live: bytes by component now.
        work: everything that ran inside.
    """

    def __init__(self, head_widths: Iterable[int], selected_rows: int | None = None) -> None:
        """Start with nothing alive.

        Args:
            head_widths: a result as wide, or a product with such a matrix, belongs to the language model's head.
            selected_rows: rows that a Boolean mask selects; its real values would say so.
        """
        super().__init__()
        self.live: Counter[str] = Counter()
        self._at_peak: Counter[str] = Counter()
        self.work = Work()
        self._head_widths = frozenset(head_widths)
        self._selected_rows = selected_rows
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
        self._component |= {tensor.untyped_storage()._cdata: RESIDENT for tensor in tensors}

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
            self._add(output, self._component_of(output))
        if not _is_view(func):
            self._count_work(func, args, kwargs, result, outputs)
        self._extra_temporary(func, args)
        return result

    def _select(self, values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        """Rows of ``values`` that a mask over its first axes selects: as many as was said beforehand."""
        assert self._selected_rows is not None
        return values.new_empty((self._selected_rows, *values.shape[mask.dim() :]))

    def _add(self, tensor: torch.Tensor, component: str) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._component:
            return
        size = storage.nbytes()
        self._component[key] = component

        def forget(reference: weakref.ref[torch.UntypedStorage]) -> None:
            del self._component[key], self._references[key]
            self.live[component] -= size
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

    def _component_of(self, tensor: torch.Tensor) -> str:
        return LOGITS if tensor.dim() > 1 and tensor.shape[-1] in self._head_widths else ACTIVATIONS

    def _count_work(self, func: Any, args: Any, kwargs: Any, result: Any, outputs: list[torch.Tensor]) -> None:
        inputs = [leaf for leaf in tree_leaves((args, kwargs)) if _is_meta(leaf)]
        kind, flops = ELEMENTWISE, 0
        packet = func._overloadpacket
        if packet in flop_registry:
            flops = flop_registry[packet](*args, **kwargs, out_val=result)
            kind = self._kind_of_product(packet, inputs)
        elif func is _PRODUCT_4BIT:
            flops = 2 * outputs[0].numel() * inputs[0].shape[-1]
            kind = LINEAR
        key = (kind, _dtype(outputs[0]))
        self.work.flops[key] += flops
        self.work.moved[key] += sum(_bytes(tensor) for tensor in inputs + outputs)
        self.work.kernels += 1

    def _kind_of_product(self, packet: Any, inputs: list[torch.Tensor]) -> str:
        if any(not self._head_widths.isdisjoint(tensor.shape) for tensor in inputs):
            return HEAD
        return ATTENTION if "attention" in str(packet) else LINEAR

    def _extra_temporary(self, func: Any, args: Any) -> None:
        """Memory that a kernel takes for itself, out of sight of its results.

        4-bit products of many rows unpack the whole weight first; softmax copies what is not contiguous.
        """
        if func is _PRODUCT_4BIT:
            rows, columns = args[2]
            extra = rows * columns * args[0].element_size() + rows * columns // args[4] * 4
            self.work.moved[LINEAR, _dtype(args[0])] += 2 * extra
        elif func in _COPYING:
            extra = sum(_bytes(leaf) for leaf in args if _is_meta(leaf) and not leaf.is_contiguous())
        else:
            return
        self._note_peak(extra, self._component_of(args[0]))


def _dtype(tensor: torch.Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")


def _is_meta(leaf: Any) -> bool:
    return isinstance(leaf, torch.Tensor) and leaf.is_meta


def _is_view(func: Any) -> bool:
    """Whether results share memory with an argument that is not written to: nothing is computed then."""
    aliases = [result.alias_info for result in func._schema.returns]
    return any(alias is not None and not alias.is_write for alias in aliases)


def _bytes(tensor: torch.Tensor) -> int:
    """Bytes behind a tensor; an expanded one is read from fewer than its shape says."""
    return min(tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes())

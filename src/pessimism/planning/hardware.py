"""Kernels as numbers, GPUs by name or as this machine has them, and how long kernels take there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from pessimism.errors import ParamsError

PRODUCT, FLASH, ATTENTION = "product", "flash attention", "attention"
"""What a kernel computes: products, attention to all that came before in bfloat16, other attention."""

ATTENTION_PRODUCTS = 3
"""TF32 products of one float32 product in PyTorch's memory-efficient attention, whatever the allowed precision."""

PLAIN, RECORDED, BACKWARD = "launch_seconds", "recorded_launch_seconds", "backward_launch_seconds"
"""Started by Python without autograd, or inside one of its functions; recorded by autograd; started by autograd: each
by the name of the assumption about it."""


class Kernel(NamedTuple):
    """One or several kernels of one kind.

    Attributes:
        flops, moved: floating-point operations of all, and bytes that all read and write.
        kind, size: what they compute, and bytes per number.
        kernels, start: how many there are, and who starts them.
    """

    flops: float
    moved: float
    kind: str
    size: int
    kernels: float = 1
    start: str = PLAIN

    def times(self, factor: float) -> Kernel:
        return self._replace(flops=factor * self.flops, moved=factor * self.moved, kernels=factor * self.kernels)


def moving(moved: float, kernels: float = 1) -> Kernel:
    """Kernels that compute nothing worth counting."""
    return Kernel(0.0, moved, PRODUCT, 2, kernels)


def started(kernels: Iterable[Kernel], start: str) -> list[Kernel]:
    """The same kernels, started otherwise."""
    return [kernel._replace(start=start) for kernel in kernels]


def repeated(kernels: Iterable[Kernel], times: float) -> list[Kernel]:
    return [kernel.times(times) for kernel in kernels]


@dataclass(frozen=True)
class Gpu:
    """Published peaks, dense, per second; TF32 is what ``matmul_precision: high`` allows; the price is assumed."""

    name: str
    memory_bytes: float
    bfloat16_flops: float
    tf32_flops: float
    float32_flops: float
    bandwidth: float
    usd_per_hour: float


GPUS = (
    Gpu("H100 80GB", 85.02e9, 989e12, 494.7e12, 67e12, 3.35e12, 3.00),
    Gpu("A100 80GB", 85.02e9, 312e12, 156e12, 19.5e12, 2.04e12, 1.80),
    Gpu("L40S 48GB", 47.7e9, 362e12, 183e12, 91.6e12, 0.864e12, 1.00),
    Gpu("RTX 4090 24GB", 25.4e9, 165e12, 82.6e12, 82.6e12, 1.008e12, 0.50),
)

ASSUMPTIONS = (
    ("product_utilisation", 0.70, "share of a peak that large products reach; the best reach 0.80 (MAMF)"),
    ("flash_utilisation", 0.23, "the same of causal attention in bfloat16"),
    ("attention_utilisation", 0.15, "the same of attention under a mask, or in float32, of TF32 / 3"),
    ("bandwidth_utilisation", 0.80, "share of the memory bandwidth that all else reaches; copies 0.90"),
    ("launch_seconds", 2.0e-5, "seconds of Python and launch per kernel, where the GPU waits for it"),
    ("recorded_launch_seconds", 3.5e-5, "the same of a kernel that autograd records"),
    ("backward_launch_seconds", 1.3e-5, "the same of a kernel that autograd starts"),
    ("memory_overhead", 0.05, "share of the peak lost to fragments of the allocator"),
    ("context_bytes", 1.0e9, "bytes of the CUDA context and its libraries"),
    ("read_bytes_per_second", 1.0e9, "bytes of weights read from disk and quantised per second"),
    ("download_bytes_per_second", 1.0e8, "bytes downloaded per second"),
    ("data_set_bytes", 0.7e9, "bytes of the hub data sets"),
    ("other_stage_hours", 0.02, "hours of a stage that runs no model"),
)
"""Everything that the hours, the cost and the verdict on memory rest on and that no file of the project says."""

ASSUMED = {name: value for name, value, _ in ASSUMPTIONS}


def find_gpu(name: str) -> Gpu:
    """The GPU whose name contains ``name``, whatever the case and the spaces.

    Raises:
        ParamsError: none or several do.
    """
    found = [gpu for gpu in GPUS if _letters(name) in _letters(gpu.name)]
    if len(found) != 1:
        raise ParamsError(f"--gpu: found {name!r}; expected one of {[gpu.name for gpu in GPUS]} or a part of one name")
    return found[0]


def gpu_here() -> Gpu | None:
    """This machine's first CUDA device; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    device = torch.cuda.get_device_properties(0)
    return like_known(device.name, device.total_memory)


def like_known(name: str, memory_bytes: float) -> Gpu:
    """A device with its own memory, and the speed and the price of the GPU it is, else of that closest in memory."""
    named = [gpu for gpu in GPUS if _letters(gpu.name.rpartition(" ")[0]) in _letters(name)]
    known = min(named or GPUS, key=lambda gpu: abs(gpu.memory_bytes - memory_bytes))
    return replace(known, name=f"{name} (taken for {known.name})", memory_bytes=memory_bytes)


def _letters(name: str) -> str:
    return "".join(name.casefold().split())


def seconds(kernels: Sequence[Kernel], gpu: Gpu, precision: str) -> float:
    """Seconds that kernels take: of each its arithmetic or its memory, whichever takes longer.

    Where starting all of them takes longer than running them, that time counts instead.

    Args:
        precision: of float32 products, "highest" or "high" (``matmul_precision`` of the scale).
    """
    rates, bandwidth = _rates(gpu, precision), gpu.bandwidth * ASSUMED["bandwidth_utilisation"]
    running = sum(max(kernel.flops / rates[kernel.kind, kernel.size], kernel.moved / bandwidth) for kernel in kernels)
    return max(running, sum(kernel.kernels * ASSUMED[kernel.start] for kernel in kernels))


def _rates(gpu: Gpu, precision: str) -> dict[tuple[str, int], float]:
    """Floating-point operations per second by kind and bytes per number."""
    float32 = gpu.tf32_flops if precision == "high" else gpu.float32_flops
    return {
        (PRODUCT, 2): gpu.bfloat16_flops * ASSUMED["product_utilisation"],
        (PRODUCT, 4): float32 * ASSUMED["product_utilisation"],
        (FLASH, 2): gpu.bfloat16_flops * ASSUMED["flash_utilisation"],
        (ATTENTION, 2): gpu.bfloat16_flops * ASSUMED["attention_utilisation"],
        (ATTENTION, 4): gpu.tf32_flops / ATTENTION_PRODUCTS * ASSUMED["attention_utilisation"],
    }

"""GPUs by name or as this machine has them, what is assumed of them, and how long a piece of work takes there."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING

from pessimism.errors import ParamsError

if TYPE_CHECKING:
    from pessimism.planning.tracing import Operation, Work

ATTENTION, FLASH = "attention", "flash attention"
ATTENTION_PRODUCTS = 3
"""TF32 products of one float32 product in PyTorch's memory-efficient attention, whatever the allowed precision."""


@dataclass(frozen=True)
class Gpu:
    """Published peak numbers, dense, without sparsity.

    Attributes:
        memory_bytes: what PyTorch reports as the device's total.
        bfloat16_flops: per second, on tensor cores with float32 accumulation.
        tf32_flops: per second, float32 products on tensor cores: what ``matmul_precision: high`` allows.
        float32_flops: per second, without TF32.
        bandwidth: bytes per second to and from its memory.
        usd_per_hour: an assumption about renting one.
    """

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
    """A device with its own memory, and the speed and the price of the GPU it is, else of that closest in memory.

    Args:
        name: as the driver gives it, e.g. "NVIDIA A100-SXM4-40GB".
        memory_bytes: the device's total.
    """
    named = [gpu for gpu in GPUS if _letters(gpu.name.rpartition(" ")[0]) in _letters(name)]
    known = min(named or GPUS, key=lambda gpu: abs(gpu.memory_bytes - memory_bytes))
    return replace(known, name=f"{name} (taken for {known.name})", memory_bytes=memory_bytes)


def _letters(name: str) -> str:
    return "".join(name.casefold().split())


def _assumed(value: float, means: str) -> float:
    return field(default=value, metadata={"means": means})


@dataclass(frozen=True)
class Assumptions:
    """Everything that the hours, the cost and the verdict on memory rest on and that no file of the project says."""

    product_utilisation: float = _assumed(
        0.70, "share of a peak that large products reach; the best on an H100 reach 0.80 (MAMF)"
    )
    flash_utilisation: float = _assumed(0.23, "the same of causal attention in bfloat16")
    attention_utilisation: float = _assumed(0.15, "the same of attention under a mask, or in float32, of TF32 / 3")
    bandwidth_utilisation: float = _assumed(
        0.80, "share of the memory bandwidth that all else reaches; copies reach 0.90"
    )
    launch_seconds: float = _assumed(2.0e-5, "seconds of Python and launch per kernel, where the GPU waits for it")
    recorded_launch_seconds: float = _assumed(
        3.5e-5, "the same of a kernel that autograd records for the backward pass"
    )
    backward_launch_seconds: float = _assumed(1.3e-5, "the same of a kernel that autograd starts")
    memory_overhead: float = _assumed(0.05, "share of the peak lost to fragments of the allocator")
    context_bytes: float = _assumed(1.0e9, "bytes of the CUDA context and its libraries")
    read_bytes_per_second: float = _assumed(1.0e9, "bytes of weights read from disk and quantised per second")
    download_bytes_per_second: float = _assumed(1.0e8, "bytes downloaded per second")
    data_set_bytes: float = _assumed(0.7e9, "bytes of the hub data sets")
    other_stage_hours: float = _assumed(0.02, "hours of a stage that runs no model")

    def described(self) -> list[tuple[str, float, str]]:
        """Name, value and meaning of each."""
        return [(entry.name, getattr(self, entry.name), entry.metadata["means"]) for entry in fields(self)]


def seconds(work: Work, gpu: Gpu, assumed: Assumptions, precision: str) -> float:
    """Seconds of ``work``: of each operation the arithmetic or the memory, whichever takes longer.

    Where launching the operations takes longer than running them, that time counts instead.

    Args:
        precision: of float32 products, "highest" or "high" (``matmul_precision`` of the scale).
    """
    bandwidth = gpu.bandwidth * assumed.bandwidth_utilisation
    running = sum(
        count * max(operation.flops / _rate(operation, gpu, assumed, precision), operation.moved / bandwidth)
        for operation, count in work.operations.items()
    )
    return max(running, _launching_seconds(work, assumed))


def _launching_seconds(work: Work, assumed: Assumptions) -> float:
    """Seconds that Python and autograd take to start the kernels of ``work``."""
    return (
        work.kernels * assumed.launch_seconds
        + work.recorded_kernels * assumed.recorded_launch_seconds
        + work.backward_kernels * assumed.backward_launch_seconds
    )


def needed_bytes(peak: float, assumed: Assumptions) -> float:
    """Memory that a GPU must have for a predicted ``peak`` of live tensors."""
    return peak * (1 + assumed.memory_overhead) + assumed.context_bytes


def _rate(operation: Operation, gpu: Gpu, assumed: Assumptions, precision: str) -> float:
    """Floating-point operations per second."""
    if operation.kind == FLASH:
        return gpu.bfloat16_flops * assumed.flash_utilisation
    if operation.kind == ATTENTION:
        peak = gpu.bfloat16_flops if operation.dtype == "bfloat16" else gpu.tf32_flops / ATTENTION_PRODUCTS
        return peak * assumed.attention_utilisation
    float32_flops = gpu.tf32_flops if precision == "high" else gpu.float32_flops
    peak = gpu.bfloat16_flops if operation.dtype == "bfloat16" else float32_flops
    return peak * assumed.product_utilisation

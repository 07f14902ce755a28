"""What a pass takes: seconds, bytes, attention kernels; and whether that is what was planned."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend
from transformers import TrainerCallback

from benchmarks.memory import status_bytes
from pessimism.planning.hardware import ASSUMED

Line = dict[str, Any]

SLOWER = 2.0
"""Times the planned seconds: the factor within which docs/paper-scale.md holds the plan for right."""

QUADRATIC = SDPBackend.MATH.name.lower()
"""The kernel that keeps (T, T) scores in memory, which the plan does not count."""


@dataclass
class Taken:
    """What one pass took.

    Attributes:
        result: what the pass returned.
        device_peak, device_reserved: bytes at most in use by tensors, and held by torch; None without a GPU.
        host_peak: largest resident set of this process, bytes.
        attention: kernels by whether there is a mask, such as ``masked: efficient_attention``.
    """

    result: Any = None
    seconds: float = 0.0
    device_peak: int | None = None
    device_reserved: int | None = None
    host_peak: int = 0
    attention: list[str] = field(default_factory=list)


def measure(call: Callable[[], Any]) -> Taken:
    """What ``call`` takes."""
    taken = Taken()
    with _watched_attention(taken.attention):
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        Path("/proc/self/clear_refs").write_text("5")  # forgets the largest resident set so far
        start = now()
        taken.result = call()
        taken.seconds = now() - start
    taken.host_peak = status_bytes("VmHWM")
    if torch.cuda.is_available():
        taken.device_peak, taken.device_reserved = torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
    return taken


def now() -> float:
    """Seconds, once the device is done with all that it was given."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


class LastStep(TrainerCallback):
    """Seconds of a trainer's last optimiser step: the first warms up."""

    seconds = 0.0

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.start = now()

    def on_step_end(self, *_: Any, **__: Any) -> None:
        self.seconds = now() - self.start


@contextmanager
def _watched_attention(found: list[str]) -> Iterator[None]:
    """Note which kernel torch takes, once for every kind of call."""
    plain, seen = functional.scaled_dot_product_attention, set()

    def noting(query: Any, key: Any, value: Any, attn_mask: Any = None, **options: Any) -> Any:
        kind = (query.shape, key.shape, attn_mask is None, query.requires_grad, query.dtype)
        if kind not in seen:
            seen.add(kind)
            given = {name: options[name] for name in ("dropout_p", "is_causal", "scale") if name in options}
            chosen = SDPBackend(torch._fused_sdp_choice(query, key, value, attn_mask, **given)).name.lower()
            name = f"{'unmasked' if attn_mask is None else 'masked'}: {chosen}"
            if name not in found:
                found.append(name)
        return plain(query, key, value, attn_mask=attn_mask, **options)

    with mock.patch.object(functional, "scaled_dot_product_attention", noting):
        yield


def problems(found: Line) -> list[str]:
    """What is wrong with a line. Times and bytes are planned for a GPU, and judged on one alone."""
    reasons = []
    on_gpu, allowed = found["device_peak_bytes"] is not None, 1 + ASSUMED["memory_overhead"]
    if on_gpu and found["seconds_ratio"] > SLOWER:
        reasons.append(f"takes {found['seconds_ratio']:.1f} times the planned seconds; expected at most {SLOWER:g}")
    if on_gpu and found["bytes_ratio"] > allowed:
        reasons.append(f"takes {found['bytes_ratio']:.2f} times the planned bytes; expected at most {allowed:g}")
    if on_gpu and any(name.endswith(f": {QUADRATIC}") for name in found["attention"]):
        reasons.append(f"attention runs {', '.join(found['attention'])}; expected a kernel that keeps no (T, T) scores")
    if "first_loss" in found and not abs(found["first_loss"] - found["expected_loss"]) <= found["tolerance"]:
        reasons.append(f"the first loss is {found['first_loss']:.6f}; expected {found['expected_loss']:.6f}")
    if "log_ratio_sd_nats" in found and not found["log_ratio_sd_nats"] <= found["granted_nats"]:
        reasons.append(
            f"log-ratios of two batch layouts differ by {found['log_ratio_sd_nats']:.2g} nats; expected at most "
            f"{found['granted_nats']:g}"
        )
    return reasons

"""One layer of a decoder in closed form: its kernels forward and backward, and what they keep in between.

What lies between two products is told by the bytes it reads and writes. The figures are those of the stages' code on a
GPU: one kernel per norm and per dropout, keys and values copied for the heads that share them, adapters as two
products (``models.adapters``), 4-bit weights unpacked before a product.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import NamedTuple

from pessimism.planning.hardware import ATTENTION, BACKWARD, FLASH, PLAIN, PRODUCT, RECORDED, Kernel, moving, started
from pessimism.planning.role import FLOAT32, PACKED_BLOCK, Role

FUSED_4BIT_ROWS = 7
"""Up to so many positions, bitsandbytes multiplies by 4-bit weights as they lie; with more it unpacks them first.

Its CUDA code decides by shape and GPU: always fused up to 4, on an H100 for some layers up to 64."""

UNPACKING = 3
"""Kernels: scales of the scales, their offset, the weights."""

BACKWARD_ATTENTION = 2.5
"""FLOPs of attention's backward pass for one of its forward pass: five products for two."""

STATISTICS = 2 * FLOAT32
"""Bytes that a norm keeps of each row besides what it read."""

READS = {"q_proj": 0, "k_proj": 0, "v_proj": 0, "o_proj": 1, "gate_proj": 2, "up_proj": 2, "down_proj": 3}
READS |= {"c_attn": 0, "attn.c_proj": 1, "c_fc": 2, "mlp.c_proj": 3}
"""Which of a layer's states a linear layer reads: first norm, attention, second norm, what the MLP computes between."""


class Batch(NamedTuple):
    """What one forward pass computes; sums over its rows.

    Attributes:
        positions: padding included.
        causal: squared lengths of what looks back without a mask.
        masked: queries times keys under a mask.
        unmasked: positions of queries without a mask, where other queries of the row have one: rows of pairs.
        scored: positions that a head over the vocabulary reads.
    """

    positions: float
    causal: float = 0.0
    masked: float = 0.0
    unmasked: float = 0.0
    scored: float = 0.0


class Between(NamedTuple):
    """Kernels of a layer that are no product.

    Attributes:
        numbers: that they compute with.
        forward, backward: bytes read and written of each number.
        kernels, backward_kernels: how many they are.
        kept: bytes of each number kept from the forward for the backward pass.
    """

    numbers: float
    forward: float = 0.0
    kernels: int = 0
    backward: float = 0.0
    backward_kernels: int = 0
    kept: float = 0.0


@dataclass(frozen=True)
class Layer:
    """One layer over a batch.

    Attributes:
        adapted: whether an adapter is active.
        dropout: whether adapters drop some of what they read.
        cached: tokens of keys and values that a position finds in a cache; None = there is no cache. With one,
            adapters lie in the block's precision already (``models.adapters.rounded_adapters``).
    """

    role: Role
    batch: Batch
    adapted: bool
    dropout: bool = False
    cached: float | None = None

    def forward(self, recorded: bool = False, but: Collection[str] = ()) -> list[Kernel]:
        """The forward pass.

        Args:
            recorded: whether autograd records it. Of bitsandbytes' products, a function of its own, it sees one.
            but: linear layers that are left out.
        """
        others = self._adapters() + self._attention()
        others += [moving(entry.numbers * entry.forward, entry.kernels) for entry in self._between()]
        products = started(self._products(but=but), RECORDED if recorded and not self.role.packed else PLAIN)
        return products + started(others, RECORDED if recorded else PLAIN)

    def backward(self, first: bool = False) -> list[Kernel]:
        """Gradients of what the layer read, and of its adapter's weights.

        Args:
            first: whether nothing before it is trained, so that what it read needs no gradient.
        """
        kernels = self._products(backward=True, but=[name for name, state in READS.items() if first and state == 0])
        kernels += [kernel.times(2) for kernel in self._adapters()]
        kernels += [kernel.times(BACKWARD_ATTENTION)._replace(kernels=1) for kernel in self._attention()]
        kernels += [moving(entry.numbers * entry.backward, entry.backward_kernels) for entry in self._between()]
        return started(kernels, BACKWARD)

    def recomputed(self) -> list[Kernel]:
        """The forward pass again on the way back, up to the last product, whose result no gradient is made of."""
        last = {name for name in self.role.linear if READS[name] == 3}
        ahead = self.forward(recorded=True, but=last - set(self.role.targets))
        return [kernel._replace(start=BACKWARD) if kernel.start == PLAIN else kernel for kernel in ahead]

    def kept(self) -> float:
        """Bytes that are kept of a layer until its backward pass."""
        return sum(entry.numbers * entry.kept for entry in self._between())

    @property
    def largest_product(self) -> float:
        """Bytes that the largest product takes for its unpacked weights and their scales."""
        if not self._unpacks:
            return 0.0
        largest = max(inputs * outputs for inputs, outputs in self.role.linear.values())
        return (self.role.product + FLOAT32 / PACKED_BLOCK) * largest

    @property
    def _unpacks(self) -> bool:
        return self.role.packed and self.batch.positions > FUSED_4BIT_ROWS

    def _products(self, backward: bool = False, but: Collection[str] = ()) -> list[Kernel]:
        """Products with the base's weights, which may be unpacked first; a backward pass reads wider scales."""
        positions, size = self.batch.positions, self.role.product
        packed, wide = 1 / 2 + 1 / PACKED_BLOCK, (4 * FLOAT32 if backward else 0) / PACKED_BLOCK
        kernels = []
        for name, (inputs, outputs) in self.role.linear.items():
            if name in but:
                continue
            weights = inputs * outputs
            if self._unpacks:
                kernels.append(moving((packed + wide + size) * weights, UNPACKING))
            read = packed if self.role.packed and not self._unpacks else size
            moved = read * weights + size * positions * (inputs + outputs)
            kernels.append(Kernel(2 * positions * weights, moved, PRODUCT, size))
        return kernels

    def _adapters(self) -> list[Kernel]:
        """Both products of every adapter, of which the second adds to the base's result."""
        positions, size, rank = self.batch.positions, self.role.block, self.role.rank
        kernels = []
        for target in self.role.targets if self.adapted else ():
            inputs, outputs = self.role.linear[target]
            for width, read in ((inputs, inputs), (outputs, 2 * outputs)):
                moved = size * (positions * (read + rank) + rank * width)
                kernels.append(Kernel(2 * positions * rank * width, moved, PRODUCT, size))
        return kernels

    def _attention(self) -> list[Kernel]:
        """Queries with keys, and their weights with values, by the kernels that PyTorch takes."""
        role, batch, size = self.role, self.batch, self.role.block
        states = 4 * size * role.queries * batch.positions
        kernels = []
        if batch.causal:
            share = batch.unmasked / batch.positions if batch.unmasked else 1.0
            kind = FLASH if size < FLOAT32 else ATTENTION
            kernels.append(Kernel(2 * role.queries * batch.causal, share * states, kind, size))
        if batch.masked:
            moved = 2 * size * role.keys * batch.masked if self.cached else states
            kernels.append(Kernel(4 * role.queries * batch.masked, moved, ATTENTION, size))
        return kernels

    def _between(self) -> list[Between]:
        """Everything that is no product."""
        role, positions = self.role, self.batch.positions
        block, stream, product = self.role.block, self.role.stream, self.role.product
        hidden, heads = 2 * role.hidden * positions, (role.queries + role.keys) * positions
        found = [
            # Both sums with the residual stream; both norms, which keep what they read.
            Between(hidden, block + 2 * stream, 2, 3 * stream, 2),
            Between(hidden, 2 * block, 2, 3 * block, 2, block + STATISTICS / role.hidden),
        ]
        if role.positions:
            found += [
                # GELU by its formula of eight kernels, of which what it reads and three more are kept.
                Between(role.intermediate * positions, 18 * block, 8, 28 * block, 11, 4 * block),
                # Gradients of queries, keys and values, joined.
                Between(3 * role.hidden * positions, backward=2 * block, backward_kernels=1),
            ]
        else:
            found += [
                # Rotary embeddings: two products, a sign, a join of halves and a sum, of queries and of keys.
                Between(heads, 10 * block, 10, 14 * block, 14),
                # SiLU and the product with what it gates, of which both operands and SiLU's result are kept.
                Between(role.intermediate * positions, 5 * block, 2, 9 * block, 3, 3 * block),
                # Gradients of all that read one norm, added up; those of the keys, copied.
                Between(3 * role.hidden * positions, backward=3 * block, backward_kernels=3),
                Between(role.keys * positions, backward=2 * block, backward_kernels=1),
            ]
        if role.head_norms:
            found.append(Between(heads, 2 * block, 2, 3 * block, 2, block + STATISTICS / role.head_width))
        if stream != block:
            found.append(Between(hidden, stream + block, 2, 2 * (stream + block), 4))
        if product != block:
            ends, count = sum(map(sum, role.linear.values())), 2 * len(role.linear)
            found.append(Between(ends * positions, block + product, count, block + product, count))
        return found + self._around_attention() + self._around_adapters()

    def _around_attention(self) -> list[Between]:
        role, batch, block = self.role, self.batch, self.role.block
        queries, keys, positions = block * role.queries, block * role.keys, batch.positions
        found = [Between(positions, kept=2 * queries + FLOAT32 * role.heads)]  # queries, result, sums of exp
        if role.heads == role.key_heads:
            found.append(Between(positions, kept=2 * keys))
        elif self.cached:
            found.append(Between(positions, 2 * queries, 1))
        else:
            # Keys and values copied for the heads that share them: of pairs, those of the unmasked part once more.
            moved, count = 2 * (queries + keys), 4 if batch.unmasked else 2
            found.append(Between(positions + batch.unmasked, moved, count, moved, count, 2 * queries))
        if batch.masked:
            found.append(Between(batch.masked, 10, 3, kept=block))  # made into numbers to add
        if batch.unmasked:
            # Results joined; gradients parted and added.
            found.append(Between(positions, 2 * queries, 1, 2 * (queries + 4 * keys), 5))
            found.append(Between(batch.unmasked, backward=2 * keys))
        if self.cached is not None:
            found.append(Between(positions * max(self.cached, 1), 4 * keys, 2))
        return found

    def _around_adapters(self) -> list[Between]:
        """Dropout, casts to the block's precision, sums of gradients; where nothing is dropped, what adapters read."""
        if not self.adapted:
            return []
        block, weights, targets = self.role.block, self.role.adapter_weights, len(self.role.targets)
        inputs = {target: self.role.linear[target][0] for target in self.role.targets}
        read = sum(inputs.values()) * self.batch.positions
        found = [
            Between(read, backward=3 * block, backward_kernels=3 * targets),
            Between(weights, backward=3 * FLOAT32, backward_kernels=2 * targets),
            Between(self.batch.positions, kept=block * self.role.rank * targets),
        ]
        if block != FLOAT32 and self.cached is None:
            cast = FLOAT32 + block
            found.append(Between(weights, cast, 2 * targets, cast, 2 * targets, block))
        if self.dropout:
            found.append(Between(read, 2 * block + 1, targets, 2 * block + 1, targets, block + 1))
        else:
            # What attention gives is kept anyway, unless it was joined from two parts.
            once = {READS[name]: width for name, width in inputs.items() if READS[name] != 1 or self.batch.unmasked}
            found.append(Between(self.batch.positions, kept=block * sum(once.values())))
        return found

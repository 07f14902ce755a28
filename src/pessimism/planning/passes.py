"""Whole passes through a model in closed form: their kernels, and their memory at its largest besides what stays."""

from __future__ import annotations

import math

from pessimism.planning.hardware import BACKWARD, PRODUCT, RECORDED, Kernel, moving, repeated, started
from pessimism.planning.layer import Batch, Layer
from pessimism.planning.role import FLOAT32, Role

TILE_ROWS, TILE_COLUMNS = 4096, 1024
"""Positions and vocabulary columns of which the head computes logits at once (models.compute.logprobs)."""

OTHER_KERNELS = 45
"""Kernels of a forward pass outside layers and head: embedding, rotary angles, masks, last norm, selection."""

DRAWING = {"truncated": (5, 9), "full": (6, 11)}
"""Tensors over the vocabulary that are there while a token is drawn, and how often one is read or written."""


def forward(role: Role, batch: Batch, adapted: bool, cached: float | None = None) -> list[Kernel]:
    """One forward pass without a gradient; of generation, with a cache of so many tokens."""
    layers = repeated(Layer(role, batch, adapted, cached=cached).forward(), role.layers)
    return layers + _outside(role, batch) + head(role, batch.scored)


def training_step(role: Role, batch: Batch, dropout: bool, checkpointing: bool) -> list[Kernel]:
    """Forward and backward pass."""
    layers, layer = role.layers, Layer(role, batch, adapted=True, dropout=dropout)
    kernels = repeated(layer.forward(recorded=True), layers)
    if checkpointing:
        kernels += repeated(layer.recomputed() + layer.backward(), layers)
    else:
        kernels += repeated(layer.backward(), layers - 1) + layer.backward(first=True)
    return kernels + _outside(role, batch, trained=True) + head(role, batch.scored, trained=True)


def head(role: Role, scored: float, trained: bool = False) -> list[Kernel]:
    """Log-probabilities of ``scored`` tokens over the vocabulary, in tiles that are read once; nothing for a score."""
    if not role.language_head or not scored:
        return []
    tiles = math.ceil(role.vocabulary / TILE_COLUMNS) * math.ceil(scored / TILE_ROWS)
    logits = role.stream * role.vocabulary * scored
    moved = 2 * logits + role.stream * role.embedding
    product = Kernel(2 * role.embedding * scored, moved, PRODUCT, role.stream, tiles)
    kernels = [product, moving(logits, tiles)]
    if trained:
        # The tiles once more, what the loss says of them, and their product with the weights.
        kernels += started([product, moving(2 * logits, tiles), product], BACKWARD)
    return kernels


def decode(role: Role, rows: int, cached: float, sampling: str, adapted: bool) -> list[Kernel]:
    """One token of every row, and its draw.

    Args:
        cached: tokens that a row attends to.
        sampling: "truncated" or "full".
    """
    batch = Batch(rows, masked=rows * cached)
    product = Kernel(2 * role.embedding * rows, role.stream * role.embedding, PRODUCT, role.stream)
    drawing = moving(DRAWING[sampling][1] * FLOAT32 * rows * role.vocabulary, kernels=rows)
    return [*forward(role, batch, adapted, cached), product, drawing]


def reading_memory(role: Role, batch: Batch) -> float:
    """Largest bytes of a forward pass that keeps nothing: in attention or in the MLP of a layer.

    In both, the embedding, what the layer read and its norm are there; in the MLP the sum after attention, too. A
    GPT-2's MLP also finds what attention gave, and GELU's formula has four tensors of its width at once.
    """
    unpacked = Layer(role, batch, adapted=False).largest_product
    states, gate = batch.positions * role.hidden, role.block * batch.positions * role.intermediate
    attention = role.block * batch.positions * (4 * role.queries + 2 * role.keys)
    mlp = role.stream * states + 2 * gate + max(gate, unpacked)
    if role.positions:
        mlp = (role.stream + role.block) * states + max(4 * gate, gate + unpacked)
    return (2 * role.stream + role.block) * states + max(attention, mlp)


def training_memory(role: Role, batch: Batch, dropout: bool, checkpointing: bool) -> float:
    """Largest bytes of a training step besides weights, gradients and moments.

    Without checkpointing every layer keeps what its backward pass reads, and the largest moment is at the last product
    forward, or in the first gate backward. With it, layers keep what they read alone, and one at a time is computed
    again; a GPT-2's gradient of the residual stream then waits in the stream's own precision.
    """
    layer = Layer(role, batch, adapted=True, dropout=dropout)
    states, gate = batch.positions * role.hidden, role.block * batch.positions * role.intermediate
    stream, rounded, unpacked = role.stream * states, role.block * states, layer.largest_product
    if checkpointing:
        waiting = stream if role.positions and role.stream != role.block else 0
        return (role.layers + 1) * stream + layer.kept() + max(stream + rounded + gate + unpacked, 3 * gate + waiting)
    return role.layers * layer.kept() + max(3 * stream + 2 * rounded + gate + unpacked, stream + 3 * gate)


def waiting_memory(role: Role, batch: Batch, dropout: bool, checkpointing: bool) -> float:
    """Bytes of a pass that waits for its backward pass, compared with one that keeps nothing over the same batch."""
    layer = Layer(role, batch, adapted=True, dropout=dropout)
    state = role.stream * role.hidden
    kept = role.layers * (state * batch.positions if checkpointing else layer.kept())
    return kept + state * (batch.positions + batch.scored) + reading_memory(role, batch)


def decode_memory(role: Role, rows: int, length: int, sampling: str) -> dict[str, float]:
    """Bytes by component at the last step of generation, where keys are copied in a layer and one token is drawn."""
    copied = role.cache_bytes / (2 * role.layers) * rows * length
    layer = max(copied, Layer(role, Batch(rows), adapted=False).largest_product)
    drawn = DRAWING[sampling][0] * FLOAT32 * rows * role.vocabulary
    largest = {"logits": drawn} if drawn > layer else {"activations": layer}
    return largest | {"KV cache": role.cache_bytes * rows * length}


def _outside(role: Role, batch: Batch, trained: bool = False) -> list[Kernel]:
    """What is done to the residual stream outside layers: embedding, last norm, and the texts of pairs laid out."""
    states, pairs = role.stream * role.hidden * batch.positions, bool(batch.unmasked)
    ahead = [moving((8 if pairs else 4) * states, OTHER_KERNELS)]
    if not trained:
        return ahead
    return started(ahead, RECORDED) + started([moving((17 if pairs else 3) * states)], BACKWARD)

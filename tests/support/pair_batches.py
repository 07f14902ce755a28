"""Random batches of texts, and what a model computes of them."""

from __future__ import annotations

import numpy as np
import torch
from transformers import PreTrainedModel

from pessimism.models.compute.padding import pad_right


def random_batch(lengths: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and mask of texts of these lengths."""
    generator = np.random.default_rng(1)
    rows = [generator.integers(5, 30, size=length).tolist() for length in lengths]
    return pad_right(rows, 0, torch.device("cpu"))


def watch_widths(model: PreTrainedModel) -> list[tuple[int, int]]:
    """Rows and columns of every pass through the backbone from here on."""
    seen: list[tuple[int, int]] = []
    model.get_input_embeddings().register_forward_pre_hook(lambda _, args: seen.append(tuple(args[0].shape)))
    return seen

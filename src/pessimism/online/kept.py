"""The state of an unfinished online run in a folder: weights, optimiser, and what was measured so far."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file, save_file

from pessimism.experiment import records

TENSORS, MEASURED, SAMPLES = "state.safetensors", "measured.json", "samples.parquet"


@dataclass(frozen=True)
class Measured:
    """The lists that a run fills, which are filled again here."""

    rows: list[dict[str, Any]]
    samples: list[pd.DataFrame]
    rollouts: list[dict[str, Any]]


def save_state(
    folder: Path, measured: Measured, parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Write the state after an update; random streams are not in it, for every step has its own."""
    weights = {f"weight.{index}": parameter.detach() for index, parameter in enumerate(parameters)}
    moments = {
        f"{name}.{index}": tensor
        for index, state in optimizer.state_dict()["state"].items()
        for name, tensor in state.items()
    }
    save_file({name: tensor.contiguous() for name, tensor in (weights | moments).items()}, folder / TENSORS)
    # In the order of their keys, which is that of the tables' columns.
    records.write_text(folder / MEASURED, json.dumps([measured.rows, measured.rollouts]))
    records.write_table(folder / SAMPLES, pd.concat(measured.samples))


def load_state(
    folder: Path, measured: Measured, parameters: Sequence[torch.nn.Parameter], optimizer: torch.optim.Optimizer
) -> None:
    """Set what :func:`save_state` wrote."""
    tensors = load_file(folder / TENSORS)
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in tensors.items():
        name, index = key.rsplit(".", 1)
        states.setdefault(int(index), {})[name] = tensor
    with torch.no_grad():
        for place, parameter in enumerate(parameters):
            parameter.copy_(states[place].pop("weight"))
    optimizer.load_state_dict(optimizer.state_dict() | {"state": states})
    rows, rollouts = json.loads((folder / MEASURED).read_text(encoding="utf-8"))
    measured.rows.extend(rows)
    measured.rollouts.extend(rollouts)
    measured.samples.append(records.read_table(folder / SAMPLES))

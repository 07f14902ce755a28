"""How many processes can share an online batch, asked before anything is trained."""

from __future__ import annotations

from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.machine import processes
from pessimism.online.hyperparameters import online_batch_size


def check_processes(params: Params) -> None:
    """Refuse more processes than an online batch has responses.

    The launcher is part of the commands of all stages that train: refused by the last of them, it would cost the
    training of the others.

    Raises:
        ParamsError: there are more.
    """
    parameters = records.read_json(layout.base_record("policy"))["parameters"]
    smallest = min(online_batch_size(params.scale, parameters), params.scale.tasks.heldout)
    if processes.count() > smallest:
        raise ParamsError(
            f"params.yaml: launcher: found {processes.count()} processes; expected at most {smallest}, the "
            "rows of the smallest online batch, which they share too: lower --num_processes"
        )

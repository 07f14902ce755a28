"""Whether processes and prompts divide an online batch as they must, asked before anything is trained."""

from __future__ import annotations

from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.machine import processes
from pessimism.online.hyperparameters import online_batch_size
from pessimism.online.objective import find_objective


def check_processes(params: Params) -> None:
    """Refuse more processes than an online batch has responses, and a batch that does not hold whole prompts.

    The launcher is part of the commands of all stages that train: refused by the last of them, it would cost the
    training of the others.

    Raises:
        ParamsError: there are more, or the objective's responses to a prompt do not divide the batch.
    """
    parameters = records.read_json(layout.base_record("policy"))["parameters"]
    batch_size = online_batch_size(params.scale, parameters)
    samples = find_objective(params.online.objective).samples_per_prompt
    if batch_size % samples:
        raise ParamsError(
            f"{layout.scale_file(params.scale_name)}: online.batch_size: found {batch_size} responses; expected a "
            f"multiple of {samples}, which the objective {params.online.objective} draws to each prompt"
        )
    smallest = min(batch_size, params.scale.tasks.heldout)
    if processes.count() > smallest:
        raise ParamsError(
            f"params.yaml: launcher: found {processes.count()} processes; expected at most {smallest}, the "
            "rows of the smallest online batch, which they share too: lower --num_processes"
        )

"""Whether an online batch has its prompts and every process its share, asked before anything is trained."""

from __future__ import annotations

from pessimism.errors import ParamsError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params
from pessimism.machine import processes
from pessimism.online.hyperparameters import online_batch_size
from pessimism.online.objective import find_objective


def check_processes(params: Params) -> None:
    """Refuse more processes than an online batch has responses, and a batch that has too few prompts or parts of them.

    The launcher is part of the commands of all stages that train: refused by the last of them, it would cost the
    training of the others.

    Raises:
        ParamsError: there are more, the objective's responses to a prompt do not divide the batch, or there are fewer
            problems than prompts of a batch.
    """
    parameters = records.read_json(layout.base_record("policy"))["parameters"]
    batch_size = online_batch_size(params.scale, parameters)
    _check_problems(params, prompts_of_batch(params, batch_size))
    smallest = min(batch_size, params.scale.tasks.heldout)
    if processes.count() > smallest:
        raise ParamsError(
            f"params.yaml: launcher: found {processes.count()} processes; expected at most {smallest}, the "
            "rows of the smallest online batch, which they share too: lower --num_processes"
        )


def prompts_of_batch(params: Params, batch_size: int) -> int:
    """Different prompts of an online batch of ``batch_size`` responses.

    Raises:
        ParamsError: the objective's responses to a prompt do not divide the batch.
    """
    samples = find_objective(params.online.objective).samples_per_prompt
    if batch_size % samples:
        raise ParamsError(
            f"{layout.scale_file(params.scale_name)}: online.batch_size: found {batch_size} responses; expected a "
            f"multiple of {samples}, which the objective {params.online.objective} draws to each prompt"
        )
    return batch_size // samples


def _check_problems(params: Params, prompts: int) -> None:
    """Compare the problems of the online phase with the prompts of a batch, which are all different.

    They lie here wherever the whole pipeline runs. A job that runs the cells of another stage may be without them.
    """
    split = params.protocol.prompt_split
    problems = layout.tasks(split)
    if problems.is_file() and (found := records.row_count(problems)) < prompts:
        raise ParamsError(
            f"{layout.scale_file(params.scale_name)}: online.batch_size: found batches of {prompts} prompts; expected "
            f"at most {found}, the problems in {problems}: lower it, or raise tasks.{split}_limit"
        )

"""What `make reproduce` checks and says before DVC starts."""

from __future__ import annotations

import argparse

from pessimism.checks import preflight
from pessimism.checks.launcher import check_launcher
from pessimism.commands import plan
from pessimism.errors import PessimismError
from pessimism.experiment import layout
from pessimism.experiment.params import Params, load_params
from pessimism.experiment.switches import protocol_sentence
from pessimism.machine import running


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", help="scale to check (default: that of params.yaml)")


def run(options: argparse.Namespace) -> None:
    params = load_params(scale=options.scale)
    preflight.check(params)
    check_launcher(params.launcher)
    running.check_none(layout.STAGE_LOCKS)
    print(_design(params))
    if params.scale.device == "cuda":
        print(_hours(params))


def _design(params: Params) -> str:
    return (
        f"parameters are usable: scale {params.scale_name}, {protocol_sentence(params)}, "
        f"{len(params.labels)} betas x {len(params.seeds)} seeds x {len(params.arms)} arms, "
        f"{len(params.ensemble_members)} reward models per seed, aggregation {params.aggregation}"
    )


def _hours(params: Params) -> str:
    """The planned hours, which are many where the scale needs a GPU. They decide nothing, so a run goes on without."""
    try:
        return plan.brief(params.scale_name)
    except PessimismError as error:
        return f"no plan of the hours, and a run goes on without one: {error}"

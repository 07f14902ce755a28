"""How every stage starts and ends, so that a script says no more than what is its own."""

from __future__ import annotations

import pessimism.machine.libraries  # noqa: F401

import gc
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

from pessimism.checks import startup
from pessimism.errors import PessimismError, ending_on_errors, without_traceback
from pessimism.experiment import layout, records, switches
from pessimism.experiment.cells import Cell
from pessimism.experiment.params import load_params
from pessimism.machine import hand_over, processes, running

Compute = Callable[..., None]
Parse = Callable[[str | None], Cell]

# For what a script still imports after this. Nothing that a library makes at import is garbage, and looking for some
# takes a fifth of a stage's start.
sys.excepthook = without_traceback
gc.disable()
ending_on_errors(hand_over.to_resident)


def main(stage: str, parse: Parse | None = None) -> Callable[[Compute], Callable[[], None]]:
    """Make a function of the parameters, and of a cell where there is one, the program of ``stage``.

    The process sees one GPU and is refused what it lacks before anything is loaded. A run that ends well leaves its
    time and memory; an error raised on purpose ends it with a message instead of a traceback.

    Args:
        stage: its name in dvc.yaml.
        parse: reads the cell off the command line and is given the script's docstring; None: the stage runs once.
    """

    def decorated(compute: Compute) -> Callable[[], None]:
        def program() -> None:
            gc.freeze()
            gc.enable()
            processes.use_one_gpu()
            ending_on_errors(lambda: _run(stage, compute, parse))

        return program

    return decorated


def _run(stage: str, compute: Compute, parse: Parse | None) -> None:
    cells = [parse(sys.modules[compute.__module__].__doc__)] if parse else []
    name = "@".join([stage, *(cell.key for cell in cells)])
    with _named(name), _alone(name), records.run_record(stage, *(cell.key for cell in cells)) as record:
        startup.check_stage(stage)
        params = load_params()
        record |= switches.run_record(params)
        compute(params, *cells)


def _alone(name: str) -> AbstractContextManager[None]:
    """The lock of a stage, which the main one of its processes holds."""
    return running.alone(layout.STAGE_LOCKS, name) if processes.is_main() else nullcontext()


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Have errors raised on purpose begin with the cell that they are about."""
    try:
        yield
    except PessimismError as error:
        if "@" in name:
            error.args = (f"{name}: {error}",)
        raise

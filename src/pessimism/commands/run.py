"""An experiment of DVC whose parameters are read first, so that what DVC cannot read ends in a message too.

A list set to one value, as by ``-S seeds=3``, ends plain ``dvc exp run`` before any stage, with "'Value' object is not
iterable". Here the parameters are set in a copy first, and what is refused leaves the working tree as it was.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pessimism.errors import DataError, ParamsError
from pessimism.experiment import layout
from pessimism.experiment.params import load_params


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = "Run an experiment of DVC, as `dvc exp run` with the same options does, if it can be read."
    parser.add_argument(
        "-S",
        "--set-param",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="a parameter of params.yaml; FILE:KEY=VALUE of a file of scales/ or protocols/; again for each",
    )
    parser.add_argument("--name", help="what `dvc exp list` calls it")
    parser.add_argument("--queue", action="store_true", help="queue it; a comma outside of brackets makes a grid")
    parser.add_argument("--temp", action="store_true", help="run it in a directory of its own")


def run(options: argparse.Namespace) -> None:
    check(options.set_param, options.queue)
    given = ["--name", options.name] if options.name else []
    given += [f"--{flag}" for flag in ("queue", "temp") if getattr(options, flag)]
    given += [part for change in options.set_param for part in ("--set-param", change)]
    done = subprocess.run([sys.executable, "-m", "dvc", "exp", "run", *given], check=False)
    if done.returncode:
        raise DataError(f"`dvc exp run` ended with status {done.returncode}; expected 0: what it said stands above")


def check(changes: Sequence[str], queue: bool = False) -> None:
    """Refuse parameters that could not be read.

    Args:
        changes: as ``dvc exp run --set-param`` takes them.
        queue: whether a comma outside of brackets may make a grid.

    Raises:
        ParamsError: a change sets no parameter, or one to what it cannot be.
    """
    from dvc.utils.cli_parse import to_path_overrides
    from dvc.utils.hydra import get_hydra_sweeps

    by_file = to_path_overrides(changes)
    for file in map(Path, by_file):
        if file != layout.PARAMS and (file.parent not in (layout.SCALES, layout.PROTOCOLS) or not file.is_file()):
            raise ParamsError(f"-S {file}: found no such file of parameters; expected one of scales/ or protocols/")
    with _understood(changes):
        grid = get_hydra_sweeps(by_file)
    if len(grid) > 1 and not queue:
        raise ParamsError(
            f"{_spelled(changes)}: found {len(grid)} combinations of values; expected brackets around a list, as in "
            "-S 'seeds=[0,1]', or --queue to run each"
        )
    for point in grid:
        _check_point(changes, point)


def _check_point(changes: Sequence[str], by_file: Mapping[str, Sequence[str]]) -> None:
    from dvc.utils.hydra import apply_overrides

    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copy(layout.PARAMS, root)
        for files in (layout.SCALES, layout.PROTOCOLS):
            shutil.copytree(files, root / files)
        for file, overrides in by_file.items():
            with _understood(changes):
                apply_overrides(root / file, list(overrides))
        load_params(root)


@contextmanager
def _understood(changes: Sequence[str]) -> Iterator[None]:
    """Say what DVC, or Hydra for it, makes nothing of."""
    from dvc.exceptions import InvalidArgumentError
    from hydra.errors import HydraException

    try:
        yield
    except (InvalidArgumentError, HydraException) as error:
        reason = str(error.__cause__ or error).splitlines()[0].removesuffix(".")
        raise ParamsError(
            f"{_spelled(changes)}: {reason}; expected KEY=VALUE, with a key of {layout.PARAMS}, or FILE:KEY=VALUE"
        ) from error


def _spelled(changes: Sequence[str]) -> str:
    return " ".join(f"-S '{change}'" for change in changes)

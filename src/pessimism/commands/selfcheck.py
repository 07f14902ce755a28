"""Trials of the measuring instrument itself on the project's current models."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from typing import TYPE_CHECKING

from pessimism.errors import DataError, PessimismError
from pessimism.experiment.params import load_params

if TYPE_CHECKING:
    from pessimism.selfcheck.checks import Check
    from pessimism.selfcheck.finding import Finding
    from pessimism.selfcheck.instrument import Instrument

LINE = "{result}  {name}: {figure} (criterion: {criterion})"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--scale", help="scale of the models in models/ (default: that of params.yaml)")


def run(options: argparse.Namespace) -> None:
    for line in selfcheck(options.scale):
        print(line, flush=True)


def selfcheck(scale: str | None = None) -> Iterator[str]:
    """Run every check; yield its line as soon as it is done.

    Args:
        scale: name of the scale whose models are in models/; None = that of params.yaml.

    Raises:
        ParamsError: the parameters are not usable.
        DataError: an output that is needed is missing, or, at the end, a check failed.
        SourceError: the models in models/ are not those of the scale.
    """
    from pessimism.selfcheck.checks import CHECKS
    from pessimism.selfcheck.instrument import load_instrument

    instrument = load_instrument(load_params(scale=scale))
    failed = []
    for name, check in CHECKS.items():
        finding = _tried(check, instrument)
        if not finding.passed:
            failed.append(name)
        result = "pass" if finding.passed else "FAIL"
        yield LINE.format(result=result, name=name, figure=finding.figure, criterion=finding.criterion)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(CHECKS)} checks failed ({', '.join(failed)}); expected all to pass: results of "
            "these models say nothing until they do"
        )
    yield f"{len(CHECKS)} of {len(CHECKS)} checks passed"


def _tried(check: Check, instrument: Instrument) -> Finding:
    """What ``check`` found; an error that the project raises on purpose is a failed check, and the others go on."""
    from pessimism.selfcheck.finding import Finding

    try:
        return check(instrument)
    except PessimismError as error:
        return Finding(f"could not be measured: {error}", "a figure", passed=False)

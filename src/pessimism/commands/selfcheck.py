"""Trials of the measuring instrument itself on the project's current models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import yaml

from pessimism.errors import DataError, PessimismError
from pessimism.experiment import layout
from pessimism.experiment.params import Params, load_params

if TYPE_CHECKING:
    from pessimism.selfcheck.checks import Check
    from pessimism.selfcheck.finding import Finding
    from pessimism.selfcheck.instrument import Instrument

LINE = "{result}  {name}: {figure} (criterion: {criterion})"


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

    instrument = load_instrument(params_of(scale))
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


def params_of(scale: str | None) -> Params:
    """The project's parameters, with another scale than params.yaml names where one is given."""
    if scale is None or not layout.PARAMS.is_file():
        return load_params()
    with TemporaryDirectory() as directory:
        root = Path(directory)
        for folder in (layout.SCALES, layout.PROTOCOLS):
            (root / folder).symlink_to(folder.absolute())
        design = yaml.safe_load(layout.PARAMS.read_text(encoding="utf-8"))
        (root / layout.PARAMS).write_text(yaml.safe_dump(design | {"scale": scale}), encoding="utf-8")
        return load_params(root)

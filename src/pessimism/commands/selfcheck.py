"""Trials of the measuring instrument itself on the project's current models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TypeAlias

from pessimism.errors import DataError, PessimismError
from pessimism.experiment.params import load_params

if TYPE_CHECKING:
    from pessimism.selfcheck.instrument import Finding, Instrument

    Check: TypeAlias = Callable[[Instrument], Finding]

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
    from pessimism.selfcheck.instrument import load_instrument

    instrument, tried, failed = load_instrument(load_params(scale=scale)), checks(), []
    for name, check in tried.items():
        finding = _tried(check, instrument)
        if not finding.passed:
            failed.append(name)
        result = "pass" if finding.passed else "FAIL"
        yield LINE.format(result=result, name=name, figure=finding.figure, criterion=finding.criterion)
    if failed:
        raise DataError(
            f"{len(failed)} of {len(tried)} checks failed ({', '.join(failed)}); expected all to pass: results of "
            "these models say nothing until they do"
        )
    yield f"{len(tried)} of {len(tried)} checks passed"


def checks() -> dict[str, Check]:
    """Every check, in the order in which they are run: the planted hack trains the policy, so it comes last."""
    from pessimism.selfcheck import hacking, policy, rewards

    return {
        "KL at step 0": policy.check_kl_at_start,
        "score invariance": rewards.check_score_invariance,
        "saved members": rewards.check_saved_member,
        "response logps": policy.check_response_logps,
        "kept mass": policy.check_kept_mass,
        "answer extractor": rewards.check_answers,
        "placebo gap": hacking.check_placebo,
        "planted hack": hacking.check_planted_hack,
    }


def _tried(check: Check, instrument: Instrument) -> Finding:
    """What ``check`` found; an error that the project raises on purpose is a failed check, and the others go on."""
    from pessimism.selfcheck.instrument import Finding

    try:
        return check(instrument)
    except PessimismError as error:
        return Finding(f"could not be measured: {error}", "a figure", passed=False)

"""Comparison of the metrics in the working tree with the committed ones, for users on other machines.

On one machine the pipeline is repeatable to the last digit. Another processor or library build rounds differently, and
training on sampled responses amplifies that, so every metric has a tolerance of its own kind.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pessimism.commands.cache import check_cache
from pessimism.commands.table import aligned
from pessimism.errors import DataError
from pessimism.experiment import layout, pipeline, records
from pessimism.experiment.params import load_params
from pessimism.experiment.yaml_files import parse_yaml
from pessimism.reporting.tables import leaves

FILES = (layout.BETA_GRID, layout.ENSEMBLE, layout.BASE_METRICS, layout.HACKING, layout.POWER_LAW)
EXACT_FILES = (*FILES, layout.CLAIMS, layout.MECHANISM, layout.VARIANCE, layout.EQUAL_KL)
"""Verdicts and what they rest on have no tolerance: other rounding may turn one."""


@dataclass(frozen=True)
class Tolerance:
    """Accepted difference: ``absolute`` (in the metric's own unit) plus ``relative`` times the committed value."""

    pattern: str
    absolute: float
    relative: float
    reason: str

    def __str__(self) -> str:
        return "any" if math.isinf(self.absolute) else f"{self.absolute:g} + {self.relative:.0%}"

    def accepts(self, here: float, committed: float) -> bool:
        return abs(here - committed) <= self.absolute + self.relative * abs(committed)


_COUNT = "a count"
_TRAINED = "a training that was repeated with other rounding"
_ZERO = "a reward model's zero is arbitrary and moves from training to training"
_SAMPLED = "a mean over sampled responses"
_KL = "a mean of few log-ratios with long tails"
_RATIO = "divided by a first batch mean that may be near 0"
_AREA = "adds up the gaps of few runs, small ones included"
_ORDER = "an order or a threshold of numbers that have tolerances"
_FIT = "three parameters on few points"

# The first pattern that matches `file: key` decides. An infinite tolerance says that the number is shown, not compared.
# Those of hacking.json: five committed default runs, of other code and machines, differed by up to 0.06 in the true
# excess, 0.22 in the proxy's and 0.31 in the divergence. The proxy's is below its value at the smallest beta, so that a
# run that trained nothing online is noticed. The others are at least twice what a change of instruction set
# (ATEN_CPU_CAPABILITY=default) did to an earlier default run.
TOLERANCES = (
    Tolerance("*: *pairs", 0, 0, _COUNT),
    Tolerance("*: prompts", 0, 0, _COUNT),
    Tolerance("beta_grid.json: *median_delta", 0.5, 0.10, _TRAINED),
    Tolerance("beta_grid.json: *", 0.05, 0.15, _TRAINED),
    Tolerance("ensemble.json: *", 0.10, 0, _TRAINED),
    Tolerance("base.json: true_reward*", 0.12, 0, _SAMPLED),
    Tolerance("base.json: run_on_fraction", 0.05, 0, _SAMPLED),
    Tolerance("base.json: response_length", 2.0, 0.10, _SAMPLED),
    Tolerance("base.json: *entropy", 0.02, 0.10, _TRAINED),
    Tolerance("base.json: *proxy_reward_sd", 0.05, 0.25, _TRAINED),
    Tolerance("base.json: *proxy_reward", 0.75, 0, _ZERO),
    Tolerance("hacking.json: heldout_true_excess.*", 0.10, 0, _SAMPLED),
    Tolerance("hacking.json: heldout_proxy_excess.*", 0.25, 0, _SAMPLED),
    Tolerance("hacking.json: final_kl_k1", 0.35, 0, _KL),
    Tolerance("hacking.json: true_sd_smoothed", 0, 0, _COUNT),
    Tolerance("hacking.json: augc.*", math.inf, 0, _RATIO),
    Tolerance("hacking.json: controlled_signed_augc_excess.*", math.inf, 0, _AREA),
    Tolerance("hacking.json: *", math.inf, 0, _ORDER),
    Tolerance("power_law.json: *", math.inf, 0, _FIT),
)
EXACT = Tolerance("*", 0, 0, "the same machine")


@dataclass(frozen=True)
class Comparison:
    """One metric here and in the commit; None where it is absent."""

    name: str
    here: Any
    committed: Any
    tolerance: Tolerance

    @property
    def agrees(self) -> bool:
        if _is_number(self.here) and _is_number(self.committed):
            return self.tolerance.accepts(self.here, self.committed)
        return math.isinf(self.tolerance.absolute) or bool(self.here == self.committed)


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--revision", default="HEAD", help="Git revision to compare with (default: HEAD)")
    parser.add_argument("--cache", action="store_true", help="read this run's objects in DVC's cache, no metrics")
    parser.add_argument("--exact", action="store_true", help="accept no difference: for CPUs of one kind")


def run(options: argparse.Namespace) -> None:
    print(check_cache() if options.cache else verify(options.revision, options.exact))


def verify(revision: str, exact: bool = False) -> str:
    """Compare every metric; return the table of all.

    Args:
        revision: Git revision whose metrics are the standard.
        exact: accept no difference at all, as on a CPU of the kind that computed the committed run.

    Raises:
        DataError: a metric is outside its tolerance, a file is missing, the parameters are not the committed ones, or
            metrics/ is not the result of a run here with these parameters.
    """
    _check_parameters(revision)
    _check_run()
    files = EXACT_FILES if exact else FILES
    comparisons = [comparison for path in files for comparison in compare(path, revision, exact)]
    outside = [comparison for comparison in comparisons if not comparison.agrees]
    if outside:
        raise DataError(
            f"{len(outside)} of {len(comparisons)} metrics differ from {revision} by more than their tolerance\n"
            + _table(outside)
        )
    return f"{_table(comparisons)}\n{_agreement(comparisons, revision)}"


def _agreement(comparisons: list[Comparison], revision: str) -> str:
    compared = sum(math.isfinite(comparison.tolerance.absolute) for comparison in comparisons)
    shown = len(comparisons) - compared
    return (
        f"{compared} metrics agree with {revision} within their tolerances; {shown} more are shown, not compared: "
        "one machine's rounding can change them without bound."
    )


def _check_parameters(revision: str) -> None:
    params = load_params()
    files = (layout.PARAMS, layout.scale_file(params.scale_name), layout.protocol_file(params.protocol_name))
    committed = {path: parse_yaml(committed_text(path, revision), f"{revision}:{path}") for path in files}
    here = {path: parse_yaml(path.read_text(encoding="utf-8"), str(path)) for path in files}
    changed = [str(path) for path in files if here[path] != committed[path]]
    if changed:
        raise DataError(
            f"found {', '.join(changed)} changed since {revision}; expected the committed parameters, for other ones "
            f"give other metrics: {_way_back(revision, changed)}"
        )


def _way_back(revision: str, files: list[str]) -> str:
    return "pessimism restore" if revision == "HEAD" else f"git checkout {revision} -- {' '.join(files)}"


def _check_run() -> None:
    """Metrics of a fresh clone are the committed ones, and those of another design say nothing about this one."""
    if not layout.ONLINE_RUNS.is_dir():
        raise DataError(
            f"found no {layout.ONLINE_RUNS}; expected the outputs of a run: without one the metrics here are the "
            "committed files themselves: make reproduce"
        )
    found = set(parse_yaml(layout.LOCK.read_text(encoding="utf-8"), str(layout.LOCK))["stages"])
    expected = set(pipeline.expected_lock_names(load_params()))
    if found != expected:
        raise DataError(
            f"found {len(found - expected)} stages in {layout.LOCK} that {layout.PARAMS} does not list and "
            f"{len(expected - found)} missing; expected the metrics of these parameters: make reproduce"
        )


def compare(path: Path, revision: str, exact: bool) -> list[Comparison]:
    """Compare one metrics file, key by key."""
    here = dict(leaves(records.read_json(path)))
    committed = dict(leaves(json.loads(committed_text(path, revision))))
    names = {key: f"{path.name}: {key}" for key in sorted(here.keys() | committed.keys())}
    return [
        Comparison(name, here.get(key), committed.get(key), EXACT if exact else tolerance(name))
        for key, name in names.items()
    ]


def tolerance(name: str) -> Tolerance:
    """Tolerance of the metric called ``name``.

    Raises:
        DataError: none is stated.
    """
    for candidate in TOLERANCES:
        if fnmatch.fnmatchcase(name, candidate.pattern):
            return candidate
    raise DataError(f"{name}: found no tolerance for this metric; add one to TOLERANCES in {__name__}")


def committed_text(path: Path, revision: str) -> str:
    """Content of ``path`` in a Git revision.

    Raises:
        DataError: there is none.
    """
    command = ["git", "show", "--end-of-options", f"{revision}:./{path.as_posix()}"]
    shown = subprocess.run(command, capture_output=True, text=True, encoding="utf-8", check=False)
    if shown.returncode:
        raise DataError(
            f"found no {path} in Git revision {revision!r}; expected a committed one: {' '.join(shown.stderr.split())}"
        )
    return shown.stdout


def _table(comparisons: list[Comparison]) -> str:
    rows = [
        (
            comparison.name,
            _spell(comparison.here),
            _spell(comparison.committed),
            str(comparison.tolerance),
            comparison.tolerance.reason,
        )
        for comparison in comparisons
    ]
    return aligned([("metric", "here", "committed", "tolerance", "reason"), *rows])


def _spell(value: Any) -> str:
    return f"{value:.6g}" if _is_number(value) else "absent" if value is None else json.dumps(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)

"""Bad inputs by kind, each with what it gets: tables for tests/test_failure_modes.py and docs/failure-modes.md."""

from collections.abc import Mapping, Sequence

from support.failures import commands, logs, pairs, parameters, problems, results, worlds
from support.failures.failure import Failure

FAILURES: Mapping[str, Sequence[Failure]] = {
    "Parameters": parameters.FAILURES,
    "Preference pairs": pairs.FAILURES,
    "Problems": problems.FAILURES,
    "Logs for `pessimism score`": logs.FAILURES,
    "Options and the state of a project": commands.FAILURES,
    "Files of a run": results.FAILURES,
    "Runs judged together": worlds.FAILURES,
}

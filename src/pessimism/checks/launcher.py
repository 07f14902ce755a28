"""Whether the launcher of params.yaml starts a Python script, asked by having it start one."""

from __future__ import annotations

import subprocess

from pessimism.checks import launched
from pessimism.errors import ParamsError

SECONDS = 300.0


def check_launcher(launcher: str) -> None:
    """Start a script that says one line, as DVC starts a stage: the launcher and the script's path, by the shell.

    Not for a stage, which starts no other program.

    Raises:
        ParamsError: the launcher fails or does not end, or starts no Python script, or one without this package.
    """
    found, expected = f"params.yaml: launcher: found {launcher!r}", "a command that starts Python scripts, as python"
    command = f"{launcher} {launched.__file__}"
    try:
        done = subprocess.run(
            command, shell=True, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise ParamsError(f"{found}, which has not ended after {SECONDS:.0f} s; expected {expected} does") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip() or "no message").splitlines()[-1]
        raise ParamsError(f"{found}, which ended with status {done.returncode} ({last}); expected {expected} does")
    if launched.LAUNCHED not in done.stdout:
        raise ParamsError(f"{found}, which started no script; expected {expected} does")

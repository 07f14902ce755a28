"""What a bad input is, how it is made and what it gets."""

from __future__ import annotations

import runpy
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from pessimism import cli
from support.endings import refused
from support.repository import CHECKOUT


@dataclass(frozen=True)
class Failure:
    """One bad input.

    Attributes:
        what: what is wrong.
        make: makes it in the project directory that it is given, which is the working directory too.
        said: a part of the message.
        command: of ``pessimism``, or a stage with its cell, as in ``dvc repro STAGE``.
    """

    what: str
    make: Callable[[Path], object]
    said: str
    command: str = "pessimism check"

    def message(self, project: Path) -> str:
        """Make it, run the command, which must be refused, and return what that says."""
        self.make(project)
        with refused() as refusal:
            run(self.command)
        return refusal.message


def run(command: str) -> None:
    """Run ``pessimism ...``, or the script of ``dvc repro STAGE``, in this process."""
    program, first, *rest = shlex.split(command)
    if program == "pessimism":
        cli.main([first, *rest])
        return
    stage = CHECKOUT / "stages" / f"{rest[0]}.py"
    with mock.patch.object(sys, "argv", [str(stage)]):
        runpy.run_path(str(stage), run_name="__main__")

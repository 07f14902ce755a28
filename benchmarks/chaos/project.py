"""A small project of one's own, the commands that run in it, and the stages that they begin."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from benchmarks import micro
from pessimism.experiment import layout
from pessimism.models import unfinished

TRACE = "CHAOS_TRACE"
"""Environment variable: where stages note that they begin. All processes of a project have it, and no others."""
MODULES = {"dvc": "dvc", "pessimism": "pessimism.cli"}
POLL_SECONDS = 0.005
LONGEST_SECONDS = 900.0
_FINISHED = re.compile(r"^(\S+) finished after", re.M)
_RUNNING = re.compile(r"^Running stage '([^']+)'", re.M)


@dataclass(frozen=True)
class Begun:
    """A stage that began, by its own note."""

    stage: str
    process: int

    def has_ended(self) -> bool:
        try:
            return psutil.Process(self.process).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True


@dataclass(frozen=True)
class Project:
    """A copy of the checkout below ``home``, with a Git history and a cache of its own.

    Attributes:
        home: holds also DVC's state, so that a full disk is full for it, too.
        notes: folder for what is written about the project, on another disk.
    """

    home: Path
    notes: Path

    @property
    def root(self) -> Path:
        return self.home / "project"

    @property
    def trace(self) -> Path:
        return self.notes / "trace"

    @property
    def temporary(self) -> Path:
        """For temporary files of the commands."""
        return self.home / "tmp"

    def environment(self) -> dict[str, str]:
        own = Path(__file__).parent / "traced"
        return {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": f"{self.root / 'src'}{os.pathsep}{own}",
            "DVC_SITE_CACHE_DIR": str(self.home / "site"),
            "DVC_GLOBAL_CONFIG_DIR": str(self.home / "global"),
            "GIT_CONFIG_GLOBAL": str(self.notes / "gitconfig"),
            "TMPDIR": str(self.temporary),
            unfinished.EVERY_SECONDS: "0",
            TRACE: str(self.trace),
        }

    def make(self) -> None:
        """Copy the checkout and commit it at micro size."""
        self.notes.mkdir(parents=True, exist_ok=True)
        (self.notes / "gitconfig").write_text(micro.GIT_USER)
        self.trace.touch()
        self.root.mkdir(parents=True)
        self.temporary.mkdir()
        micro.copy_tracked(self.root)
        micro.make_small(self.root)
        for command in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "design"]):
            self.succeed("git", *command)

    def start(self, command: Sequence[str]) -> Command:
        """Start a command in a process group of its own, as a shell does."""
        log = self.notes / "command.log"
        seen = len(self.begun())
        with log.open("wb") as file:
            process = subprocess.Popen(
                interpreted(command),
                cwd=self.root,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        return Command(self, process, log, seen)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            interpreted(command), cwd=self.root, env=self.environment(), capture_output=True, text=True
        )

    def succeed(self, *command: str) -> str:
        """Run a command; return what it printed.

        Raises:
            RuntimeError: it failed.
        """
        done = self.run(*command)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)} ended with status {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def begun(self) -> list[Begun]:
        """Stages that began, in that order, of all commands."""
        lines = self.trace.read_text().splitlines()
        return [Begun(stage, int(process)) for stage, process in (line.split() for line in lines)]

    def processes(self) -> list[psutil.Process]:
        """What still runs of all that was ever started here."""
        return [process for process in psutil.process_iter() if self._is_own(process)]

    def _is_own(self, process: psutil.Process) -> bool:
        try:
            return process.environ().get(TRACE) == str(self.trace) and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:  # it has ended, or is another user's
            return False


def interpreted(command: Sequence[str]) -> list[str]:
    """A command line of this interpreter for a program that is a module of it."""
    program, *arguments = command
    return [sys.executable, "-m", MODULES[program], *arguments] if program in MODULES else list(command)


@dataclass(frozen=True)
class Command:
    """A command at work in a project.

    Attributes:
        seen: how many stages had begun before.
    """

    project: Project
    process: subprocess.Popen[bytes]
    log: Path
    seen: int

    def printed(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def begun(self) -> list[Begun]:
        return self.project.begun()[self.seen :]

    def finished(self) -> set[str]:
        """Stages that this command ran to their end, by what it printed: of a plain run all but the last."""
        printed = self.printed()
        return {*_FINISHED.findall(printed), *_RUNNING.findall(printed)[:-1]}

    def has_passed(self, stage: str) -> bool:
        """Whether the command says that it has done with a stage."""
        printed = self.printed()
        return f"{stage} finished after" in printed or f"'{stage}' is cached" in printed

    def wait(self, condition: Callable[[], bool]) -> bool:
        """Wait until the condition holds; False where the command ended before.

        Raises:
            TimeoutError: neither came.
        """
        deadline = time.monotonic() + LONGEST_SECONDS
        while not condition():
            if self.process.poll() is not None:
                return False
            if time.monotonic() > deadline:
                raise TimeoutError(f"waited {LONGEST_SECONDS:.0f} s in vain; the command printed:\n{self.printed()}")
            time.sleep(POLL_SECONDS)
        return True

    def end(self) -> int:
        """Wait for its end; return its status."""
        return self.process.wait(LONGEST_SECONDS)


def kept_states(root: Path, stage: str) -> Iterator[Path]:
    """States that cells of a stage have kept."""
    yield from (root / layout.UNFINISHED).glob(f"{stage}@*/{unfinished.STEP}*")


def has_lock_since(root: Path, begun: float) -> bool:
    """Whether a stage has taken its lock after a time in seconds since the epoch."""
    return any(path.stat().st_mtime > begun for path in (root / layout.STAGE_LOCKS).glob("*"))

"""Stages of the pipeline side by side on this machine, each by a process of DVC, once those before it have ended."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from types import FrameType

from pessimism.fanout.dvc_graph import DvcGraph
from pessimism.fanout.dvc_project import DVC, keep_lock
from pessimism.fanout.errors import FanoutError
from pessimism.fanout.warden import Warden, posted

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 20.0
"""What an interrupted stage and its DVC get to end by themselves."""
_SHOWN_LINES = 15


@dataclass(frozen=True)
class _Run:
    """A stage at work."""

    process: subprocess.Popen[bytes]
    log: Path
    started: float
    """By the monotonic clock."""


@dataclass
class _Line:
    """The stages that may start now, and those at work."""

    graph: DvcGraph
    logs: Path
    sorter: TopologicalSorter[str]
    warden: Warden
    ready: list[str] = field(default_factory=list)
    running: dict[str, _Run] = field(default_factory=dict)
    ran: int = 0
    failed: str | None = None

    def next(self) -> str | None:
        """The first stage, in DVC's order, that has to run and may; those before it that need not run are done."""
        while True:
            places = {name: place for place, name in enumerate(self.graph.order)}
            self.ready = sorted([*self.ready, *self.sorter.get_ready()], key=places.__getitem__)
            if not self.ready:
                return None
            name = self.ready.pop(0)
            if self.graph.changed(name):
                return name
            self.sorter.done(name)

    def start(self, name: str) -> None:
        """A process group of its own: a terminal's interrupt is for the driver, which passes it on."""
        log = self.logs / f"{name}.log"
        with log.open("wb") as file:
            process = subprocess.Popen(
                [*DVC, "--wait-for-lock", "repro", "--single-item", name],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.warden.watch(process.pid)
        self.running[name] = _Run(process, log, time.monotonic())

    def ended(self) -> Iterator[str]:
        """Give back the places of stages that have ended; a line of each."""
        for name, run in [*self.running.items()]:
            status = run.process.poll()
            if status is None:
                continue
            del self.running[name]
            self.warden.forget(run.process.pid)
            seconds = time.monotonic() - run.started
            if status:
                self.failed = self.failed or name
                yield f"{name} failed after {seconds:.0f} s"
            else:
                self.ran += 1
                with self.graph.locked():
                    keep_lock()
                self.sorter.done(name)
                yield f"{name} finished after {seconds:.0f} s"

    def stop(self) -> None:
        """Interrupt what is at work and wait for it to end; what does not, or a second interrupt, is killed."""
        try:
            with self.graph.locked():  # nobody is interrupted while it writes dvc.lock
                self._signal(signal.SIGINT)
            deadline = time.monotonic() + _GRACE_SECONDS
            for run in self.running.values():
                run.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            pass
        finally:
            self._signal(signal.SIGKILL)
            for run in self.running.values():
                self.warden.forget(run.process.pid)

    def _signal(self, number: signal.Signals) -> None:
        for run in self.running.values():
            if run.process.poll() is None:
                os.killpg(run.process.pid, number)


def run_all(graph: DvcGraph, jobs: int, logs: Path) -> Iterator[str]:
    """Bring every stage up to date, up to ``jobs`` of them at a time, in DVC's order where there is a choice.

    What has ended is in dvc.lock, whatever becomes of the others. Once a stage fails, no other is started, and those at
    work are waited for.

    Args:
        logs: directory for what each stage prints, one file each.

    Yields:
        lines of progress.

    Raises:
        FanoutError: a stage failed; its message is the end of what it printed.
    """
    logs.mkdir(parents=True, exist_ok=True)
    sorter = TopologicalSorter(graph.upstream)
    sorter.prepare()
    with posted() as warden:
        line = _Line(graph, logs, sorter, warden)
        try:
            with _interrupted_by_signals():
                yield from _worked_off(line, jobs)
        finally:
            if line.running:
                line.stop()
    if line.failed:
        raise FanoutError(_failure(line.failed, logs / f"{line.failed}.log"))
    yield f"{line.ran} of {len(graph.order)} stages ran; the others were up to date"


def _worked_off(line: _Line, jobs: int) -> Iterator[str]:
    """Run what may start until nothing is left, or something has failed and all at work have ended."""
    while line.sorter.is_active() and not (line.failed and not line.running):
        while not line.failed and len(line.running) < jobs and (name := line.next()):
            line.start(name)
            yield f"{name} started"
        if line.running:
            time.sleep(_POLL_SECONDS)
        yield from line.ended()


@contextmanager
def _interrupted_by_signals() -> Iterator[None]:
    """Have a closed terminal and `kill` end the body as Ctrl-C does, so that no stage is left over."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    numbers = [number for number in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(number) is not signal.SIG_IGN]
    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _failure(name: str, log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    return f"{name} failed; no other stage was started, and those that ended are kept. {log} ends with:\n" + "\n".join(
        f"  {text}" for text in lines[-_SHOWN_LINES:]
    )

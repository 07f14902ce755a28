"""A project that is disturbed again and again, and the account of each disturbance."""

from __future__ import annotations

import os
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.chaos import checks, disk
from benchmarks.chaos.plan import (
    AT_WORK,
    BEGINS,
    COMPUTES,
    CORRUPTED,
    FULL_DISK,
    KEEPS,
    KILLED,
    ONE_BY_ONE,
    PLAIN,
    Disturbance,
    stage_of,
)
from benchmarks.chaos.project import Begun, Command, Project, has_lock_since, interpreted, kept_states
from pessimism.models.unfinished import step_of
from pessimism.runs import objects

CACHE = Path(".dvc/cache/files/md5")
IN_CACHE = ("data/", "models/")
"""Where outputs are that DVC's cache holds; those of metrics/ and plots/ are in Git."""
_DAMAGED = re.compile(r"found other bytes in (\S+?)[;\s]")


@dataclass
class Account:
    """What one disturbance cost; lists of names, empty where it cost nothing.

    Attributes:
        missed: its stage had ended before, so that it was not disturbed.
        differing: stages or files whose content is not that of the undisturbed run.
        lost: stages that had finished and ran again.
        orphans: command lines of processes that were left.
        left_over: files and locks that were left to the end.
        stuck: what the same command said where it could not go on, and `pessimism repro` had to.
    """

    disturbance: Disturbance
    missed: bool = False
    differing: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    orphans: list[str] = field(default_factory=list)
    left_over: list[str] = field(default_factory=list)
    stuck: list[str] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        costs = (self.differing, self.lost, self.orphans, self.left_over, self.stuck)
        return not (self.missed or any(costs))


@dataclass
class Disturbed:
    """A project, the undisturbed run that it must equal, and what has been done to it.

    Attributes:
        expected: files of the undisturbed run.
        finished: stages that have ended well.
        left: what was found left over so far, by the disturbance after which it was first seen.
    """

    project: Project
    undisturbed: Project
    expected: set[str]
    accounts: list[Account] = field(default_factory=list)
    finished: set[str] = field(default_factory=set)
    left: dict[str, Account] = field(default_factory=dict)
    differs: set[str] = field(default_factory=set)

    def disturb(self, disturbance: Disturbance) -> Account:
        """Disturb the project so, and mend it where a result was disturbed."""
        account = Account(disturbance)
        if disturbance.kind in AT_WORK:
            self._at_work(account)
        else:
            self._result(account)
        self.accounts.append(account)
        return account

    def _at_work(self, account: Account) -> None:
        disturbance = account.disturbance
        command = self.project.start(self._at_the_stage(disturbance))
        reached = reach(command, disturbance)
        if not reached and command.process.poll():
            command = self._unstuck(command)
            reached = reach(command, disturbance)
        account.missed = not reached
        strike(command, disturbance.kind)
        account.orphans = checks.orphans(self.project)
        if disturbance.kind == FULL_DISK:
            disk.free(self.project.home)
        self._judge(command, self.accounts[-1] if self.accounts else account)
        for name in checks.left_over(self.project, self.expected):
            self.left.setdefault(name, account)

    def _at_the_stage(self, disturbance: Disturbance) -> tuple[str, ...]:
        """The command of the plan, or one that runs the stage again where it has ended beside an earlier one."""
        if disturbance.stage not in self.finished:
            return disturbance.command
        self.finished.discard(disturbance.stage)
        return (*PLAIN, "--force", "--single-item", disturbance.stage)

    def go_on(self) -> None:
        """Run the command of the last disturbance to its end.

        Raises:
            RuntimeError: neither it nor `pessimism repro` goes on.
        """
        account = self.accounts[-1]
        command = self.project.start(account.disturbance.command)
        if command.end():
            command = self._unstuck(command)
            command.end()
        account.orphans += checks.orphans(self.project)
        self._judge(command, account)
        account.differing += checks.differing_files(self.project.root, self.undisturbed.root)

    def _unstuck(self, failed: Command) -> Command:
        """Start what goes on where a command could not; it is accounted to the disturbance before.

        Raises:
            RuntimeError: nothing had been disturbed yet, or `pessimism repro` itself has failed.
        """
        if not self.accounts or failed.process.args == interpreted(ONE_BY_ONE):
            raise RuntimeError(f"found a command that does not go on:\n{failed.printed()}")
        self.accounts[-1].stuck.append(failed.printed()[-2000:])
        self._judge(failed, self.accounts[-1])
        return self.project.start(ONE_BY_ONE)

    def _judge(self, command: Command, last: Account) -> None:
        """Account what a command showed to the disturbance before it."""
        last.lost += checks.lost(self.finished, [begun.stage for begun in command.begun()])
        differing = set(checks.differing(self.project.root, self.undisturbed.root))
        last.differing += sorted(differing - self.differs)
        self.differs |= differing
        self.finished |= command.finished() | checks.lock_entries(self.project.root).keys()

    def _result(self, account: Account) -> None:
        disturbance = account.disturbance
        spoil: Callable[[Project, Disturbance], set[str]] = corrupt if disturbance.kind == CORRUPTED else delete
        again = spoil(self.project, disturbance)
        self.finished -= again
        self.accounts.append(account)
        self.go_on()
        self.accounts.pop()
        for name in checks.left_over(self.project, self.expected):
            self.left.setdefault(name, account)

    def close(self) -> None:
        """Account what is left over at the end."""
        for name in sorted(checks.left_over(self.project, self.expected)):
            self.left.get(name, self.accounts[-1]).left_over.append(name)
        if checks.git_status(self.project) != checks.git_status(self.undisturbed):
            self.accounts[-1].left_over.append("another `git status` than that of the undisturbed run")
        if self.project.run("pessimism", "check").returncode:
            self.accounts[-1].left_over.append("a refusal of `pessimism check`")


def reach(command: Command, disturbance: Disturbance) -> bool:
    """Wait for the moment of a disturbance, at latest the end of the stage.

    Returns:
        False where the command has ended, or has passed the stage without running it.
    """

    def has_begun() -> bool:
        return any(begun.stage == disturbance.stage for begun in command.begun())

    if not command.wait(lambda: has_begun() or command.has_passed(disturbance.stage)) or not has_begun():
        return False
    begun = next(begun for begun in command.begun() if begun.stage == disturbance.stage)
    moment = _moment(command.project.root, begun, disturbance)
    seconds = 0.0 if disturbance.moment == KEEPS else disturbance.amount
    if not command.wait(moment):
        return False
    then = time.monotonic() + seconds
    may_end = disturbance.moment == COMPUTES
    return command.wait(lambda: time.monotonic() >= then or (may_end and begun.has_ended()))


def _moment(root: Path, begun: Begun, disturbance: Disturbance) -> Callable[[], bool]:
    now = time.time()
    before = set(kept_states(root, stage_of(begun.stage)))
    match disturbance.moment:
        case moment if moment == BEGINS:
            return lambda: True
        case moment if moment == COMPUTES:
            return lambda: has_lock_since(root, now) or begun.has_ended()
        case moment if moment == KEEPS:
            return lambda: begun.has_ended() or _has_kept(root, begun, disturbance.amount, before)
        case _:
            return begun.has_ended


def _has_kept(root: Path, begun: Begun, step: float, before: set[Path]) -> bool:
    new = set(kept_states(root, stage_of(begun.stage))) - before
    return any(step_of(state) >= step for state in new)


def strike(command: Command, kind: str) -> None:
    """Do to a command at work what a disturbance is, and wait for its end."""
    if kind == FULL_DISK:
        disk.fill(command.project.home)
    elif command.process.poll() is None:
        os.killpg(command.process.pid, signal.SIGKILL if kind == KILLED else signal.SIGTERM)
    command.end()


def corrupt(project: Project, disturbance: Disturbance) -> set[str]:
    """Turn a bit of an object of the stage's results, as a disk does, and remove what `pessimism verify` finds damaged.

    Returns:
        The stages whose results hold the object: they have to run again.

    Raises:
        RuntimeError: it was not found.
    """
    held = {name: objects_of(project.root, entry) for name, entry in checks.lock_entries(project.root).items()}
    own = sorted(held[disturbance.stage])
    name = own[int(disturbance.choice * len(own))]
    damaged = objects.path_of(project.root / CACHE, name)
    turn_a_bit(damaged)
    told = project.run("pessimism", "verify", "--cache")
    found = [Path(path) for path in _DAMAGED.findall(told.stderr + told.stdout)]
    if told.returncode == 0 or damaged.resolve() not in [path.resolve() for path in found]:
        raise RuntimeError(f"{disturbance}: found {told.stdout}{told.stderr}; expected that it names {damaged}")
    for path in found:
        path.unlink()
    return {stage for stage, names in held.items() if name in names}


def objects_of(root: Path, entry: dict[str, Any]) -> set[str]:
    """Names of the objects of a lock entry's outputs in DVC's cache, those within directories included."""
    outputs = [out for out in entry.get("outs", []) if out["path"].startswith(IN_CACHE)]
    return {name for out in outputs for name in objects.names(root / CACHE, out["md5"])}


def turn_a_bit(path: Path) -> None:
    """Damage a file in place; its size, mode and times stay."""
    status = path.stat()
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.chmod(0o644)
    with path.open("r+b") as file:
        file.write(content)
    path.chmod(status.st_mode & 0o7777)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def delete(project: Project, disturbance: Disturbance) -> set[str]:
    """Remove an output of the stage.

    Returns:
        The stage where DVC's cache does not hold the output, which was to be in Git: it has to run again.
    """
    outputs = [out["path"] for out in checks.lock_entries(project.root)[disturbance.stage]["outs"]]
    name = outputs[int(disturbance.choice * len(outputs))]
    path = project.root / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return set() if name.startswith(IN_CACHE) else {disturbance.stage}

"""Which stage is disturbed when, how, and by which command the run goes on: the same plan for the same seed."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

T = TypeVar("T")

KILLED, TERMINATED, FULL_DISK = "SIGKILL", "SIGTERM", "full disk"
CORRUPTED, DELETED = "corrupted object", "deleted output"
AT_WORK = (KILLED, TERMINATED, FULL_DISK)
"""What meets a stage while it runs."""
AT_REST = (CORRUPTED, DELETED)
"""What meets the result of a stage that has ended."""
KINDS = (*AT_WORK, *AT_REST)

BEGINS = "begins"
"""Its process has started; it still imports what it computes with."""
COMPUTES = "computes"
"""So many seconds after the stage has taken its lock."""
KEEPS = "keeps"
"""The n-th state of a training has been kept: the next run goes on there."""
SAVES = "saves"
"""So many seconds after its process has ended: DVC hashes the outputs, and writes its cache and dvc.lock."""

TRAININGS = ("train_reward_model", "train_dpo", "adapt_online")
FROZEN = "placebo"
"""Arm whose runs train nothing, and so keep nothing."""
PLAIN = ("dvc", "repro")
ONE_BY_ONE = ("pessimism", "repro", "--jobs", "1")
SIDE_BY_SIDE = ("pessimism", "repro", "--jobs", "2")
RESIDENT = "--resident"
ALONE = (PLAIN, ONE_BY_ONE, (*ONE_BY_ONE, RESIDENT))
TOGETHER = (SIDE_BY_SIDE, (*SIDE_BY_SIDE, RESIDENT))
LONGEST_SECONDS = {COMPUTES: 1.5, SAVES: 0.3}
OF_RESULTS = 20


@dataclass(frozen=True)
class Disturbance:
    """One disturbance.

    Attributes:
        stage: name in dvc.lock, with its cell.
        moment: of a stage at work; "ended" of a result.
        amount: seconds after the moment, or which of the kept states.
        command: is disturbed and run again; of a result, what mends it.
        choice: picks among the outputs or objects of a result, from 0 to below 1.
    """

    stage: str
    kind: str
    moment: str
    amount: float
    command: tuple[str, ...]
    choice: float = 0.0

    @property
    def is_of_result(self) -> bool:
        return self.kind in AT_REST

    def __str__(self) -> str:
        when = f"{self.moment} {self.amount:.2f}" if self.amount else self.moment
        return f"{self.stage}: {self.kind}, {when}, {' '.join(self.command)}"


def plan(names: Sequence[str], cached: Sequence[str], seed: int, of_results: int = OF_RESULTS) -> list[Disturbance]:
    """Every stage at work once, in the order in which they run, then results of stages.

    Args:
        names: of all stages, in the order of a run; cells of one stage stand together.
        cached: those of them with an output in DVC's cache.
        of_results: how many results are disturbed, half of them in the cache.
    """
    draw = random.Random(seed)
    at_work = list(zip(names, _dealt(AT_WORK, len(names), draw), _dealt(ALONE, len(names), draw), strict=True))
    moments = iter(_dealt((BEGINS, COMPUTES, SAVES), len(names), draw))
    found = [_at_work(name, kind, command, names, next(moments), draw) for name, kind, command in at_work]
    corrupted = of_results // 2
    targets = draw.sample(list(cached), corrupted)
    targets += draw.sample([name for name in names if name not in targets], of_results - corrupted)
    kinds = [CORRUPTED] * corrupted + [DELETED] * (of_results - corrupted)
    commands = _dealt((PLAIN, ONE_BY_ONE), of_results, draw)
    found += [
        Disturbance(name, kind, "ended", 0.0, command, draw.random())
        for name, kind, command in zip(targets, kinds, commands, strict=True)
    ]
    return found


def _at_work(
    name: str, kind: str, command: tuple[str, ...], names: Sequence[str], moment: str, draw: random.Random
) -> Disturbance:
    """The first of several cells has the next one beside it: their kill is one of two stages."""
    cells = [other for other in names if stage_of(other) == stage_of(name)]
    together = len(cells) > 1 and cells[0] == name
    if together:
        command = draw.choice(TOGETHER)
    if stage_of(name) in TRAININGS and not name.endswith(FROZEN):
        return Disturbance(name, kind, KEEPS, 1 if together else draw.randint(1, 3), command)
    if together and moment == SAVES:
        moment = BEGINS  # by its end the one beside it may have ended, too
    return Disturbance(name, kind, moment, draw.uniform(0, LONGEST_SECONDS.get(moment, 0.0)), command)


def _dealt(options: Sequence[T], count: int, draw: random.Random) -> list[T]:
    """Every option equally often, or once more than others, in random order."""
    cards = [options[number % len(options)] for number in range(count)]
    draw.shuffle(cards)
    return cards


def stage_of(name: str) -> str:
    """The stage of a cell."""
    return name.partition("@")[0]

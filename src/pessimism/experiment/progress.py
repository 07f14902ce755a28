"""How far a stage is, for whoever watches it: a bar on a terminal, plain lines in a log, rows in a file."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any, Self, TypeVar

from tqdm import tqdm

from pessimism.machine import processes

LINES = 20
"""Lines that a stage writes into a log, about: one per so many steps, and one after the first."""

Batch = TypeVar("Batch")

_BAR = "{desc}: {n_fmt}/{total_fmt}, {remaining} left{postfix} {bar}"
"""On a narrow terminal the bar itself is what has no room."""


def in_steps(batches: Sequence[Batch], name: str) -> Iterator[Batch]:
    """``batches`` one after the other, each told of as a step of ``name`` when the caller is done with it."""
    with Progress(name, len(batches)) as progress:
        for done, batch in enumerate(batches, start=1):
            yield batch
            progress.step(done)


class Progress:
    """Steps that are done of so many, told on the standard error by the main process.

    On a terminal they are a bar. Elsewhere a line stands in place of each twentieth of them, and one after the first
    step, from which the time left can be told. Nothing that is computed depends on it.

    Args:
        name: of the stage and its cell.
        steps: of the whole stage.
        rows: file that is given every measured row at once, as a line of JSON; it begins anew. None: no file.
    """

    def __init__(self, name: str, steps: int, rows: Path | None = None) -> None:
        self._name, self._steps, self._path = name, steps, rows
        self._done = self._begun = self._tokens = 0
        self._start = time.perf_counter()
        self._file: IO[str] | None = None
        self._bar: tqdm | None = None

    def __enter__(self) -> Self:
        self.begin()
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    def begin(self) -> None:
        """Start the clock, empty the file, show the bar."""
        self._start = time.perf_counter()
        if processes.is_main() and self._path is not None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._path.open("w", encoding="utf-8")
        if processes.is_main() and sys.stderr.isatty():
            looks = {"bar_format": _BAR, "mininterval": 1, "dynamic_ncols": True}
            self._bar = tqdm(total=self._steps, desc=self._name, **looks)

    def end(self) -> None:
        """Close the file and the bar."""
        for opened in (self._file, self._bar):
            if opened is not None:
                opened.close()

    def drew(self, tokens: int) -> None:
        """Count tokens that were sampled."""
        self._tokens += tokens

    def measured(self, row: Mapping[str, Any]) -> None:
        """Append a row to the file, in one go: a run that is killed leaves whole lines.

        Added are ``steps`` of the whole run, ``seconds`` since it began or went on, and the tokens that it sampled per
        second.
        """
        if self._file is not None:
            passed = {"seconds": round(self._seconds, 1), "tokens_per_second": round(self._speed, 1)}
            self._file.write(json.dumps({**row, "steps": self._steps, **passed}) + "\n")
            self._file.flush()

    def step(self, done: int, **shown: str) -> None:
        """Tell that ``done`` steps are, 1 or more, with what is known of the last."""
        if self._tokens:
            shown["tokens/s"] = f"{self._speed:.0f}"
        before, self._done = self._done, done
        if before == 0:
            self._begun = done - 1  # more than 0 where a run goes on that was ended
        if self._bar is not None:
            self._bar.initial = self._begun
            self._bar.set_postfix(shown, refresh=False)
            self._bar.update(done - before)
        elif processes.is_main() and self._is_told(before, done):
            print(self._line(shown), file=sys.stderr, flush=True)

    def _is_told(self, before: int, done: int) -> bool:
        every = math.ceil(self._steps / LINES)
        return before == 0 or done // every > before // every or done == self._steps

    def _line(self, shown: Mapping[str, str]) -> str:
        each = self._seconds / (self._done - self._begun)
        left = tqdm.format_interval(each * (self._steps - self._done))
        values = [f"{name} {value}" for name, value in shown.items()]
        return ", ".join([f"{self._name}: step {self._done} of {self._steps}", *values, f"{left} left"])

    @property
    def _seconds(self) -> float:
        return time.perf_counter() - self._start

    @property
    def _speed(self) -> float:
        """Tokens per second since the start."""
        return self._tokens / max(self._seconds, 1e-9)

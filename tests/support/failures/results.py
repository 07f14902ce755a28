"""Files of a run that are missing, damaged or another's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from pessimism.experiment import layout, records
from pessimism.experiment.cells import OnlineCell
from support.failures.failure import Failure
from support.synthetic_project import Invented, write_project

CELL = OnlineCell("p20", 0, "proxy")
_SAMPLES, _STEPS = layout.heldout_samples(CELL), layout.trajectory(CELL)


def _finished(what: str, spoil: Callable[[], object], said: str) -> Failure:
    """In a run of two cells that has come to its scores."""

    def make(project: Path) -> None:
        write_project(project, Invented(percentiles=(20,), seeds=(0,)))
        spoil()

    return Failure(what, make, said, "dvc repro score_hacking")


def _table(what: str, change: Callable[[pd.DataFrame], pd.DataFrame], said: str) -> Failure:
    def spoil() -> None:
        records.write_table(_SAMPLES, change(records.read_table(_SAMPLES)))

    return _finished(what, spoil, f"{_SAMPLES}: {said}")


def _bytes(what: str, path: Path, change: Callable[[bytes], bytes], said: str) -> Failure:
    return _finished(what, lambda: path.write_bytes(change(path.read_bytes())), said)


def _by_another_program() -> None:
    pd.read_parquet(_SAMPLES)[:-1].to_parquet(_SAMPLES, index=False)


_OTHER = "found other problems at the steps [0] than the 64 of data/base_samples.parquet"

FAILURES = [
    _table("evaluations at other steps", lambda table: table.assign(step=table["step"] + 1), "found other problems"),
    _table(
        "an infinite disagreement",
        lambda table: table.assign(ensemble_std=-np.inf),
        "found values that are not finite in ['ensemble_std']",
    ),
    _finished("an online run is missing", _STEPS.unlink, f"{_STEPS} is missing; run `dvc repro`"),
    _finished("the samples of a run are missing", _SAMPLES.unlink, f"{_SAMPLES} is missing; run `dvc repro`"),
    _finished("the probes of a checkpoint are missing", layout.probe(CELL.dpo).unlink, "is missing; run `dvc repro`"),
    _bytes("probes that are no JSON", layout.probe(CELL.dpo), lambda _: b"{", "is not JSON"),
    _bytes(
        "samples that are cut off", _SAMPLES, lambda content: content[:-20], f"{_SAMPLES} is no whole parquet table"
    ),
    _bytes("an empty file of samples", _SAMPLES, lambda _: b"", f"{_SAMPLES} is no whole parquet table"),
    _bytes(
        "a trajectory with another digit",
        _STEPS,
        lambda content: content.replace(b"1", b"2", 1),
        "the hash that it carries",
    ),
    _bytes("a trajectory in UTF-16", _STEPS, lambda content: content.decode().encode("utf-16"), f"{_STEPS}"),
    _finished(
        "samples written by another program", _by_another_program, "expected it to carry its hash, and it has none"
    ),
    _table("a held-out problem is missing", lambda table: table[1:], _OTHER),
    _table("a held-out problem stands twice", lambda table: pd.concat([table, table[:1]]), _OTHER),
    _table(
        "a problem of another set",
        lambda table: table.replace({"task_id": {"train-0": "foreign-0"}}),
        "found other problems",
    ),
    _table("an evaluation is missing", lambda table: table[table["step"] > 0], _OTHER),
    _table(
        "a reward that is no number",
        lambda table: table.assign(proxy_reward=np.nan),
        "found values that are not finite in ['proxy_reward']",
    ),
    _table(
        "an infinite reward",
        lambda table: table.assign(true_reward=np.inf),
        "found values that are not finite in ['true_reward']",
    ),
    _table(
        "samples of another run",
        lambda table: table.assign(proxy_reward=table["proxy_reward"] + 0.1),
        "found means of ['proxy_reward']",
    ),
]

"""What tells how far a stage is: a bar, lines, rows in a file; and that no result depends on it."""

from __future__ import annotations

import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch

from pessimism.experiment import layout, progress
from pessimism.experiment.params import Params
from pessimism.experiment.progress import Progress, in_steps
from pessimism.online import loop
from support.online_world import make_run
from support.pair_training import train_policy, write_reference
from support.repository import CHECKOUT

ROWS = Path("run_records/p50-s0-proxy.jsonl")
ROW = {"step": 0, "prompt_set": "batch", "proxy_reward": 1.0}
TIMES = ["steps", "seconds", "tokens_per_second"]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def written(path: Path = ROWS) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.parametrize(("steps", "every"), [(1, 1), (3, 1), (20, 1), (24, 2), (41, 3), (165, 9)])
def test_a_log_is_given_a_line_per_so_many_steps(steps: int, every: int, capsys: pytest.CaptureFixture[str]) -> None:
    with Progress("train_dpo p50-s0", steps) as shown:
        for done in range(1, steps + 1):
            shown.step(done, loss="0.6931")
    printed = capsys.readouterr().err
    found = [int(step) for step in re.findall(r"^train_dpo p50-s0: step (\d+) of", printed, re.M)]
    assert found == sorted({1, steps, *range(every, steps, every)})
    assert "\r" not in printed and printed.endswith("loss 0.6931, 00:00 left\n")


def test_a_line_says_how_long_it_will_be_in_a_run_that_goes_on(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    times = iter([0.0, 0.0, 10.0, 10.0])
    monkeypatch.setattr(progress.time, "perf_counter", lambda: next(times))
    with Progress("adapt_online p50-s0-proxy", 8) as shown:
        shown.drew(500)
        shown.step(2, proxy="1.5", true="0.25", KL="0.01")
    assert capsys.readouterr().err == (
        "adapt_online p50-s0-proxy: step 2 of 8, proxy 1.5, true 0.25, KL 0.01, tokens/s 50, 01:00 left\n"
    ), "it has done the second step alone, in 10 s, and six are left"


def test_a_terminal_is_given_a_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("train_dpo p50-s0", 2) as shown:
        shown.step(1, loss="0.6931")
        shown.step(2, loss="0.5")
    last = terminal.getvalue().split("\r")[-1]
    assert last.startswith("train_dpo p50-s0: 2/2, 00:00 left, loss=0.5 ")


def test_batches_are_told_of_when_they_are_done(capsys: pytest.CaptureFixture[str]) -> None:
    told = [capsys.readouterr().err.count("\n") for _ in in_steps("abc", "warm start")]
    assert told == [0, 1, 1]
    last = capsys.readouterr().err
    assert last.startswith("warm start: step 3 of 3, ") and last.endswith(" left\n")


def test_rows_are_there_as_soon_as_they_are_measured_and_a_rerun_begins_anew() -> None:
    for values in ((1.0, 2.0), (3.0,)):
        with Progress("adapt_online p50-s0-proxy", 2, ROWS) as shown:
            for count, value in enumerate(values, 1):
                shown.measured({**ROW, "proxy_reward": value})
                assert [row["proxy_reward"] for row in written()] == list(values[:count])
    (row,) = written()
    assert ROW.keys() | set(TIMES) == row.keys() and row["steps"] == 2


KILLED = """
import os, signal
from pathlib import Path
from pessimism.experiment.progress import Progress
with Progress("a stage", 9, Path("rows.jsonl")) as shown:
    for step in range(5):
        shown.measured({"step": step, "text": "x" * 500})
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_run_leaves_whole_lines() -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], env={**os.environ, "PYTHONPATH": str(CHECKOUT / "src")})
    assert done.returncode == -signal.SIGKILL
    assert [row["step"] for row in written(Path("rows.jsonl"))] == list(range(5))


def test_of_several_processes_the_main_one_tells(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ROWS.parent.mkdir()
    ROWS.write_text("of the main process\n")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Progress("adapt_online p50-s0-proxy", 2, ROWS) as shown:
        shown.measured(ROW)
        shown.step(1, proxy="1.0")
    assert ROWS.read_text() == "of the main process\n" and capsys.readouterr().err == ""


class Untold(Progress):
    """Progress that nobody sees."""

    def begin(self) -> None: ...
    def end(self) -> None: ...
    def drew(self, tokens: int) -> None: ...
    def measured(self, row: object) -> None: ...
    def step(self, done: int, **shown: str) -> None: ...


@pytest.mark.parametrize("arm", ["proxy", "placebo"])
def test_a_run_that_is_watched_is_the_same(trained_world: Params, monkeypatch: pytest.MonkeyPatch, arm: str) -> None:
    """Its rows, what they are made of, and its weights, byte for byte; what is watched are its rows."""
    watched = make_run(trained_world, arm)
    watched.live_rows = layout.live_rows(watched.cell)
    watched.train()
    monkeypatch.setattr(loop, "Progress", Untold)
    alone = make_run(trained_world, arm)
    alone.train()
    assert pd.DataFrame(watched.rows).to_csv() == pd.DataFrame(alone.rows).to_csv()
    assert pd.concat(watched.samples).to_csv() == pd.concat(alone.samples).to_csv()
    assert watched.rollouts == alone.rollouts
    weights = alone.model.state_dict()
    assert all(torch.equal(weight, weights[name]) for name, weight in watched.model.state_dict().items())
    seen = sorted(written(watched.live_rows), key=lambda row: row["step"])
    assert [{name: value for name, value in row.items() if name not in TIMES} for row in seen] == alone.rows
    assert all(row["steps"] == 3 and row["tokens_per_second"] > 0 for row in seen)


def test_a_run_tells_its_steps_and_counts_every_token(
    trained_world: Params, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of batches that are not measured too."""
    run = make_run(trained_world, measure_every=2)
    run.train()
    lines = capsys.readouterr().err.splitlines()
    told = [line for line in lines if line.startswith("adapt_online p50-s0-proxy: step ")]
    assert [line.partition(",")[0][-6:] for line in told] == ["1 of 3", "2 of 3", "3 of 3"]
    batch = [row for row in run.rows if row["prompt_set"] == "batch"][-1]
    assert f"proxy {batch['proxy_reward']:.3g}, true {batch['true_reward']:.3g}, KL {batch['kl_k3']:.3g}" in told[-1]
    measured = sum(row["tokens"] for row in run.rows)
    assert measured < run._progress._tokens <= measured + 6 * trained_world.scale.lengths.response


def test_a_training_tells_its_steps_with_their_loss(tiny_world: Params, capsys: pytest.CaptureFixture[str]) -> None:
    write_reference(tiny_world)
    _, record = train_policy(tiny_world)
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("train_dpo p50-s0: step ")]
    steps = len(record["losses"])
    assert lines[0].startswith(f"train_dpo p50-s0: step 1 of {steps}, loss {record['losses'][0]:.4f}, ")
    assert lines[-1] == f"train_dpo p50-s0: step {steps} of {steps}, loss {record['losses'][-1]:.4f}, 00:00 left"

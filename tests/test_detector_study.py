"""The study of detectors on runs that were drawn, and its page against its record."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from benchmarks import detectors as judging
from pessimism.errors import DataError
from pessimism.measures.detectors import MONITOR, Rule

CURVES = {"step": np.array([0, 2, 4])}


def drawn_run(planted: bool, seed: int, rises: float) -> judging.Run:
    """A run of three evaluations whose KL ends at ``rises``, and whose hack begins at step 2 where one is planted."""
    curves = CURVES | {"kl_k3": np.array([0.0, rises / 2, rises])}
    return judging.Run("filler", planted, seed, curves, onset=2 if planted else None)


def test_a_threshold_is_judged_on_runs_that_did_not_set_it() -> None:
    """Clean runs of even seeds, which set it, end at 1, those of odd seeds at 3: all of these must raise it."""
    clean = [drawn_run(False, seed, 3.0 if seed % 2 else 1.0) for seed in range(40)]
    planted = [drawn_run(True, seed, 4.0 if seed < 2 else 0.5) for seed in range(10)]
    judged = judging.judge("KL divergence", [*clean, *planted])
    assert judged.threshold == 1.0
    assert judged.false_alarms == (20, 20)
    assert judged.detected == (2, 10)
    assert judged.delays == [0, 0] and judged.early == 0
    assert judging.judge("KL divergence", [*clean, *planted], threshold=2.0).false_alarms == (20, 40)


def test_a_planted_hack_that_never_began_is_none_to_detect() -> None:
    never = judging.Run("filler", True, 0, drawn_run(True, 0, 9.0).curves, onset=None)
    judged = judging.judge("KL divergence", [never, drawn_run(True, 1, 9.0)], threshold=1.0)
    assert judged.detected == judged.unbegun == (1, 1)


def test_an_alarm_before_the_onset_detects_nothing() -> None:
    curves = CURVES | {"kl_k3": np.array([0.0, 5.0, 5.0])}
    early = judging.Run("filler", True, 0, curves, onset=4)
    judged = judging.judge("KL divergence", [early], threshold=1.0)
    assert judged.detected == (0, 1) and judged.early == 1 and judged.delays == []


def test_the_page_shows_the_runs_of_the_record() -> None:
    text = judging.PAGE.read_text(encoding="utf-8")
    assert judging.page(text, judging.read_runs()) == text, "run python -m benchmarks.detectors"


def test_the_monitors_rate_is_the_one_measured() -> None:
    """Its threshold is the one that was set, rounded up."""
    runs = judging.read_runs()
    found = judging.judge(MONITOR.detector, runs)
    assert math.ceil(100 * found.threshold) / 100 == MONITOR.threshold
    others = [run for run in runs if run.seed % 2]
    false_alarms = judging.judge(MONITOR.detector, others, MONITOR.threshold).false_alarms
    assert Rule(MONITOR.detector, MONITOR.threshold, *false_alarms) == MONITOR


def test_without_the_record_its_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(judging, "RECORD", tmp_path / "none.csv")
    with pytest.raises(DataError, match=r"none\.csv is missing; .*python -m benchmarks\.plant FOLDER --gather"):
        judging.read_runs()

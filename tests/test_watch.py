"""`pessimism watch`: online cells while they run, drawn, listed and sent on to a tracker."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pessimism import cli
from pessimism.commands import fanout, trackers, watch
from pessimism.commands.live_cells import LiveCell, ago, looks
from pessimism.commands.prune import left_over_files
from pessimism.experiment import layout
from pessimism.experiment.params import load_params
from pessimism.machine import running
from pessimism.online.stopping import gap_since
from pessimism.reporting.text_panels import HEIGHT, Panel, Series, beside, draw
from support.endings import failure

Row = dict[str, Any]
CELL = "p50-s0-proxy"
STEPS = 4


def row(step: int, prompt_set: str = "heldout", proxy: float = 1.0, true: float = 0.5, kl: float = 0.0) -> Row:
    return {
        "step": step,
        "prompt_set": prompt_set,
        "prompts": 9,
        "proxy_reward": proxy,
        "proxy_reward_sd": 2.0,
        "true_reward": true,
        "kl_k3": kl,
        "steps": STEPS,
        "seconds": 10.0 * (step + 1),
        "tokens_per_second": 512.0,
    }


BEGUN = [row(0), row(0, "batch"), row(1, "batch", 1.5), row(2, proxy=3.0, true=0.25, kl=0.5)]
WHOLE = [*BEGUN, row(2, "batch"), row(3, "batch", kl=0.7), row(4, proxy=5.0, true=0.25, kl=0.9)]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(watch, "PAUSE", 0.01)


def write(rows: list[Row], cell: str = CELL, ending: str = "") -> Path:
    path = layout.RUN_RECORDS / f"{cell}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in rows) + ending)
    return path


def begin(cell: str = CELL, process: int | None = None, seconds_ago: float = 3600) -> None:
    """A stage that took its lock, by this process or another, before this test's rows were written."""
    layout.STAGE_LOCKS.mkdir(parents=True, exist_ok=True)
    since = datetime.now() - timedelta(seconds=seconds_ago)
    lock = layout.STAGE_LOCKS / f"adapt_online@{cell}"
    lock.write_text(f"{os.getpid() if process is None else process} {since.isoformat(' ', 'seconds')}")


@pytest.fixture
def at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process runs the cell, and did so before the rows were written."""
    begin(seconds_ago=0)
    stamp = datetime.now() - timedelta(seconds=5)
    monkeypatch.setattr(running, "began", lambda _, stage: stamp if stage == f"adapt_online@{CELL}" else None)


def ended_process() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


# which cells run


def test_a_stage_is_told_from_its_lock_without_taking_it() -> None:
    assert running.began(layout.STAGE_LOCKS, "a stage") is None
    with running.alone(layout.STAGE_LOCKS, "a stage"):
        since = running.began(layout.STAGE_LOCKS, "a stage")
        assert since is not None and abs((datetime.now() - since).total_seconds()) < 5
        with pytest.raises(running.ResourceError), running.alone(layout.STAGE_LOCKS, "a stage"):
            pass


def test_a_lock_whose_process_has_ended_or_is_another_now_is_no_run() -> None:
    begin(process=ended_process(), seconds_ago=0)
    assert running.began(layout.STAGE_LOCKS, f"adapt_online@{CELL}") is None
    begin(seconds_ago=10**7)  # before this process was born, which has the number of the one that took the lock
    assert running.began(layout.STAGE_LOCKS, f"adapt_online@{CELL}") is None
    (layout.STAGE_LOCKS / "killed as it began").write_text("")
    assert running.began(layout.STAGE_LOCKS, "killed as it began") is None


# what a cell is


def test_a_cell_that_runs_says_how_long_it_will(at_work: None) -> None:
    write(BEGUN, ending='{"step": 2, "prompt_s')
    cell = LiveCell.read(CELL)
    assert (len(cell.rows), cell.done, cell.steps, cell.is_complete) == (4, 2, 4, False)
    assert cell.state() == "running, 00:30 left, last row 0 s ago"  # 30 s for two of four steps and an evaluation


def test_rows_of_an_earlier_run_are_not_shown_while_the_next_one_loads(at_work: None) -> None:
    path = write(WHOLE)
    os.utime(path, (1e9, 1e9))
    assert LiveCell.read(CELL) == LiveCell(CELL, is_running=True)
    assert LiveCell.read(CELL).state() == "running, no row yet"


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        (WHOLE, "finished"),
        (BEGUN, "ended before its last step"),
        (WHOLE[:-1], "ended before its last step"),  # without its last evaluation
        ([row(0), row(4), row(0, "batch")], "ended before its last step"),  # a placebo's evaluations come first
        ([row(0), row(4), row(3, "batch")], "finished"),
    ],
)
def test_a_cell_that_nobody_runs_is_finished_or_ended_before(rows: list[Row], state: str) -> None:
    write(rows)
    assert LiveCell.read(CELL).state() == f"{state}, last row 0 s ago"


def test_the_gap_is_that_of_the_loop_in_units_of_the_checkpoint() -> None:
    write(WHOLE)
    evaluations = [WHOLE[0], WHOLE[3], WHOLE[6]]
    assert LiveCell.read(CELL).gaps == [(now["step"], gap_since(WHOLE[0], now)) for now in evaluations]
    assert LiveCell.read(CELL).gaps[-1][1] == pytest.approx(2.0 + 0.5)
    write([{**WHOLE[0], "proxy_reward_sd": 0.0}, WHOLE[3]])
    assert LiveCell.read(CELL).gaps == []


@pytest.mark.parametrize(
    ("seconds", "told"), [(-1, "0 s"), (59.4, "59 s"), (60, "1 min"), (3600, "1 h"), (86_400 * 9, "9 d")]
)
def test_ages_are_told_in_their_largest_unit(seconds: float, told: str) -> None:
    assert ago(seconds) == told


def test_a_watch_ends_with_the_cell(monkeypatch: pytest.MonkeyPatch) -> None:
    write(BEGUN)
    running_now = iter([datetime.now() - timedelta(seconds=5)] * 2)
    monkeypatch.setattr(running, "began", lambda *_: next(running_now, None))
    assert [cell.is_running for cell in looks(CELL, 0)] == [True, True, False]


def test_a_cell_without_rows_is_refused_with_those_that_have_some() -> None:
    write(WHOLE, "b0.05-s1-placebo")
    assert failure("watch", CELL).endswith("an online cell that runs or has run here: b0.05-s1-placebo")


def test_a_damaged_file_is_named() -> None:
    write(BEGUN[:1], ending="no row\n")
    assert failure("watch", CELL).startswith(f"error: run_records/{CELL}.jsonl is no JSON by lines (Expecting value")


# what is printed


def test_the_list_has_every_cell_with_its_last_evaluation(at_work: None, capsys: pytest.CaptureFixture[str]) -> None:
    write(WHOLE, "p20-s0-proxy")
    write(BEGUN)
    (layout.RUN_RECORDS / "notes.jsonl").write_text("not a cell\n")
    cli.main(["watch"])
    header, first, second, *_ = capsys.readouterr().out.splitlines()
    assert header.split() == ["cell", "step", "proxy", "true", "gap", "KL"]
    assert first.split()[:8] == ["p20-s0-proxy", "4", "of", "4", "5.000", "0.250", "+2.50", "0.900"]
    assert second.split()[:8] == [CELL, "2", "of", "4", "3.000", "0.250", "+1.50", "0.500"]
    assert "finished, last row 0 s ago" in first and "running, 00:30 left" in second


def test_nothing_to_list_is_refused() -> None:
    assert "found no rows of online cells in run_records; expected those of a run" in failure("watch")


def test_a_pipe_is_told_each_evaluation_once_and_the_curves_at_the_end(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stages = iter([(BEGUN, True), (BEGUN, True), (WHOLE, False)])

    def read(key: str) -> LiveCell:
        rows, at_work = next(stages)
        return LiveCell(key, rows, 0.0, at_work)

    monkeypatch.setattr(LiveCell, "read", read)
    cli.main(["watch", CELL])
    printed = capsys.readouterr().out
    assert printed.splitlines()[:3] == [
        f"{CELL}: step 0 of 4: proxy 1.000, true 0.500, gap +0.00, KL 0.000",
        f"{CELL}: step 2 of 4: proxy 3.000, true 0.250, gap +1.50, KL 0.500",
        f"{CELL}: step 4 of 4: proxy 5.000, true 0.250, gap +2.50, KL 0.900",
    ]
    assert printed.count("proxy reward") == 1 and "\x1b" not in printed


def test_a_terminal_is_drawn_over(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write(BEGUN)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "80")
    first, second = LiveCell(CELL, BEGUN, 0.0, True), LiveCell(CELL, WHOLE, 0.0, False)
    monkeypatch.setattr(watch, "looks", lambda *_: iter([first, second]))
    cli.main(["watch", CELL])
    printed = capsys.readouterr().out
    drawn = watch.drawing(first, 80).count("\n") + 1
    assert printed == f"{watch.drawing(first, 80)}\n\x1b[{drawn}A\x1b[J{watch.drawing(second, 80)}\n"


@pytest.mark.parametrize("width", [80, 100, 200])
def test_a_drawing_fits_its_terminal(width: int) -> None:
    rows = [{**line, "steps": 1650, "seconds": 1e6} for line in BEGUN]
    lines = watch.drawing(LiveCell("b0.41-s0-uncertainty_weighted", rows, 3e5, True), width).splitlines()
    assert max(map(len, lines)) <= width and len(lines) < 24


def test_on_a_narrow_terminal_lines_are_cut_and_not_broken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "30")
    watch._redraw(iter([LiveCell(CELL, WHOLE, 0.0)]))
    assert max(map(len, capsys.readouterr().out.splitlines())) == 30


def test_a_panel_puts_points_where_they_are() -> None:
    lines = draw(Panel("gap", [Series(".", [(0, 0.0), (4, 1.0)]), Series("o", [(4, 1.0), (2, 0.5)])]), 4, 20)
    canvas = [line[10:] for line in lines[1 : HEIGHT + 1]]
    assert lines[0].strip() == "gap" and lines[1].startswith("       1 |") and lines[HEIGHT].startswith("       0 |")
    assert canvas[0] == "         o" and canvas[-1].rstrip() == "." and canvas[HEIGHT // 2].strip() == "o"
    assert lines[-1] == "          0        4"


def test_a_panel_has_a_line_at_zero_between_its_values() -> None:
    lines = draw(Panel("gap", [Series("o", [(0, -1.0), (1, 1.0)])], with_zero=True), 1, 20)
    assert [line for line in lines if set(line[10:]) == {"-"}] == [f"       0 |{'-' * 10}", f"{'':8} +{'-' * 10}"]


def test_a_panel_of_one_value_or_none_is_drawn() -> None:
    assert "o" in "".join(draw(Panel("flat", [Series("o", [(0, 2.0)])]), 4, 30))
    assert beside(draw(Panel("", []), 0, 30), draw(Panel("", []), 0, 30))


# what is sent on


class Sent:
    """A package that tracks nothing."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def init(self, project: str, name: str, resume: str, **_: Any) -> Any:
        self.calls.append(("init", project, name, resume))
        return SimpleNamespace(
            log=lambda values, step: self.calls.append((step, values)), finish=lambda: self.calls.append(("finish",))
        )


@pytest.fixture
def trackio(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    package = Sent()
    monkeypatch.setitem(sys.modules, "trackio", package)
    yield package


def test_trackio_is_given_each_row_once_and_a_rerun_as_another_run(trackio: Sent) -> None:
    forwarding = trackers.Forwarding("trackio")
    counts = [forwarding.send(LiveCell(CELL, rows)) for rows in (BEGUN[:1], BEGUN[:3], BEGUN[:3], WHOLE[3:4])]
    assert counts == [1, 2, 0, 1]
    started = [call for call in trackio.calls if call[0] == "init"]
    assert started == [("init", "pessimism", CELL, resume) for resume in ("never", "must", "never")]
    step, values = trackio.calls[1]
    assert step == 0 and values["heldout/proxy_reward"] == 1.0 and values["heldout/seconds"] == 10.0
    assert values["heldout/gap"] == 0.0 and "batch/gap" not in trackio.calls[4][1]
    assert not {"heldout/step", "heldout/steps", "heldout/prompt_set"} & values.keys()
    assert [call[0] for call in trackio.calls if call[0] == "finish"] == ["finish"] * 3


def test_a_watched_cell_is_sent_to_its_end(trackio: Sent, monkeypatch: pytest.MonkeyPatch) -> None:
    write(WHOLE)
    cli.main(["watch", CELL, "--report-to", "trackio"])
    assert [call[0] for call in trackio.calls] == ["init", *(line["step"] for line in WHOLE), "finish"]


def test_all_cells_are_sent_until_the_user_has_seen_enough(
    trackio: Sent, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(WHOLE)

    def slept(_: float) -> None:
        if (layout.RUN_RECORDS / "p80-s0-proxy.jsonl").is_file():
            raise KeyboardInterrupt
        write(BEGUN, "p80-s0-proxy")

    monkeypatch.setattr(watch.time, "sleep", slept)
    cli.main(["watch", "--report-to", "trackio"])
    assert capsys.readouterr().out.splitlines() == [
        "sending rows until Ctrl-C; to see them: trackio show --project pessimism",
        f"{CELL}: 7 row(s) sent, step 4 of 4",
        "p80-s0-proxy: 4 row(s) sent, step 2 of 4",
    ]


def test_a_tracker_that_is_not_installed_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    write(WHOLE)
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert "--report-to trackio: found no package trackio" in failure("watch", CELL, "--report-to", "trackio")


def test_tensorboard_shows_the_last_run_alone() -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    trackers.Forwarding("tensorboard").send(LiveCell(CELL, WHOLE))
    trackers.Forwarding("tensorboard").send(LiveCell(CELL, BEGUN))
    found = EventAccumulator(str(trackers.TENSORBOARD / CELL)).Reload()
    assert [(event.step, event.value) for event in found.Scalars("heldout/proxy_reward")] == [(0, 1.0), (2, 3.0)]


# what else knows the files


def test_rows_of_cells_that_are_no_longer_listed_are_left_over(project: Path) -> None:
    kept, gone = write(WHOLE, "p20-s0-proxy"), write(WHOLE, "p99-s0-proxy")
    found = left_over_files(load_params())
    assert gone in found and kept not in found


def test_a_cell_that_was_fanned_out_brings_its_rows_home(tmp_path: Path) -> None:
    records = tmp_path / "clone" / layout.RUN_RECORDS
    records.mkdir(parents=True)
    for name in (f"{CELL}.jsonl", f"adapt_online@{CELL}.json"):
        (records / name).write_text("of the clone\n")
    fanout._tidy(SimpleNamespace(clone=tmp_path / "clone"))
    assert {path.name for path in layout.RUN_RECORDS.iterdir()} == {f"{CELL}.jsonl", f"adapt_online@{CELL}.json"}

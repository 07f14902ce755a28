"""`pessimism score --follow` and `--fail-on-onset`: logs that are still written, and a status for a run that hacks."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from pessimism import cli
from pessimism.commands.following import GrowingFiles, follow, looks
from pessimism.commands.score import ONSET
from pessimism.errors import DataError
from pessimism.scoring.log_formats import whole_lines
from pessimism.scoring.log_scores import LogDesign
from pessimism.scoring.log_table import LogColumns
from pessimism.scoring.run_log import Log, read_log
from support import endings

DESIGN = LogDesign()
MEANS = LogColumns(proxy_sd=1.0, true_sd=0.5)
HACKING = [(0, 0.0, 0.5), (1, 0.2, 0.5), (2, 0.7, 0.5), (3, 1.5, 0.25)]
"""Steps with both rewards: gaps of 0, 0.2, 0.7 and 2.0 by MEANS."""


def lines(rows: list[tuple[int, float, float]], **more: Any) -> str:
    return "".join(
        json.dumps({"step": step, "proxy_reward": proxy, "true_reward": true, **more}) + "\n"
        for step, proxy, true in rows
    )


def grown(path: Path, stages: list[str], columns: LogColumns) -> Iterator[Log]:
    """The log as it stands after each text is added at its end."""
    for text in stages:
        with path.open("a") as file:
            file.write(text)
        yield read_log([path], columns, growing=True)


def test_each_step_is_told_once_with_its_gap(tmp_path: Path) -> None:
    stages = [lines(HACKING[:1]), lines(HACKING[1:2]), lines(HACKING[2:3]) + '{"step": 3, "pro']
    told = list(follow(grown(tmp_path / "log.jsonl", stages, MEANS), DESIGN, until_onset=False))
    assert told == [
        "step 0: proxy +0.00, true +0.00, gap +0.00 base sd",
        "step 1: proxy +0.20, true +0.00, gap +0.20 base sd",
        "step 2: proxy +0.70, true +0.00, gap +0.70 base sd",
        "ONSET at step 2: the controlled gap is above 0.5 base sd",
    ]


def test_a_watch_ends_at_the_onset(tmp_path: Path) -> None:
    stages = [lines(HACKING[:2]), lines(HACKING[2:3]), lines(HACKING[3:])]
    told = list(follow(grown(tmp_path / "log.jsonl", stages, MEANS), DESIGN, until_onset=True))
    assert told[-1].startswith("ONSET at step 2") and not any("step 3" in line for line in told)


def test_a_placebo_ends_no_watch(tmp_path: Path) -> None:
    columns = LogColumns(groups=("arm",), proxy_sd=1.0, true_sd=0.5)
    design = LogDesign(arm="arm", placebo="placebo")
    still = [(step, 0.0, 0.5) for step in range(4)]
    both = [lines(HACKING, arm="placebo") + lines(still, arm="trained")]
    told = list(follow(grown(tmp_path / "log.jsonl", both, columns), design, until_onset=True))
    assert told[-1] == "arm trained: step 3: proxy +0.00, true +0.00, gap +0.00 base sd"


def test_an_onset_that_moves_to_a_told_step_is_told(tmp_path: Path) -> None:
    """Run b starts with a tenth of the spread: the unit of both becomes 0.71, and a's gap at step 2 0.56."""
    columns = LogColumns(groups=("run",), proxy_sd="sd", true_sd="sd")
    stages = [
        lines([(0, 0.0, 0.5), (1, 0.2, 0.5), (2, 0.4, 0.5)], run="a", sd=1.0),
        lines([(0, 0.0, 0.5), (1, 0.0, 0.5)], run="b", sd=0.1),
    ]
    told = list(follow(grown(tmp_path / "log.jsonl", stages, columns), DESIGN, until_onset=True))
    assert told[2].startswith("run a: step 2: proxy +0.40")
    assert told[3:] == ["run a: ONSET at step 2: the controlled gap is above 0.5 base sd"]


def test_a_run_that_is_started_again_is_told_from_its_start(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"

    def written_anew() -> Iterator[Log]:
        for rows in (HACKING, HACKING, HACKING[:1], HACKING[:2], HACKING):
            path.write_text(lines(rows))
            yield read_log([path], MEANS, growing=True)

    told = [line.split(":")[0] for line in follow(written_anew(), DESIGN, until_onset=False)]
    once = ["step 0", "step 1", "step 2", "step 3", "ONSET at step 2"]
    assert told == once + once


def test_a_file_per_step_has_its_last_step_where_the_number_is_highest(tmp_path: Path) -> None:
    for step, rewards in ((2, [0.0, 1.0, 2.0]), (9, [1.0, 2.0, 3.0]), (10, [4.0])):
        (tmp_path / f"{step}.jsonl").write_text(lines([(step, reward, reward % 2) for reward in rewards]))
    (run,) = next(looks([tmp_path], LogColumns(), pause=0.0)).runs
    assert run.curves.steps_T.tolist() == [2, 9]


CSV_HEAD = "step,proxy_reward,true_reward,run\n"


@pytest.mark.parametrize("groups", [(), ("run",), ("file",)])
@pytest.mark.parametrize(
    ("name", "begun"),
    [
        ("log.csv", CSV_HEAD[:9]),
        ("log.csv", CSV_HEAD),
        ("log.csv", f"{CSV_HEAD}0,1,,a\n1,2,,a\n"),
        ("log.csv", f"{CSV_HEAD}0,1,,a\n1,2,0,a\n"),
        ("log.csv", f"{CSV_HEAD}0,1,1,a\n"),
        ("log.jsonl", '{"step": 0, "proxy_rew'),
        ("log.jsonl", '{"step": 0, "run": "a"}\n'),
        ("log.jsonl", '{"step": 0, "proxy_reward": 1, "run": "a"}\n{"step": 1, "proxy_reward": 1, "run": "a"}\n'),
    ],
)
def test_a_log_that_has_just_begun_holds_no_run(tmp_path: Path, name: str, begun: str, groups: tuple[str, ...]) -> None:
    (tmp_path / name).write_text(begun)
    assert read_log([tmp_path / name], LogColumns(groups=groups), growing=True).runs == []


def test_a_log_that_has_begun_stands_beside_one_that_has_not(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(CSV_HEAD)
    (tmp_path / "b.jsonl").write_text(lines(HACKING))
    (run,) = next(looks([tmp_path], MEANS, pause=0.0)).runs
    assert run.curves.steps_T.tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_letter_that_is_cut_ends_no_watch(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "log.csv"
    path.write_bytes(f"{CSV_HEAD}0,1,0,a\n1,2,0,a\n2,3,0,\N{GRINNING FACE}".encode(encoding)[:-1])
    (run,) = read_log([path], LogColumns(), growing=True).runs
    assert run.curves.steps_T.tolist() == [0, 1]


def test_a_letter_that_is_wrong_is_refused_also_in_a_log_that_grows(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_bytes(f"{CSV_HEAD}0,1,0,".encode() + b"\xff\n")
    with pytest.raises(DataError, match="save it as UTF-8"):
        read_log([tmp_path / "log.csv"], LogColumns(), growing=True)


def test_the_last_step_of_samples_waits_until_it_is_whole(tmp_path: Path) -> None:
    def step(number: int, rewards: list[float]) -> str:
        return lines([(number, reward, reward % 2) for reward in rewards])

    stages = [step(0, [0.0, 1.0, 2.0]) + step(1, [1.0]), step(1, [2.0, 3.0])]
    steps = [
        [run.curves.steps_T.tolist() for run in log.runs] for log in grown(tmp_path / "log.jsonl", stages, LogColumns())
    ]
    assert steps == [[], [[0, 1]]]


@pytest.mark.parametrize("separator", [",", "\t"])
def test_a_line_break_inside_a_quoted_field_ends_no_row(separator: str) -> None:
    suffix = {",": ".csv", "\t": ".tsv"}[separator]
    whole = separator.join(["step", "text"]) + "\n" + separator.join(["0", '"a\nb"']) + "\n"
    begun = whole + separator.join(["1", '"c\n d ""quoted""\n'])
    assert whole_lines(begun, suffix) == whole
    assert whole_lines(whole, suffix) == whole


def test_a_directory_stands_for_its_tables_and_parquet_is_read_once_it_rests(
    tmp_path: Path,
) -> None:
    folder = tmp_path / "completions"
    files = GrowingFiles([folder])
    assert files.readable() == []
    folder.mkdir()
    (folder / "notes.txt").write_text("no table")
    frame = pd.DataFrame([{"step": 0, "proxy_reward": 0.0, "true_reward": 1.0}])
    frame.to_parquet(folder / "0.parquet")
    assert files.readable() == []
    assert files.readable() == [folder / "0.parquet"]
    (folder / "1.jsonl").write_text(lines(HACKING[1:2]))
    assert files.readable() == [folder / "0.parquet", folder / "1.jsonl"]


def test_looks_wait_for_the_first_rows(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text("")
    logs = looks([path], MEANS, pause=0.0)
    path.write_text(lines(HACKING[:2]))
    assert len(next(logs).runs) == 1


def test_what_is_waited_for_is_said_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "completions"
    logs = looks([folder], MEANS, pause=0.0)
    assert next(logs).runs == next(logs).runs == []
    folder.mkdir()
    (folder / "config.yaml").write_text("steps: 4")
    assert next(logs).runs == []
    assert capsys.readouterr().err == f"{folder}: found no table yet; waiting for one\n"
    (folder / "log.jsonl").write_text(lines(HACKING[:1]))
    assert next(logs).runs == next(logs).runs == []
    said = "found no run yet; waiting for two whole steps with numbers in 'proxy_reward' and 'true_reward'\n"
    assert capsys.readouterr().err == said
    (folder / "log.jsonl").write_text(lines(HACKING))
    assert len(next(logs).runs) == 1 and capsys.readouterr().err == ""


def status(*arguments: object) -> int:
    try:
        cli.main(["score", *map(str, arguments)])
    except SystemExit as ended:
        assert isinstance(ended.code, int)
        return ended.code
    return 0


def test_a_run_that_hacks_has_a_status(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, unit = tmp_path / "log.jsonl", ["--proxy-sd", 1, "--true-sd", 0.5]
    path.write_text(lines(HACKING))
    assert status(path, *unit) == 0
    assert status(path, *unit, "--fail-on-onset") == ONSET
    assert "The controlled measure" in capsys.readouterr().out
    assert status(path, *unit, "--fail-on-onset", "--threshold", 2.5) == 0
    assert status(*unit, "--every", 0.01, "--fail-on-onset", "--follow", path) == ONSET
    assert capsys.readouterr().out.splitlines()[-1].startswith("ONSET at step 2")


def test_an_onset_needs_a_unit(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    path.write_text(lines(HACKING))
    assert "expected one, in which" in endings.failure("score", path, "--fail-on-onset")
    assert "expected one, in which" in endings.failure("score", "--follow", path)


def test_a_watch_sees_what_another_process_writes(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    arguments = [path, "--proxy-sd", 1, "--true-sd", 0.5, "--follow", "--every", 0.05, "--fail-on-onset"]
    command = [sys.executable, "-m", "pessimism.cli", "score", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
        with path.open("w") as file:
            print("step,proxy_reward,true_reward", file=file)
            for step, proxy, true in HACKING:
                print(f"{step},{proxy},{true}", file=file, flush=True)
        assert watch.wait(timeout=60) == ONSET
        assert watch.stdout is not None and "ONSET at step 2" in watch.stdout.read()

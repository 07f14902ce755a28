"""Logs as trainers and trackers write them, and what of them `pessimism score` must not misread."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from transformers import TrainerState

from pessimism.errors import PessimismError
from pessimism.scoring.log_table import LogColumns, number, reward
from pessimism.scoring.run_log import Log, read_log
from support.endings import failure

PROXY, TRUE = [1.0, 1.25, 1.5, 2.0], [0.5, 0.5, 0.25, 0.125]
STYLE, CORRECT = "rewards/style/mean", "rewards/correct/mean"


def read(path: Path | Sequence[Path], **columns: Any) -> Log:
    return read_log([path] if isinstance(path, Path) else path, LogColumns(**columns))


def curves(log: Log) -> tuple[list[int], list[float], list[float]]:
    """Steps and both rewards of the only run."""
    (run,) = log.runs
    proxy_T, true_T = run.curves.rewards_T
    return run.curves.steps_T.tolist(), proxy_T.tolist(), true_T.tolist()


def refusal(path: Path | Sequence[Path], **columns: Any) -> str:
    with pytest.raises(PessimismError) as raised:
        read(path, **columns)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def steps(names: Sequence[str] = ("step", "proxy_reward", "true_reward")) -> list[dict[str, Any]]:
    return [dict(zip(names, row, strict=True)) for row in zip(range(1, 5), PROXY, TRUE, strict=True)]


def csv_text(rows: Sequence[dict[str, Any]], separator: str = ",") -> str:
    return pd.DataFrame(rows).to_csv(index=False, sep=separator)


# formats


def history() -> list[dict[str, Any]]:
    """What a GRPO trainer logs with `logging_steps=1` and `eval_steps=2`, as `Trainer.log` lays it out."""
    rows: list[dict[str, Any]] = []
    for row in steps(("step", STYLE, CORRECT)):
        rows.append({"loss": 0.0, "reward": row[STYLE], "rewards/style/std": 0.5, "epoch": 0.1, **row})
        if row["step"] % 2 == 0:
            rows.append({"eval_loss": 0.0, f"eval_{STYLE}": 9.0, "epoch": 0.1, "step": row["step"]})
    return [*rows, {"train_runtime": 3.0, "train_loss": 0.0, "epoch": 1.0, "step": 4}]


def test_trainer_state_of_transformers(tmp_path: Path) -> None:
    """Rows of evaluations and the summary are left out and counted; a reward function is found by its name."""
    path = tmp_path / "trainer_state.json"
    TrainerState(log_history=history(), global_step=4).save_to_json(str(path))
    log = read(path, proxy="style", true="correct")
    assert curves(log) == ([1, 2, 3, 4], PROXY, TRUE)
    assert log.notes[0].startswith("3 of 7 rows left out: 3 with neither style nor correct.")
    assert curves(read(path, proxy=STYLE, true=CORRECT)) == curves(log)
    (run,) = read(path, proxy="style", true="correct", proxy_sd="style", true_sd=1.0).runs
    assert run.start["proxy_reward"].variance == 0.25


def test_a_history_as_json_lines_or_as_a_list(tmp_path: Path) -> None:
    lines, listed = tmp_path / "log.jsonl", tmp_path / "log.json"
    lines.write_text("\n".join(map(json.dumps, history())) + "\n\n")
    listed.write_text(json.dumps(history()))
    for path in (lines, listed):
        assert curves(read(path, proxy="style", true="correct")) == ([1, 2, 3, 4], PROXY, TRUE)


def test_rewards_that_abstain_are_counted(tmp_path: Path) -> None:
    """TRL writes None of a reward function as NaN per sample, and as null where it abstained from a whole batch."""
    rows = pd.DataFrame(
        {
            "step": np.repeat([1, 2, 3], 3),
            "prompt": ["a", "b", "c"] * 3,
            "style": [1.0, 2.0, 3.0, np.nan, 4.0, 6.0, 5.0, np.nan, np.nan],
            "correct": [1.0, 0.0, 1.0, 0.0, 1.0, np.nan, 1.0, 0.0, np.nan],
        }
    )
    rows.to_parquet(tmp_path / "completions_00001.parquet")
    log = read(tmp_path / "completions_00001.parquet", proxy="style", true="correct", prompt="prompt")
    assert curves(log) == ([1, 2, 3], [2, 4, 5], [2 / 3, 1, 1])
    assert log.runs[0].samples_T.tolist() == [3, 1, 1]
    assert log.notes[0].startswith(
        "4 of 9 rows left out: 1 with neither style nor correct, 2 without style, 1 without correct."
    )
    assert "Both rewards are means over the same rows, those that hold both" in log.notes[0]
    path = tmp_path / "log.json"
    path.write_text(json.dumps([*steps(), {"step": 5, "proxy_reward": 3.0, "true_reward": None}]))
    assert curves(read(path))[0] == [1, 2, 3, 4]


def test_chart_export_of_weights_and_biases(tmp_path: Path) -> None:
    """A column per run and metric beside its least and greatest, blank where the run has no such step."""
    path = tmp_path / "wandb_export_2026-11-28.csv"
    header = [f"{run} - train/{name}{end}" for run in "ab" for name in ("r", "acc") for end in ("", "__MIN", "__MAX")]
    rows = []
    for step in range(1, 5):
        a = [PROXY[step - 1]] * 3 + [TRUE[step - 1] if step != 3 else ""] * 3
        b = [PROXY[step - 1] + 1] * 3 + [TRUE[step - 1]] * 3 if step > 2 else [""] * 6
        rows.append([step, *a, *b])
    pd.DataFrame(rows, columns=["train/global_step", *header]).to_csv(path, index=False, quoting=1)
    log = read(path, step="train/global_step", proxy="train/r", true="train/acc", groups=("run",))
    assert [run.identity for run in log.runs] == [{"run": "a"}, {"run": "b"}]
    assert log.runs[0].curves.steps_T.tolist() == [1, 2, 4]
    assert log.runs[1].curves.mean_T["proxy_reward"].tolist() == [2.5, 3.0]
    assert log.notes[0].startswith("1 of 6 rows left out: 1 without train/acc.")
    one = read(path, step="train/global_step", proxy="b - train/r", true="b - train/acc")
    assert curves(one) == ([3, 4], [2.5, 3.0], TRUE[2:])
    assert "found a chart of the runs a, b; expected --group run to tell them apart" in refusal(
        path, step="train/global_step", proxy="train/r", true="train/acc"
    )


def test_a_run_of_a_chart_that_lacks_a_metric_is_refused(tmp_path: Path) -> None:
    """As where only one of two runs has the true reward: the other left without a word."""
    path = tmp_path / "wandb_export.csv"
    path.write_text("Step,a - r,a - acc,b - r\n0,1,0,1\n1,2,1,2\n2,3,1,3\n")
    message = refusal(path, step="Step", proxy="r", true="acc", groups=("run",))
    assert "found the run b without a column of acc; expected every metric of every run" in message
    assert message == refusal(path, step="Step", proxy="r", true="acc")


def test_a_blank_start_is_said(tmp_path: Path) -> None:
    rows = steps()
    rows[0]["true_reward"] = None
    (tmp_path / "log.csv").write_text(csv_text(rows))
    log = read(tmp_path / "log.csv")
    assert curves(log)[0] == [2, 3, 4]
    assert "In the run step 1 lacks a reward, so that the baseline is step 2" in log.notes[1]


def test_table_of_weights_and_biases(tmp_path: Path) -> None:
    """As wandb.Table is stored, which is how OpenRLHF keeps samples: global_step, text, reward."""
    path = tmp_path / "generated_samples.table.json"
    rows = [[step, "text", proxy, true] for step, proxy, true in zip(range(1, 5), PROXY, TRUE, strict=True)]
    path.write_text(json.dumps({"columns": ["global_step", "text", "reward", "acc"], "data": rows, "nrows": 4}))
    assert curves(read(path, step="global_step", proxy="reward", true="acc")) == ([1, 2, 3, 4], PROXY, TRUE)


def test_parquet_of_trackio(tmp_path: Path) -> None:
    """`run_name`, its own count of log calls as `step`, metrics beside it; TRL's steps are in train/global_step."""
    rows = []
    for run in ("007", "7"):
        for row in steps(("train/global_step", f"train/{STYLE}", f"train/{CORRECT}")):
            rows.append({"id": len(rows), "run_name": run, "step": 2 * len(rows), **row})
            rows.append({"id": len(rows), "run_name": run, "step": 2 * len(rows), "eval/loss": 1.0})
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "project.parquet")
    log = read(
        tmp_path / "project.parquet", step="train/global_step", proxy="style", true="correct", groups=("run_name",)
    )
    assert [run.identity["run_name"] for run in log.runs] == ["007", "7"]
    assert [run.curves.steps_T.tolist() for run in log.runs] == [[1, 2, 3, 4]] * 2


def test_rollouts_of_verl_and_openrlhf(tmp_path: Path) -> None:
    """verl: a file per step, true and false; OpenRLHF's logging board: a step as text, lists per token."""
    verl, board = [], tmp_path / "rollout_data_rank_0_1313.jsonl"
    for row in steps():
        path = tmp_path / f"{row['step']}.jsonl"
        samples = [
            {
                "input": "q",
                "output": "r",
                "gts": "4",
                "score": row["proxy_reward"] + d,
                "step": row["step"],
                "acc": d > 0,
            }
            for d in (-1, 1)
        ]
        path.write_text("\n".join(map(json.dumps, samples)))
        verl.append(path)
    assert curves(read(sorted(verl, reverse=True), proxy="score", true="acc")) == ([1, 2, 3, 4], PROXY, [0.5] * 4)
    lines = [
        {"step": str(row["step"]), "prompt": "q", "response": "r", "reward": row["proxy_reward"], "valid_reward": 1.0}
        | {"response_tokens": ["r"], "logprobs": [-0.1]}
        for row in steps()
    ]
    board.write_text("\n".join(map(json.dumps, lines)))
    assert curves(read(board, proxy="reward", true="valid_reward"))[1] == PROXY


@pytest.mark.parametrize("name", ["log.CSV", "log.tsv", "log.csv.gz", "LOG.TSV.GZ", "log.jsonl.gz", "log.Json.gz"])
def test_suffixes_in_any_case_and_compressed(tmp_path: Path, name: str) -> None:
    lowered = name.lower()
    if "json" in lowered:
        text = "\n".join(map(json.dumps, steps())) if "jsonl" in lowered else json.dumps(steps())
    else:
        text = csv_text(steps(), "\t" if "tsv" in lowered else ",")
    raw = text.encode()
    (tmp_path / name).write_bytes(gzip.compress(raw) if lowered.endswith(".gz") else raw)
    assert curves(read(tmp_path / name)) == ([1, 2, 3, 4], PROXY, TRUE)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_read(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "log.csv").write_bytes(csv_text(steps()).encode(encoding))
    (tmp_path / "log.jsonl").write_bytes("\n".join(map(json.dumps, steps())).encode(encoding))
    assert curves(read(tmp_path / "log.csv")) == curves(read(tmp_path / "log.jsonl")) == ([1, 2, 3, 4], PROXY, TRUE)


HEAD = "step,proxy_reward,true_reward"


def test_a_field_may_be_long(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(csv_text([row | {"completion": "x" * 200_000} for row in steps()]))
    assert curves(read(tmp_path / "log.csv"))[0] == [1, 2, 3, 4]


# names stay what they are


def test_a_key_of_json_that_stands_twice_is_refused(tmp_path: Path) -> None:
    line = '{"step": 0, "proxy_reward": 1, "true_reward": 0, "step": 1}'
    for name, text in (("log.json", f"[{line}]"), ("log.jsonl", line)):
        (tmp_path / name).write_text(text)
        assert "the key 'step' stands twice in one object" in refusal(tmp_path / name)


@pytest.mark.parametrize(
    "rows", ["[1, 2]", "[[1, 2, 3], null]", '["abc", "def"]', '[{"step": 0}]', "[[1, 2], [1, 2, 3]]"]
)
def test_rows_of_a_table_are_lists_of_its_length(tmp_path: Path, rows: str) -> None:
    path = tmp_path / "media.table.json"
    path.write_text(f'{{"columns": ["step", "proxy_reward", "true_reward"], "data": {rows}}}')
    assert re.search(r"row [12] (is \w+ in place of a list of fields|has 2 fields under 3 headings)", refusal(path))


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        ("UTF-32", csv_text(steps()).encode("utf-32")),
        ("bzip2", bz2.compress(csv_text(steps()).encode(), 1)),
        ("zstd", b"\x28\xb5\x2f\xfd$"),
        ("xz", lzma.compress(b"step")),
        ("gzip", gzip.compress(b"step")),
    ],
    ids=["UTF-32", "bzip2", "zstd", "xz", "gzip"],
)
def test_what_is_no_text_is_called_by_its_name(tmp_path: Path, kind: str, raw: bytes) -> None:
    for name in ("log.csv", "log.jsonl"):
        (tmp_path / name).write_bytes(raw)
        assert f"({kind} in place of text: unpack or convert it to UTF-8)" in refusal(tmp_path / name)


def test_lone_surrogates_are_refused_in_labels_alone(tmp_path: Path) -> None:
    """A response that was cut within a letter is no reason to refuse its rewards."""
    path = tmp_path / "log.jsonl"
    path.write_text("\n".join(json.dumps(row | {"text": "\ud83d"}) for row in steps()))
    assert curves(read(path))[1] == PROXY
    for columns in ({"groups": ("text",)}, {"prompt": "text"}):
        assert r"row 1: found '\ud83d' in column 'text'; expected text without lone surrogates" in refusal(
            path, **columns
        )


def test_a_file_of_any_name_is_read(tmp_path: Path) -> None:
    path = tmp_path / os.fsdecode(b"n\xff.csv")
    path.write_text(csv_text(steps()))
    assert curves(read(path))[1] == PROXY
    (run,) = read(path, groups=("file",)).runs
    assert run.identity["file"] == rf"{tmp_path}/n\xff.csv"


def test_labels_are_text(tmp_path: Path) -> None:
    rows = [row | {"run": run} for run in ("007", "7", "NA", "None", "null", "nan", "1e3") for row in steps()]
    (tmp_path / "log.csv").write_text(csv_text(rows))
    log = read(tmp_path / "log.csv", groups=("run",))
    assert [run.identity["run"] for run in log.runs] == ["007", "7", "NA", "None", "null", "nan", "1e3"]
    assert log.notes == [
        "Column run writes one number as 007 and 7: as text they tell runs apart, as --beta they are one value."
    ]
    (tmp_path / "log.csv").write_text(csv_text([row | {"run": ""} for row in steps()]))
    assert "row 1: found no value in column 'run'; expected one in every row" in refusal(
        tmp_path / "log.csv", groups=("run",)
    )


def test_runs_007_and_7_are_two_also_where_they_share_no_step(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(f"run,{HEAD}\n007,1,1,1\n007,2,2,1\n7,3,1,0\n7,4,2,0\n")
    assert [run.curves.steps_T.tolist() for run in read(tmp_path / "log.csv", groups=("run",)).runs] == [[1, 2], [3, 4]]


def test_a_number_is_one_label_in_every_format(tmp_path: Path) -> None:
    """Seed 1 of a parquet file whose column holds floats is seed 1 of a CSV file."""
    first = [row | {"seed": 1} for row in steps()]
    later = pd.DataFrame([row | {"seed": 1.0, "step": row["step"] + 4} for row in steps()])
    (tmp_path / "a.csv").write_text(csv_text(first))
    later.to_parquet(tmp_path / "b.parquet")
    (run,) = read([tmp_path / "a.csv", tmp_path / "b.parquet"], groups=("seed",)).runs
    assert run.identity == {"seed": "1"} and run.curves.steps_T.tolist() == list(range(1, 9))


def test_labels_of_many_digits_stay_apart_where_some_are_absent(tmp_path: Path) -> None:
    """As floats, which a column with a gap invites, both seeds would be one."""
    seeds = (2**53, 2**53 + 1)
    rows = [row | {"seed": seed} for seed in seeds for row in steps()]
    pq.write_table(pa.Table.from_pylist([*rows, {"step": 9, "seed": None}]), tmp_path / "log.parquet")
    assert [run.identity["seed"] for run in read(tmp_path / "log.parquet", groups=("seed",)).runs] == [*map(str, seeds)]


def test_the_name_as_asked_comes_first(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(csv_text([row | {"rewards/proxy_reward/mean": 9} for row in steps()]))
    assert curves(read(tmp_path / "log.csv"))[1] == PROXY


def test_a_text_may_hold_a_separator_of_lines(tmp_path: Path) -> None:
    rows = [json.dumps(row | {"completion": "a\u2028b"}, ensure_ascii=False) for row in steps()]
    (tmp_path / "log.jsonl").write_text("\n".join(rows), encoding="utf-8")
    assert curves(read(tmp_path / "log.jsonl"))[0] == [1, 2, 3, 4]


def test_prompts_of_any_name_count(tmp_path: Path) -> None:
    rows = [
        {"step": step, "prompt": prompt, "proxy_reward": step + place, "true_reward": place % 2}
        for step in range(2)
        for place, prompt in enumerate(("NA", "None", "null", "7"))
    ]
    (tmp_path / "log.csv").write_text(csv_text(rows))
    (run,) = read(tmp_path / "log.csv", prompt="prompt").runs
    assert run.curves.prompt_T_N["true_reward"].shape == (2, 4)


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ("1.5", 1.5),
        (" -2e1 ", -20.0),
        (".5", 0.5),
        (3, 3.0),
        ("inf", np.inf),
    ],
)
def test_numbers(cell: object, value: float) -> None:
    assert number(cell) == value


@pytest.mark.parametrize(("cell", "value"), [("True", 1.0), ("false", 0.0), (True, 1.0), (False, 0.0), (" 2 ", 2.0)])
def test_a_reward_may_be_whether_an_answer_is_right(cell: object, value: float) -> None:
    assert reward(cell) == value


@pytest.mark.parametrize("cell", ["1_0", "0x1f", "1,5", "١", "high", [1.0], "infinit", True, "false"])
def test_what_is_no_number(cell: object) -> None:
    """Python's float takes the first and the fourth."""
    assert number(cell) is None


@pytest.mark.parametrize("cell", ["", " ", "NaN", "NA", "None", "null", None, float("nan")])
def test_what_is_absent(cell: object) -> None:
    value = number(cell)
    assert value is not None and np.isnan(value)


def test_steps_that_would_merge_are_refused(tmp_path: Path) -> None:
    rows = [row | {"step": 2**53 + row["step"]} for row in steps()]
    (tmp_path / "log.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert "row 1: found 9007199254740993 in column 'step'; expected training steps below 2^53" in refusal(
        tmp_path / "log.jsonl"
    )


def test_one_reward_under_two_names_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.csv"
    path.write_text(csv_text([row | {"copy": row["proxy_reward"]} for row in steps()]))
    assert "found the same values in 'proxy_reward' and 'copy'; expected two rewards" in refusal(path, true="copy")
    assert "found the column 'copy' as --proxy and as --true" in refusal(path, proxy="copy", true="copy")


def test_rewards_are_named_where_there_are_many_columns(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(
        csv_text([{f"m{i}": 0 for i in range(30)} | {"rewards/style/mean": 1, "step": 0}])
    )
    assert refusal(tmp_path / "log.csv").endswith(
        "expected one of its 33 columns, those of rewards among them: rewards/style/mean"
    )


def test_what_is_no_reward_is_no_truth_value(tmp_path: Path) -> None:
    (tmp_path / "log.jsonl").write_text("\n".join(json.dumps(row | {"flag": True}) for row in steps()))
    for column in ({"step": "flag"}, {"kl": "flag"}, {"proxy_sd": "flag"}):
        assert "row 1: found True in column 'flag'; expected a number" in refusal(tmp_path / "log.jsonl", **column)
    assert curves(read(tmp_path / "log.jsonl", true="flag"))[2] == [1, 1, 1, 1]


@pytest.mark.parametrize("number", ["9" * 400, "1e200"])
def test_numbers_without_squares_are_refused_in_few_letters(tmp_path: Path, number: str) -> None:
    for name, text in (
        ("log.csv", csv_text(steps()) + f"5,{number},0\n"),
        ("log.json", f"[{json.dumps(steps())[1:-1]}, {{'step': 5, 'proxy_reward': {number}}}]".replace("'", '"')),
    ):
        (tmp_path / name).write_text(text)
        message = refusal(tmp_path / name)
        assert "in column 'proxy_reward'; expected a finite number below 1e+50 in size" in message
        assert len(message) < 250 + len(str(tmp_path))


def test_kl_is_needed_where_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(csv_text([row | {"kl": "" if row["step"] == 3 else 0.1} for row in steps()]))
    assert "row 3: found no value in column 'kl'; expected a number beside both rewards" in refusal(
        tmp_path / "log.csv", kl="kl"
    )


# steps written twice


def test_a_resumed_run_counts_its_later_rows(tmp_path: Path) -> None:
    """What the first part wrote from the step of resumption on is gone, also where the second has not come so far."""
    order = [1, 2, 3, 4, 5, 6, 7, 4, 5]
    rows = [{"step": step, "proxy_reward": 10 * place, "true_reward": 0.5} for place, step in enumerate(order)]
    (tmp_path / "log.csv").write_text(csv_text(rows))
    log = read(tmp_path / "log.csv")
    assert curves(log)[:2] == ([1, 2, 3, 4, 5], [0, 10, 20, 70, 80])
    assert "goes back to steps that it has written in the run" in log.notes[0]
    assert "and 4 earlier ones are left out. If these are two runs, name the columns that tell" in log.notes[0]


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([1, 2, 3, 1, 2, 3], "row 4: found step 1 after step 3 in the run; expected its steps in order"),
        ([0, 1, 2, 3, 1, 2, 3], "row 5: found step 1 after step 3"),
        ([1, 5, 3], "row 3: found step 3 after step 5"),
        ([1, 1, 2, 2, 3, 3, 2, 2], "row 7: found step 2 after step 3"),
        ([1, 2, 3, 3], "found 2 rows of step 3 and one of step 1"),
        ([1, 1, 2, 2, 3, 3, 3, 3, 4, 4], "found 4 rows of step 3 and 2 of most others, as of a step that was written"),
    ],
)
def test_a_step_written_twice_is_not_mixed(tmp_path: Path, order: list[int], message: str) -> None:
    rows = [{"step": step, "proxy_reward": place, "true_reward": 0.5} for place, step in enumerate(order)]
    (tmp_path / "log.csv").write_text(csv_text(rows))
    found = refusal(tmp_path / "log.csv")
    assert message in found
    assert "where a run was resumed, remove what it wrote before of the steps that it wrote again" in found


def test_every_row_written_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text(csv_text([row for row in steps() for _ in range(2)]))
    assert "found every row twice, step by step; expected each row once" in refusal(tmp_path / "log.csv")
    assert "found" in refusal([tmp_path / "log.csv"] * 2) and "twice on the command line" in refusal(
        [tmp_path / "log.csv"] * 2
    )


def test_a_first_step_written_twice_is_refused_or_said(tmp_path: Path) -> None:
    """The same rows again are copies; others may be more samples of the same policy, or another run's."""
    rows = [
        {"step": step, "proxy_reward": place + step, "true_reward": place % 2}
        for step in range(4)
        for place in range(4)
    ]
    (tmp_path / "log.csv").write_text(csv_text(rows[:4] + rows))
    assert "found 8 rows of step 0, the first, every one twice; expected each row once" in refusal(tmp_path / "log.csv")
    (tmp_path / "log.csv").write_text(csv_text([row | {"proxy_reward": -1} for row in rows[:4]] + rows))
    log = read(tmp_path / "log.csv")
    assert log.runs[0].samples_T.tolist() == [8, 4, 4, 4]
    assert log.notes[0].startswith("In the run there are 8 rows of step 0, the first, and 4 of all others")


def test_more_samples_at_the_first_step_are_welcome(tmp_path: Path) -> None:
    rows = [
        {"step": step, "proxy_reward": place + step, "true_reward": place % 2}
        for step in range(4)
        for place in range(8 if step == 0 else 4)
    ]
    (tmp_path / "log.csv").write_text(csv_text(rows))
    assert read(tmp_path / "log.csv").runs[0].samples_T.tolist() == [8, 4, 4, 4]


def test_a_refusal_is_one_line_of_the_command(tmp_path: Path) -> None:
    message = failure("score", tmp_path)
    assert message.startswith(f"error: {tmp_path}: found") and "\n" not in message

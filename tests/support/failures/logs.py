"""Logs that are no runs, or not those that the options say."""

from __future__ import annotations

import bz2
import gzip
from pathlib import Path

from support.failures.failure import Failure

_HEAD = "step,proxy_reward,true_reward"
_RUN = f"{_HEAD}\n1,1,0\n2,2,1\n3,3,0\n"
_ARMS = "step,proxy_reward,true_reward,arm\n0,1,0,on\n1,2,1,on\n0,1,0,off\n1,1,1,off\n"


def _file(what: str, name: str, contents: str | bytes, said: str, options: str = "") -> Failure:
    raw = contents.encode() if isinstance(contents, str) else contents
    command = f"pessimism score {name} {options}".rstrip()
    return Failure(what, lambda project: (project / name).write_bytes(raw), said, command)


def _rows(what: str, rows: str, said: str, options: str = "", heading: str = _HEAD) -> Failure:
    return _file(what, "log.csv", f"{heading}\n{rows}\n", said, options)


def _options(what: str, options: str, said: str, contents: str = _RUN) -> Failure:
    return _file(what, "log.csv", contents, said, options)


def _two_files(project: Path) -> None:
    for name in ("a.csv", "b.csv"):
        (project / name).write_text(_RUN)


_BETAS = f"{_HEAD},b"
_TABLE = "found no readable table ("

FAILURES = [
    Failure("there is no such file", lambda _: None, "log.csv: found no such file", "pessimism score log.csv"),
    Failure(
        "an empty directory",
        lambda project: (project / "log").mkdir(),
        "log: found no table in it",
        "pessimism score log",
    ),
    _file(
        "an onset without a unit",
        "log.csv",
        _RUN,
        "found no spread of the rewards at the first step",
        "--fail-on-onset",
    ),
    _file("an unknown suffix", "log.txt", _RUN, "log.txt: found the suffix '.txt'; expected one of .csv, .tsv, .json"),
    _file("parquet inside gzip", "log.parquet.gz", b"", "found the suffix '.parquet.gz'; expected one of"),
    _file("an empty file", "log.csv", "", f"log.csv: {_TABLE}"),
    _file("headings and no rows", "log.csv", f"{_HEAD}\n", "log.csv: found no rows; expected at least two steps"),
    _file("Latin-1", "log.csv", f"{_HEAD}\n0,1,n\xe9\n".encode("latin-1"), "byte 35 is not utf-8: save it as UTF-8"),
    _file(
        "UTF-32", "log.csv", _RUN.encode("utf-32"), f"{_TABLE}UTF-32 in place of text: unpack or convert it to UTF-8"
    ),
    _file("bzip2", "log.csv.bz2", bz2.compress(_RUN.encode()), "found the suffix '.bz2'; expected one of .csv"),
    _file("bzip2 that is called `.csv`", "log.csv", bz2.compress(_RUN.encode()), f"{_TABLE}bzip2 in place of text"),
    _file("zstd that is called `.csv`", "log.csv", b"\x28\xb5\x2f\xfd", f"{_TABLE}zstd in place of text"),
    _file("gzip that is called `.csv`", "log.csv", gzip.compress(_RUN.encode()), f"{_TABLE}gzip in place of text"),
    _file("UTF-16 without its mark", "log.csv", _RUN.encode("utf-16-le"), "a zero byte, as in UTF-16 without its mark"),
    _file("no gzip behind `.gz`", "log.csv.gz", b"no archive", f"log.csv.gz: {_TABLE}Not a gzipped file"),
    _file("gzip that is cut off", "log.csv.gz", gzip.compress(_RUN.encode())[:-4], f"{_TABLE}a damaged gzip archive"),
    _rows("a row with a field too few", "0,1,1\n1,1", f"{_TABLE}row 2 has 2 fields under 3 headings"),
    _rows("a row with a field too many", "0,1,1,9", f"{_TABLE}row 1 has 4 fields under 3 headings"),
    _file("a heading that stands twice", "log.csv", "step,step\n0,1\n", f"{_TABLE}the heading 'step' stands twice"),
    _file("a quote that does not end", "log.csv", 'step,"a\n', f"{_TABLE}unexpected end of data"),
    _file(
        "a JSON object that is no table", "log.json", '{"steps": 3}', f"{_TABLE}neither a list of rows, nor an object"
    ),
    _file(
        "a JSON table with a field too few",
        "log.json",
        '{"columns": ["a", "b"], "data": [[1]]}',
        f"{_TABLE}row 1 has 1 fields under 2 headings",
    ),
    _file(
        "a JSON table whose rows are no lists",
        "log.json",
        '{"columns": ["a", "b"], "data": [1, 2]}',
        f"{_TABLE}row 1 is int in place of a list of fields",
    ),
    _file(
        "a key of JSON that stands twice",
        "log.jsonl",
        '{"step": 0, "step": 1}',
        f"{_TABLE}line 1: the key 'step' stands twice in one object",
    ),
    _file(
        "half a letter (a lone surrogate) in a label",
        "log.jsonl",
        '{"step": 0, "proxy_reward": 1, "true_reward": 0, "text": "\\ud83d"}',
        "in column 'text'; expected text without lone surrogates",
        "--group text",
    ),
    _file(
        "headings that are numbers", "log.json", '{"columns": [1], "data": [[1]]}', "the headings [1] are not all text"
    ),
    _file("a JSON list of numbers", "log.json", "[1, 2]", f"{_TABLE}row 1 is int in place of an object of columns"),
    _file("100,000 lists inside one another", "log.json", "[" * 100_000, "found values nested too deeply to read"),
    _file("a number of 5,000 digits", "log.json", f"[{'9' * 5000}]", f"{_TABLE}Exceeds the limit"),
    _file("an empty JSON list", "log.json", "[]", "log.json: found no rows"),
    _file("a line of JSON that is cut off", "log.jsonl", '{"step": 0}\n{"step": 1', f"{_TABLE}line 2: Expecting"),
    _file("a line of JSON that is a list", "log.jsonl", '{"step": 0}\n[1]', "row 2 is list in place of an object"),
    _file("parquet that is cut off", "log.parquet", b"PAR1", "Parquet file size is 4 bytes"),
    _rows("a reward in words", "0,1,0\n1,high,1", "row 2: found 'high' in column 'proxy_reward'; expected a number"),
    _rows("an infinite reward", "0,1,0\n1,2,inf", "row 2: found inf in column 'true_reward'; expected a finite number"),
    _rows(
        "a reward of 400 digits",
        f"0,1,0\n1,{'9' * 400},1",
        "(400 characters) in column 'proxy_reward'; expected a finite",
    ),
    _rows("a truth value as KL", "0,1,0,True\n1,2,1,True", "row 1: found 'True' in column 'b'", "--kl b", _BETAS),
    _rows("a row without a step", "0,1,0\n,2,1", "row 2: found no value in column 'step'; expected a number"),
    _rows("half a step", "0,1,0\n0.5,2,1", "row 2: found 0.5 in column 'step'; expected a whole number"),
    _rows(
        "a time in nanoseconds as step",
        f"{2**53 + 1},1,0\n{2**53 + 2},2,1",
        "row 1: found 9007199254740993 in column 'step'; expected training steps below 2^53",
    ),
    _rows(
        "no true reward in any row", "0,1,\n1,2,", "found no row with a number in both 'proxy_reward' and 'true_reward'"
    ),
    _rows("one reward under two names", "0,1,1\n1,2,2", "found the same values in 'proxy_reward' and 'true_reward'"),
    _rows("one step alone", "1,1,0", "the run: found step 1 alone; expected at least two steps"),
    _rows("one step with both rewards", "0,1,\n2,2,\n4,3,1", "the run: found step 4 alone; expected at least two"),
    _rows(
        "two runs, the second without its start",
        "0,1,0\n1,2,1\n2,3,0\n1,2,1\n2,3,0",
        "row 4: found step 1 after step 2",
    ),
    _rows("steps out of order", "0,1,0\n4,2,1\n2,3,1", "row 3: found step 2 after step 4 in the run"),
    _rows("two runs and no column named", "0,1,0\n1,2,1\n0,1,0\n1,2,1", "row 3: found step 0 after step 1 in the run"),
    _rows("a step written twice", "0,1,0\n1,2,1\n1,2,0", "found 2 rows of step 1 and one of step 0"),
    _rows(
        "every row written twice",
        "0,1,0\n0,1,0\n1,2,1\n1,2,1\n2,3,0\n2,3,0",
        "found every row twice, step by step",
    ),
    _rows(
        "a first step written twice",
        "0,1,0\n0,2,1\n0,3,1\n0,1,0\n0,2,1\n0,3,1\n1,2,1\n1,3,1\n1,4,1",
        "found 6 rows of step 0, the first, every one twice",
    ),
    _rows(
        "a chart's run that lacks a metric",
        "0,1,0,1\n1,2,1,2",
        "found the run b without a column of true_reward",
        heading="step,a - proxy_reward,a - true_reward,b - proxy_reward",
    ),
    _rows("an empty label", "0,1,0,\n1,2,1,x", "row 1: found no value in column 'b'", "--group b", _BETAS),
    _rows("a beta with an underscore", "0,1,0,1_0\n1,2,1,1_0", "found '1_0' in column 'b'", "--beta b", _BETAS),
    _rows(
        "a run without its first steps",
        "0,1,0,1\n1,2,1,1\n5,1,0,2\n6,2,1,2",
        "found step 5 as the first of b 2 and step 0 as that of b 1",
        "--beta b",
        _BETAS,
    ),
    _rows(
        "runs that share one step",
        "0,1,0,1\n1,2,1,1\n0,1,0,2\n2,2,1,2",
        "found step 0 alone in all of 2 runs",
        "--beta b",
        _BETAS,
    ),
    _rows("an empty KL", "0,1,0,0.1\n1,2,1,", "row 2: found no value in column 'b'", "--kl b", _BETAS),
    Failure(
        "a file given twice",
        _two_files,
        "found a.csv twice on the command line; expected every file once",
        "pessimism score a.csv a.csv",
    ),
    Failure(
        "two files with the same steps", _two_files, "found step 1 of the run in 2 files", "pessimism score a.csv b.csv"
    ),
    _options("a column that is not there", "--true accuracy", "found no column 'accuracy', set by --true"),
    _options("a column of deviations that is not there", "--proxy-sd std", "no column 'std', set by --proxy-sd"),
    _options("a column of seeds that is not there", "--seed seed", "no column 'seed', set by --group, --beta, --seed"),
    _options("one column for both rewards", "--true proxy_reward", "found the column 'proxy_reward' as --proxy and as"),
    _options("a deviation of 0", "--proxy-sd 0 --true-sd 1", "found a standard deviation of 0 of the proxy reward"),
    _options(
        "a deviation below 0", "--proxy-sd=-1 --true-sd 1", "found a standard deviation of -1 of the proxy reward"
    ),
    _options("a deviation without a square", "--proxy-sd 1e200 --true-sd 1", "a standard deviation of 1e+200 of the"),
    _options("a placebo without arms", "--placebo off", "found --placebo off without --arm"),
    _options("a watch with a placebo without arms", "--follow --placebo off", "found --placebo off without --arm"),
    _options("a watch with a threshold that is no number", "--follow --threshold nan", "found --threshold nan"),
    _options("a watch without a pause", "--follow --every 0", "found --every 0; expected a number of seconds above 0"),
    _options("a watch that goes back in time", "--follow --every=-1", "found --every -1; expected a number of seconds"),
    _options("a watch with a pause that is no number", "--follow --every nan", "found --every nan; expected a number"),
    _options(
        "a watch with an endless pause", "--follow --every inf", "found --every inf; expected a number of seconds"
    ),
    _options(
        "a watch as one JSON object", "--follow --json", "found --json with --follow, which prints a line per step"
    ),
    _options("an unknown placebo", "--arm arm --placebo none", "found the arms ['off', 'on'] in column 'arm'", _ARMS),
    _options("a beta in words", "--beta arm", "found 'on' in column 'arm'; expected numbers in --beta", _ARMS),
    _options("a hacking threshold of 0", "--threshold 0", "found --threshold 0; expected a finite gap above 0"),
    _options(
        "an infinite hacking threshold", "--threshold inf", "found --threshold inf; expected a finite gap above 0"
    ),
]

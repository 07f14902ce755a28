"""Run the suite: ``python -m benchmarks [--device cpu|cuda] [--only B1,B3]``; see docs/performance.md."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from benchmarks import rows

# Name on the command line -> functions, in the order of the table.
SUITE = {
    "B0": ["counted.measure_stages", "counted.measure_padding", "logprobs.measure_counts"],
    "B1": ["logprobs.measure"],
    "B2": ["preferences.measure_betas"],  # and B9, from the same runs
    "B3": ["preferences.measure_padding"],
    "B4": ["ensemble.measure"],
    "B5": ["online.measure"],
    "B6": ["logprobs.measure_entropy"],
    "B7": ["online.measure_generation"],
    "B8": ["dag.measure"],
    "B11": ["grpo.measure"],
    "B12": ["growth.measure"],
    "S1": ["dag.measure_start"],
}
ALSO = {"B9": "B2"}
LIBRARIES = ("torch", "transformers", "trl", "peft", "dvc")
DOCS = Path(__file__).resolve().parent.parent / "docs"
RECORDS = {"cpu": DOCS / "bench.json", "cuda": DOCS / "bench_cuda.json"}


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--only", type=lambda text: text.split(","), default=list(SUITE), help="such as B1,B3")
    arguments = parser.parse_args()
    arguments.only = [ALSO.get(name, name) for name in arguments.only]
    unknown = sorted(set(arguments.only) - set(SUITE))
    if unknown:
        parser.error(f"--only: found {', '.join(unknown)}; expected some of {', '.join([*SUITE, *ALSO])}")
    return arguments


def choose_device(device: str) -> None:
    """Before torch is used: hide GPUs, or make sure that there is one."""
    os.environ["TQDM_DISABLE"] = "1"
    if device == "cpu":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""
    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    if device == "cuda" and not torch.cuda.is_available():
        sys.exit("error: --device cuda: torch sees no GPU; expected one: run with --device cpu")


def setting() -> str:
    """Versions and threads, for the line above the table."""
    import torch

    versions = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"Python {sys.version.split()[0]}, {versions}; {torch.get_num_threads()} threads"


def measured(name: str) -> list[rows.Row]:
    """Rows of one entry of SUITE."""
    found: list[rows.Row] = []
    for dotted in SUITE[name]:
        module, function = dotted.split(".")
        measure: Callable[[], list[rows.Row]] = getattr(importlib.import_module(f"benchmarks.{module}"), function)
        found += measure()
    return found


def main() -> None:
    arguments = parse()
    choose_device(arguments.device)
    print(setting(), flush=True)
    table: list[rows.Row] = []
    for name in arguments.only:
        start = time.perf_counter()
        for row in measured(name):
            print(rows.line(row), flush=True)
            table.append(row)
        print(f"  {name} took {(time.perf_counter() - start) / 60:.1f} min", flush=True)
    print("\n" + rows.markdown(table))
    if arguments.only == list(SUITE):
        rows.write(table, RECORDS[arguments.device])
    for row in rows.broken(table):
        print(f"error: {row.id}: found {rows.number(row.ratio)}; expected {row.target}", file=sys.stderr)
    sys.exit(bool(rows.broken(table)))


if __name__ == "__main__":
    main()

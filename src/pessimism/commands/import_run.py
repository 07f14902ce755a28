"""A finished run of others: its objects into DVC's cache, from the file that ``pessimism export-run`` wrote."""

from __future__ import annotations

import argparse
from pathlib import Path

from pessimism.runs import archive
from pessimism.runs.objects import locked_objects


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Compare everything in a file of pessimism export-run with its hashes and with dvc.lock here, then put its "
        "objects into DVC's cache. Nothing is written where anything differs, and nothing that is there is replaced."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="of pessimism export-run")


def run(options: argparse.Namespace) -> None:
    print(import_run(options.file))


def import_run(file: Path) -> str:
    """Fill the cache; return what was put there.

    Raises:
        DataError: the file is damaged or belongs to another commit, or the cache holds other bytes of a name.
    """
    put, there = archive.read(file, locked_objects())
    return f"{put} objects put into DVC's cache, {there} were there already; `dvc checkout` restores the run's files"

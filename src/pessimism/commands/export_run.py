"""A finished run for others: what Git does not hold of it, as one file."""

from __future__ import annotations

import argparse
from pathlib import Path

from pessimism.commands.cache import check_cache
from pessimism.experiment.params import load_params
from pessimism.runs import archive
from pessimism.runs.objects import locked_objects


def configure(parser: argparse.ArgumentParser) -> None:
    parser.description = (
        "Write the objects of DVC's cache that dvc.lock names, models and rows of the run, to one new file, after "
        "comparing each with its name. Who has the same commit starts from them: pessimism import-run FILE, then dvc "
        "checkout."
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="to write, such as run.zip")


def run(options: argparse.Namespace) -> None:
    print(export_run(options.file))


def export_run(file: Path) -> str:
    """Write the file; return what it holds.

    Raises:
        DataError: the cache is not sound, the run is not committed, or the file is there already.
    """
    params = load_params()
    check_cache()
    manifest = archive.write(file, params, locked_objects())
    objects = sum(name.startswith(archive.OBJECTS) for name in manifest.sha256)
    return (
        f"{file}: {objects} objects of commit {manifest.commit[:12]}, {file.stat().st_size / 1e6:.1f} MB\n"
        f"In a clone: git checkout {manifest.commit[:12]}, pessimism import-run {file.name}, dvc checkout"
    )

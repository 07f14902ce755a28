"""The console script ``pessimism``: what a user wants beside DVC's own commands. Run it in the project's root."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from pessimism import stage


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; errors raised on purpose end with their message and status 1.

    So does, in silence, a reader that has seen enough, as in ``pessimism dag | head -1``.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        stage.run(lambda: command(options))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it exits, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pessimism", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = commands.add_parser("check", help="validate the parameters and the local sources they name")
    check.set_defaults(command=_check)

    summary = commands.add_parser("summary", help="where the report is, the main numbers per beta, time per stage")
    summary.set_defaults(command=_summary)

    verify = commands.add_parser("verify", help="compare the metrics here with the committed ones")
    verify.add_argument("--revision", default="HEAD", help="Git revision to compare with (default: HEAD)")
    verify.add_argument("--exact", action="store_true", help="accept no difference: for the machine of that revision")
    verify.set_defaults(command=_verify)

    dag = commands.add_parser("dag", help="draw the pipeline, one node per stage")
    dag.add_argument("--format", choices=("text", "mermaid"), default="text")
    dag.set_defaults(command=_dag)

    selfcheck = commands.add_parser("selfcheck", help="try the measuring instrument on the current models")
    selfcheck.add_argument("--scale", help="scale of the models in models/ (default: that of params.yaml)")
    selfcheck.set_defaults(command=_selfcheck)

    prune = commands.add_parser("prune", help="remove files and dvc.lock entries of cells no longer listed")
    prune.set_defaults(command=_prune)
    return parser


# Each command imports its own module, so that `pessimism dag` does not wait for pandas.


def _check(options: argparse.Namespace) -> None:
    from pessimism.commands import check

    print(check.check())


def _summary(options: argparse.Namespace) -> None:
    from pessimism.commands import summary

    print(summary.summary())


def _verify(options: argparse.Namespace) -> None:
    from pessimism.commands import verify

    print(verify.verify(options.revision, options.exact))


def _dag(options: argparse.Namespace) -> None:
    from pessimism.commands import dag

    print(dag.draw(options.format))


def _selfcheck(options: argparse.Namespace) -> None:
    from pessimism.commands import selfcheck

    for line in selfcheck.selfcheck(options.scale):
        print(line, flush=True)


def _prune(options: argparse.Namespace) -> None:
    from pessimism.commands import prune

    removed = prune.prune()
    print("\n".join(f"removed {name}" for name in removed) or "nothing left over")


if __name__ == "__main__":
    main()

"""The console script ``pessimism``: what a user wants besides DVC's own commands. Run it in the project's root."""

from __future__ import annotations

import pessimism.machine.libraries  # noqa: F401

import argparse
import importlib
import io
import os
import sys
from collections.abc import Sequence

import pessimism
from pessimism.errors import PessimismError, ending_on_errors

COMMANDS = {
    "check": "validate the parameters and the local sources they name",
    "repro": "run the pipeline with several stages at a time, as `dvc repro` does one after another",
    "watch": "proxy, true reward, gap and KL of online cells while they run, here or in TensorBoard or Trackio",
    "run": "run an experiment of DVC, as `dvc exp run` does, if its parameters can be read",
    "summary": "where the report is, the main numbers per beta, time per stage",
    "report": "where the report is, or several runs beside one another on one page",
    "verify": "compare the metrics here with the committed ones, or the content of DVC's cache with its names",
    "figures": "draw the figures of a finished run for a talk or a paper, their message as title",
    "pool": "judge the effect of beta over several worlds: runs of one design that Git or DVC holds",
    "arms": "what the arms of a finished run save in hacking and cost in true reward",
    "experiments": "experiments of DVC beside one another: parameters that differ, verdicts, main numbers",
    "ablate": "turn one switch of the protocol at a time, each as an experiment of DVC",
    "strengths": "find strengths of an offline objective that keep policies as close to the base as DPO's betas do",
    "dag": "draw the pipeline, one node per stage",
    "selfcheck": "try the measuring instrument on the current models",
    "plan": "memory, hours and cost of every stage, estimated without loading a weight",
    "restore": "restore parameters and results to the last commit, and prove it by their content",
    "prune": "remove files and dvc.lock entries of cells no longer listed",
    "fanout": "run the cells of matrix stages as jobs on other GPUs, and merge their results",
    "export-run": "write a finished run's objects of DVC's cache, with its lock and hashes, to one file",
    "import-run": "put the objects of such a file into DVC's cache, each compared with its hash",
    "replay": "the paper's numbers from its published AUGC values, and AUGC of a policy that never changes",
    "score": "the metrics of this project on the log of any run: CSV, TSV, JSON, JSON lines or parquet",
}
"""Each is a module of ``pessimism.commands``, with _ for -, which adds its options (``configure``) and does it
(``run``)."""

DEBUG = "--debug"


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; errors raised on purpose end with their message and status 2, after --debug with a traceback.

    A reader that has seen enough, as in ``pessimism dag | head -1``, ends it in silence with status 1.
    """
    given = sys.argv[1:] if arguments is None else arguments
    try:
        try:
            if given[:1] == [DEBUG]:
                _run(given[1:])
            else:
                ending_on_errors(lambda: _run(given))
        finally:
            # Also after --help, which ends by an exception.
            if sys.stdout:
                sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it exits, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _run(arguments: Sequence[str]) -> None:
    if sys.stdout is None:
        raise PessimismError("found standard output closed; expected a terminal, a pipe or a file: use > /dev/null")
    if isinstance(sys.stdout, io.TextIOWrapper):
        # What the terminal's encoding lacks, such as × in ASCII, is shown as its number.
        sys.stdout.reconfigure(errors="backslashreplace")
    options = make_parser(arguments[:1]).parse_args(arguments)
    options.run(options)


class _Version(argparse.Action):
    """Looks the version up when it is asked for: no other command waits for that."""

    def __call__(self, parser: argparse.ArgumentParser, *unused: object) -> None:
        print(f"{parser.prog} {pessimism.__version__}")
        parser.exit()


def make_parser(chosen: Sequence[str]) -> argparse.ArgumentParser:
    """The parser with the options of the commands ``chosen``.

    Their modules alone are imported: `pessimism dag` does not wait for pandas.
    """
    parser = argparse.ArgumentParser(prog="pessimism", description=__doc__)
    parser.add_argument("--version", action=_Version, nargs=0, help="show the version of the package and end")
    parser.add_argument(DEBUG, action="store_true", help="end on an error with the traceback of where it comes from")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, purpose in COMMANDS.items():
        command = commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")
        if name in chosen:
            module = importlib.import_module(f"pessimism.commands.{name.replace('-', '_')}")
            module.configure(command)
            command.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    main()

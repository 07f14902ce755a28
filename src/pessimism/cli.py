"""The console script ``pessimism``: what a user wants beside DVC's own commands. Run it in the project's root."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from pessimism.machine import stage

if TYPE_CHECKING:
    Commands: TypeAlias = argparse._SubParsersAction[argparse.ArgumentParser]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one subcommand; errors raised on purpose end with their message and status 1.

    So does, in silence, a reader that has seen enough, as in ``pessimism dag | head -1``.
    """
    options = _parser().parse_args(arguments)
    command: Callable[[argparse.Namespace], None] = options.command
    try:
        stage.ending_on_errors(lambda: command(options))
        sys.stdout.flush()
    except BrokenPipeError:
        # Python flushes once more when it exits, and would complain again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pessimism", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    check = _add(commands, "check", "validate the parameters and the local sources they name")
    check.add_argument("--scale", help="scale to check (default: that of params.yaml)")
    check.set_defaults(command=_check)

    summary = _add(commands, "summary", "where the report is, the main numbers per beta, time per stage")
    summary.set_defaults(command=_summary)

    verify = _add(commands, "verify", "compare the metrics here with the committed ones")
    verify.add_argument("--revision", default="HEAD", help="Git revision to compare with (default: HEAD)")
    verify.add_argument("--exact", action="store_true", help="accept no difference: for the machine of that revision")
    verify.set_defaults(command=_verify)

    ablate = _add(commands, "ablate", "turn one switch of the protocol at a time, each as an experiment of DVC")
    ablate.add_argument(
        "switches", nargs="*", metavar="SWITCH", help="keys of the protocol file (default: every switch)"
    )
    ablate.set_defaults(command=_ablate)

    dag = _add(commands, "dag", "draw the pipeline, one node per stage")
    dag.add_argument("--format", choices=("text", "mermaid"), default="text")
    dag.set_defaults(command=_dag)

    selfcheck = _add(commands, "selfcheck", "try the measuring instrument on the current models")
    selfcheck.add_argument("--scale", help="scale of the models in models/ (default: that of params.yaml)")
    selfcheck.set_defaults(command=_selfcheck)

    _add_plan(commands)

    prune = _add(commands, "prune", "remove files and dvc.lock entries of cells no longer listed")
    prune.set_defaults(command=_prune)

    _add_fanout(commands)
    _add_replay(commands)
    _add_score(commands)
    return parser


def _add(commands: Commands, name: str, purpose: str) -> argparse.ArgumentParser:
    """A subcommand whose purpose stands in the list of all and in its own help."""
    return commands.add_parser(name, help=purpose, description=f"{purpose[0].upper()}{purpose[1:]}.")


def _add_plan(commands: Commands) -> None:
    plan = _add(commands, "plan", "memory, hours and cost of every stage, estimated without loading a weight")
    add = plan.add_argument
    add("--scale", metavar="S", help="plan this scale (default: that of params.yaml)")
    add(
        "--gpu",
        metavar="NAME",
        help="GPU by its name or a part of it (default: H100 80GB; with --brief the one of this machine)",
    )
    add("--gpus", type=int, default=1, metavar="N", help="how many run cells side by side (default: 1)")
    add("--price", type=float, metavar="USD", help="US dollars per GPU and hour (default: assumed by name)")
    form = plan.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as one JSON object")
    form.add_argument("--brief", action="store_true", help="print the hours and whether the memory is enough, no more")
    plan.set_defaults(command=_plan)


def _add_fanout(commands: Commands) -> None:
    fanout = commands.add_parser(
        "fanout",
        help="run the cells of matrix stages as jobs on other GPUs, and merge their results",
        description="Run every cell of the stages that has no result yet as a job of its own, in a clone, and bring "
        "the results back through the DVC remote. Run it again after any failure: only what is missing runs. "
        "docs/paper-scale.md has an example.",
    )
    add = fanout.add_argument
    add("stages", nargs="+", metavar="STAGE", help="matrix stages of dvc.yaml that do not depend on one another")
    add(
        "--executor",
        choices=("slurm", "local"),
        default="slurm",
        help="who starts the jobs: SLURM, or this machine, one job per GPU (default: slurm)",
    )
    add("--jobs", type=int, metavar="N", help="jobs at a time (default: slurm: every cell; local: every GPU)")
    add("--gpus", type=int, default=1, metavar="N", help="GPUs of each job (default: 1)")
    add("--hours", type=float, default=24, metavar="H", help="time after which a job is ended (default: 24)")
    add(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        dest="settings",
        help="setting for SLURM by submitit's name, as often as needed: partition=gpu, account=me, cpus_per_task=8",
    )
    add(
        "--folder",
        type=Path,
        help="for clones and logs; all machines must see it under this path (default: .dvc/tmp/fanout of the project)",
    )
    fanout.set_defaults(command=_fanout)


def _add_replay(commands: Commands) -> None:
    replay = commands.add_parser(
        "replay",
        help="the paper's numbers from its published AUGC values, and AUGC of a policy that never changes",
        description="Recompute the paper's headline numbers from its three AUGC values and betas, then draw the AUGC "
        "of a policy that never changes under the assumptions given here. No model, no run; a few seconds.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = replay.add_argument
    add("--proxy-mean", type=float, nargs="+", default=[1, 3, -1], metavar="R", help="mean proxy reward of a response")
    add(
        "--accuracy",
        type=float,
        nargs="+",
        default=[0.05, 0.1, 0.2, 0.3, 0.5, 0.7],
        metavar="P",
        help="chance that a response is right; a row per proxy mean and accuracy",
    )
    add("--proxy-sd", type=float, default=2, metavar="R", help="standard deviation of a response's proxy reward")
    add("--batch", type=int, default=4, metavar="N", help="responses per measured point")
    add("--last-step", type=int, default=164, metavar="N", help="last measured step")
    add("--every", type=int, default=3, metavar="N", help="steps between measured points")
    add("--draws", type=int, default=10_000, metavar="N", help="sets of three runs drawn per row")
    add("--seed", type=int, default=0, metavar="N", help="seed of the draws")
    add("--json", action="store_true", help="print one JSON object instead of tables")
    replay.set_defaults(command=_replay)


def _add_score(commands: Commands) -> None:
    score = commands.add_parser(
        "score",
        help="the metrics of this project on the log of any run: CSV, JSON lines or parquet",
        description="Score logs of runs that train a policy on a proxy reward, from any trainer. Rows are samples "
        "(several per step) or steps (then --proxy-sd and --true-sd give the controlled measure). docs/score.md has an "
        "example.",
    )
    add = score.add_argument
    add("table", type=Path, nargs="+", help="one or more .csv, .jsonl or .parquet files that together hold the runs")
    add("--step", default="step", metavar="COL", help="training steps done when the row was measured (default: step)")
    add("--proxy", default="proxy_reward", metavar="COL", help="reward trained on (default: proxy_reward)")
    add("--true", default="true_reward", metavar="COL", help="reward it stands for (default: true_reward)")
    add("--prompt", metavar="COL", help="prompt of a sample: gives regret and the onset's interval")
    add("--kl", metavar="COL", help="KL divergence from the start, per row: gives AUGC over KL")
    add("--proxy-sd", metavar="COL|X", help="proxy's sd over samples: a column, or the base policy's as a number")
    add(
        "--true-sd", metavar="COL|X", help="true reward's sd, likewise (default of both: over the first step's samples)"
    )
    add("--beta", metavar="COL", help="number that the runs vary: gives trend tests over it")
    add("--seed", metavar="COL", help="seed of a run: pairs runs of different beta")
    add("--arm", metavar="COL", help="arm of a run, such as trained and placebo")
    add("--placebo", metavar="VALUE", help="value of --arm whose runs never learn: gives the excess over them")
    add(
        "--group",
        metavar="COL",
        action="append",
        default=[],
        help="further column that tells runs apart, as often as needed; 'file' = every file is a run",
    )
    add(
        "--threshold", type=float, metavar="X", help="controlled gap that counts as hacking, in sd (default: from data)"
    )
    add("--json", action="store_true", help="print everything as one JSON object")
    score.set_defaults(command=_score)


# Each command imports its own module, so that `pessimism dag` does not wait for pandas.


def _check(options: argparse.Namespace) -> None:
    from pessimism.commands import check

    print(check.check(options.scale))


def _summary(options: argparse.Namespace) -> None:
    from pessimism.commands import summary

    print(summary.summary())


def _verify(options: argparse.Namespace) -> None:
    from pessimism.commands import verify

    print(verify.verify(options.revision, options.exact))


def _ablate(options: argparse.Namespace) -> None:
    from pessimism.commands import ablate

    print(ablate.ablate(options.switches))


def _dag(options: argparse.Namespace) -> None:
    from pessimism.commands import dag

    print(dag.draw(options.format))


def _selfcheck(options: argparse.Namespace) -> None:
    from pessimism.commands import selfcheck

    for line in selfcheck.selfcheck(options.scale):
        print(line, flush=True)


def _plan(options: argparse.Namespace) -> None:
    from pessimism.commands import plan

    if options.brief:
        print(plan.brief(options.scale, options.gpu, options.gpus, options.price))
        return
    gpu = options.gpu or plan.DEFAULT_GPU
    print(plan.plan(options.scale, gpu, options.gpus, options.price, options.json))


def _prune(options: argparse.Namespace) -> None:
    from pessimism.commands import prune

    removed = prune.prune()
    print("\n".join(f"removed {name}" for name in removed) or "nothing left over")


def _fanout(options: argparse.Namespace) -> None:
    from pessimism.commands import fanout
    from pessimism.fanout.scheduling import Resources, parse_settings

    resources = Resources(options.executor, options.jobs, options.gpus, options.hours, parse_settings(options.settings))
    for line in fanout.fanout(options.stages, resources, options.folder or fanout.FOLDER):
        print(line, flush=True)


def _replay(options: argparse.Namespace) -> None:
    from pessimism.commands import replay

    assumptions = replay.Assumptions(
        proxy_means=options.proxy_mean,
        accuracies=options.accuracy,
        proxy_sd=options.proxy_sd,
        batch=options.batch,
        last_step=options.last_step,
        every=options.every,
        draws=options.draws,
        seed=options.seed,
    )
    print(replay.replay(assumptions, options.json))


def _score(options: argparse.Namespace) -> None:
    from pessimism.commands import score
    from pessimism.scoring.run_log import Columns
    from pessimism.scoring.run_scores import Design

    columns = Columns(
        step=options.step,
        proxy=options.proxy,
        true=options.true,
        groups=tuple(dict.fromkeys(filter(None, [*options.group, options.arm, options.beta, options.seed]))),
        prompt=options.prompt,
        kl=options.kl,
        proxy_sd=_column_or_number(options.proxy_sd),
        true_sd=_column_or_number(options.true_sd),
    )
    design = Design(options.beta, options.seed, options.arm, options.placebo, options.threshold)
    print(score.score(options.table, columns, design, options.json))


def _column_or_number(text: str | None) -> str | float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return text


if __name__ == "__main__":
    main()

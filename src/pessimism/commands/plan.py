"""What a run would need, as text or JSON: models, derived values, memory, hours, cost, and how cells share GPUs."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pessimism.commands.table import aligned
from pessimism.errors import ParamsError
from pessimism.experiment.params import load_params
from pessimism.planning.hardware import Gpu, find_gpu, gpu_here

if TYPE_CHECKING:
    from pessimism.planning.plan import Plan, StagePlan

DEFAULT_GPU = "H100 80GB"
WIDTH = 118
HARD_SPACE = "\u00a0"
GROUPS = {
    "weights": ("weights", "policy weights", "reward weights"),
    "adapters": ("adapters",),
    "optimiser": ("gradients", "optimiser"),
    "activations": ("activations",),
    "logits": ("logits",),
    "KV cache": ("KV cache",),
}
BRIEF_GROUPS = {
    "reward models": ("train_reward_model", "assess_ensemble"),
    "reference and DPO": ("measure_reference", "train_dpo"),
    "online": ("adapt_online",),
}


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scale", metavar="S", help="plan this scale (default: that of params.yaml)")
    add(
        "--gpu",
        metavar="NAME",
        help="GPU by its name or a part of it (default: H100 80GB; with --brief the one of this machine)",
    )
    add("--gpus", type=int, default=1, metavar="N", help="how many run cells side by side (default: 1)")
    add("--price", type=float, metavar="USD", help="US dollars per GPU and hour (default: assumed by name)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print everything as one JSON object")
    form.add_argument("--brief", action="store_true", help="print the hours and whether the memory is enough, no more")


def run(options: argparse.Namespace) -> None:
    if options.brief:
        print(brief(options.scale, options.gpu, options.gpus, options.price))
        return
    print(plan(options.scale, options.gpu or DEFAULT_GPU, options.gpus, options.price, options.json))


def plan(scale: str | None, gpu: str, gpus: int, price: float | None, as_json: bool) -> str:
    """Plan the design of params.yaml at its scale or another.

    Raises:
        ParamsError: the parameters, the GPU's name or a number is not usable.
        SourceError: a model or a data set is neither known nor in reach.
    """
    found = _found(scale, find_gpu(gpu), gpus, price)
    if as_json:
        return json.dumps(found.as_json(), indent=2, sort_keys=True)
    parts = (_opening, _models, _stages, _memory, _values, _totals, _assumptions)
    return "\n\n".join(part(found) for part in parts)


def brief(scale: str | None, gpu: str | None, gpus: int, price: float | None) -> str:
    """Planned hours by group of stages and whether the memory is enough, in a few lines, for the start of a long run.

    Args:
        gpu: name; None = this machine's CUDA device, or the default GPU where there is none.

    Raises:
        ParamsError, SourceError: as from :func:`plan`.
    """
    if gpu is not None:
        return _brief(_found(scale, find_gpu(gpu), gpus, price))
    here = gpu_here()
    text = _brief(_found(scale, here or find_gpu(DEFAULT_GPU), gpus, price))
    return text if here else f"no CUDA device here; {text}"


def _found(scale: str | None, gpu: Gpu, gpus: int, price: float | None) -> Plan:
    from pessimism.planning.plan import make_plan

    for name, value in (("--gpus", gpus), ("--price", price)):
        if value is not None and value <= 0:
            raise ParamsError(f"{name}: found {value}; expected a number above 0")
    return make_plan(load_params(scale=scale), gpu, gpus, price)


def _brief(found: Plan) -> str:
    hours = {stage.name: stage.hours * stage.cells for stage in found.stages}
    grouped = {name: sum(hours.pop(stage) for stage in stages) for name, stages in BRIEF_GROUPS.items()}
    parts = ", ".join(f"{name} {value:.1f}" for name, value in (grouped | {"rest": sum(hours.values())}).items())
    walls = "".join(f", {wall:.1f} on {count} such" for count, wall in found.wall_hours.items() if count > 1)
    largest = max(found.stages, key=lambda stage: stage.needed_bytes)
    verdicts = [
        f"{stage.name} needs {_gigabytes(stage.needed_bytes)} in {stage.peak_in}: more than the "
        f"{_gigabytes(found.gpu.memory_bytes)} of this GPU"
        for stage in found.stages
        if not stage.fits
    ] or [f"memory: at most {_gigabytes(largest.needed_bytes)}, in {largest.name}; every stage fits"]
    return "\n".join(
        [
            f"planned on one {found.gpu.name}: {found.total_hours:.0f} hours ({parts}){walls}, about "
            f"${found.total_cost_usd:,.0f}; an estimate, of which `pessimism plan` shows the parts",
            *verdicts,
        ]
    )


def _opening(found: Plan) -> str:
    cells = {stage.name: stage.cells for stage in found.stages}
    return (
        f"Scale {found.scale}, protocol {found.protocol}, on {found.gpu.name}: {cells['train_dpo']} DPO cells, "
        f"{cells['adapt_online']} online cells, {cells['train_reward_model']} reward models.\n"
        "Sizes are counted from the models' code without a weight. Hours and cost are estimates, which rest on the\n"
        "assumptions below."
    )


def _models(found: Plan) -> str:
    rows = [("role", "model", "parameters", "trained by", "LoRA", "trained parameters")]
    for role, name in (("policy", "train_dpo"), ("reward", "train_reward_model")):
        stage = _stage(found, name)
        values = stage.hyperparameters
        lora = f"rank {values['lora_rank']}, alpha {values['lora_alpha']}, dropout {values['lora_dropout']:g}"
        counts = (f"{stage.parameters[role]:,}", name, lora, f"{stage.trainable_parameters:,}")
        rows.append((role, stage.models[role], *counts))
    data = found.rows
    return (
        f"Models and data\n{_columns(rows)}\n"
        f"  pairs: {data['train_pairs']:,} to train on, {data['val_pairs']:,} to validate; problems: "
        f"{data['training_tasks']:,} to train on, {data['heldout_tasks']:,} held out, {data['test_tasks']:,} for tests"
    )


def _stages(found: Plan) -> str:
    header = ("stage", "cells", "tokens", "FLOPs", "GPU memory", "fits", "hours", "all hours", "cost")
    units = ("", "", "a cell", "a cell", "needed", f"{found.gpu.memory_bytes / 1e9:.1f} GB", "a cell", "", "")
    rows = [
        (
            stage.name,
            f"{stage.cells}",
            _short(stage.tokens),
            _power(stage.flops),
            _gigabytes(stage.needed_bytes),
            "yes" if stage.fits else "NO",
            f"{stage.hours:.2f}",
            f"{stage.hours * stage.cells:.1f}",
            f"${stage.cost_usd:,.0f}",
        )
        for stage in found.stages
    ]
    total = ("total", "", "", "", "", "", "", f"{found.total_hours:.1f}", f"${found.total_cost_usd:,.0f}")
    return f"Stages that run a model\n{_columns([header, units, *rows, total], right=range(1, 9))}"


def _memory(found: Plan) -> str:
    rows = [("stage", *GROUPS, "sum", "largest in")]
    for stage in found.stages:
        sizes = [sum(stage.memory.get(name, 0) for name in names) for names in GROUPS.values()]
        rows.append((stage.name, *(_cell(size) for size in sizes), f"{stage.peak_bytes / 1e9:.1f}", stage.peak_in))
    return (
        f"GPU memory at the largest moment, GB (bytes / 1e9)\n{_columns(rows, right=range(1, 8))}\n"
        "  optimiser: gradients and AdamW's two moments; needed (above): this sum with what allocator and driver take"
    )


def _values(found: Plan) -> str:
    lines = []
    for stage in found.stages:
        if stage.hyperparameters:
            values = ", ".join(f"{name}{HARD_SPACE}{_value(value)}" for name, value in stage.hyperparameters.items())
            lines += textwrap.wrap(f"{stage.name}: {values}", WIDTH, initial_indent="  ", subsequent_indent="    ")
    text = "\n".join(["Values as the scale sets them or the paper's formulas derive them", *lines])
    return text.replace(HARD_SPACE, " ")


def _totals(found: Plan) -> str:
    chain = " > ".join(found.critical_path)
    walls = [
        f"  {hours:.1f} hours on {count} GPU{'s' if count > 1 else ''}, cells that the longest chain waits for first"
        for count, hours in found.wall_hours.items()
    ]
    cost = f"${found.total_cost_usd:,.0f} at ${found.gpu.usd_per_hour:.2f} an hour"
    longest = f"  {found.critical_path_hours:.1f} hours at least on any number of GPUs, the longest chain: {chain}"
    return "\n".join(
        [
            "Time, disk and network",
            f"  {found.total_hours:.2f} GPU hours, {cost}",
            *walls,
            *textwrap.wrap(longest, WIDTH, initial_indent="", subsequent_indent="    ", drop_whitespace=True),
            f"  {_gigabytes(found.storage.download_bytes)} of models and data to download and keep, "
            f"{_gigabytes(found.storage.output_bytes)} of adapters written",
        ]
    )


def _assumptions(found: Plan) -> str:
    gpu = found.gpu
    peaks = (
        f"  {gpu.name}: {gpu.bfloat16_flops / 1e12:g} TFLOP/s in bfloat16, {gpu.tf32_flops / 1e12:g} in TF32, "
        f"{gpu.float32_flops / 1e12:g} in float32, {gpu.bandwidth / 1e12:g} TB/s, {gpu.memory_bytes / 1e9:g} GB, "
        f"${gpu.usd_per_hour:.2f} an hour\n"
        f"  float32 products of head and adapters: {'TF32' if found.precision == 'high' else 'float32'} "
        f"(matmul_precision: {found.precision})"
    )
    described = found.assumptions.described() + found.work_assumptions
    rows = [(name, f"{value:.4g}", means) for name, value, means in described]
    return f"Assumptions\n{peaks}\n{_columns(rows, right=[1])}"


def _stage(found: Plan, name: str) -> StagePlan:
    return next(stage for stage in found.stages if stage.name == name)


def _columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Indented columns; those numbered in ``right`` are flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[text.rjust(widths[at]) if at in right else text for at, text in enumerate(row)] for row in rows]
    return "\n".join(f"  {line}" for line in aligned(padded).splitlines())


def _cell(size: float) -> str:
    return f"{size / 1e9:.2f}" if size >= 5e6 else "-"


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _short(count: float) -> str:
    return f"{count / 1e6:,.1f} M" if count else "-"


def _power(count: float) -> str:
    return f"{count:.1e}" if count else "-"


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"

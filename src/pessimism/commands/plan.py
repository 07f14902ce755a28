"""What a run would need, as text or JSON: models, derived values, memory, tokens, FLOPs, hours and cost."""

from __future__ import annotations

import argparse
import json
import textwrap
from collections.abc import Sequence
from typing import Any

from pessimism.commands.table import aligned
from pessimism.errors import ParamsError
from pessimism.experiment import layout
from pessimism.experiment.params import load_params
from pessimism.planning.hardware import find_gpu, gpu_here
from pessimism.planning.plan import make_plan
from pessimism.planning.stages import PLACEBO

Printed = dict[str, Any]

DEFAULT_GPU = "H100 80GB"
WIDTH = 118
HARD_SPACE = "\u00a0"
FLOAT32_PRODUCTS = {"high": "TF32", "highest": "float32"}
COMPONENTS = ("weights", "adapters", "optimiser", "activations", "logits", "KV cache")
BRIEF_GROUPS = {
    "reward models": ("train_reward_model", "assess_ensemble"),
    "reference and DPO": ("measure_reference", "train_dpo"),
    "online": ("adapt_online", PLACEBO),
}


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--scale", metavar="S", help="plan this scale (default: that of params.yaml)")
    add("--gpu", default=DEFAULT_GPU, metavar="NAME", help="GPU by its name or a part of it (default: %(default)s)")
    add("--gpus", type=int, default=1, metavar="N", help="how many run cells side by side (default: 1)")
    add("--price", type=float, metavar="USD", help="US dollars per GPU and hour (default: assumed by name)")
    add("--json", action="store_true", help="print everything as one JSON object")


def run(options: argparse.Namespace) -> None:
    print(plan(options.scale, options.gpu, options.gpus, options.price, options.json))


def plan(scale: str | None, gpu: str, gpus: int, price: float | None, as_json: bool) -> str:
    """Plan the design of params.yaml, or where there is none the committed one, at its scale or another.

    Raises:
        ParamsError: the parameters, the GPU's name or a number is not usable.
        SourceError: a model or a data set is not known, or a model is none that is counted.
    """
    for name, value in (("--gpus", gpus), ("--price", price)):
        if value is not None and value <= 0:
            raise ParamsError(f"{name}: found {value}; expected a number above 0")
    found = make_plan(load_params(layout.design_root(), scale=scale), find_gpu(gpu), gpus, price)
    if as_json:
        return json.dumps(found, indent=2, sort_keys=True)
    parts = (_opening, _stages, _memory, _values, _totals, _assumptions)
    return "\n\n".join(part(found) for part in parts)


def brief(scale: str | None) -> str:
    """Planned time by group of stages and whether the memory is enough, in a few lines, for the start of a long run.

    For this machine's CUDA device, or the default GPU where there is none.

    Raises:
        ParamsError, SourceError: as from :func:`plan`.
    """
    here = gpu_here()
    found = make_plan(load_params(scale=scale), here or find_gpu(DEFAULT_GPU))
    stages, gpu = found["stages"], found["gpu"]
    hours = {stage["name"]: stage["hours"] * stage["cells"] for stage in stages}
    grouped = {name: sum(hours.pop(stage, 0.0) for stage in members) for name, members in BRIEF_GROUPS.items()}
    grouped["rest"] = sum(hours.values())
    parts = ", ".join(f"{name} {_duration(value)}" for name, value in grouped.items())
    largest, room = max(stages, key=lambda stage: stage["needed_bytes"]), _gigabytes(gpu["memory_bytes"])
    fits = f"memory: at most {_gigabytes(largest['needed_bytes'])}, in {largest['name']}; every stage fits"
    needs = "{} needs {} in {}: more than the {} of this GPU"
    too_large = [
        needs.format(stage["name"], _gigabytes(stage["needed_bytes"]), stage["peak_in"], room)
        for stage in stages
        if not stage["fits"]
    ]
    time, cost = _duration(found["total_hours"]), _dollars(found["total_cost_usd"])
    opening = (
        f"{'' if here else 'no CUDA device here; '}planned on one {gpu['name']}: {time} ({parts}), about {cost}; an "
        "estimate, of which `pessimism plan` shows the parts"
    )
    return "\n".join([opening, *(too_large or [fits])])


def _opening(found: Printed) -> str:
    cells, data = {stage["name"]: stage["cells"] for stage in found["stages"]}, found["rows"]
    online = cells["adapt_online"] + cells.get(PLACEBO, 0)
    models = [("role", "model", "parameters", "trained", "sequences read at once")]
    for role, model in found["models"].items():
        counts = (f"{model[key]:,}" for key in ("parameters", "trainable_parameters", "evaluation_batch_size"))
        models.append((role, model["name"], *counts))
    return (
        f"Scale {found['scale']}, protocol {found['protocol']}, on {found['gpu']['name']}: {cells['train_dpo']} DPO "
        f"cells, {online} online cells, {cells['train_reward_model']} reward models.\n"
        "Sizes are counted in closed form. Times and cost are estimates, which rest on the assumptions below.\n\n"
        f"Models and data\n{_columns(models, right=(2, 3, 4))}\n"
        f"  pairs: {data['train_pairs']:,} to train on, {data['val_pairs']:,} to validate; problems: "
        f"{data['training_tasks']:,} to train on, {data['heldout_tasks']:,} held out, {data['test_tasks']:,} for tests"
    )


def _stages(found: Printed) -> str:
    rows: list[tuple[str, ...]] = [
        ("stage", "cells", "tokens", "FLOPs", "GPU memory", "fits", "time", "all cells", "cost"),
        ("", "", "a cell", "a cell", "needed", _gigabytes(found["gpu"]["memory_bytes"]), "a cell", "", ""),
    ]
    for stage in found["stages"]:
        tokens = f"{stage['tokens'] / 1e6:,.1f} M" if stage["tokens"] else "-"
        flops = f"{stage['flops']:.1e}" if stage["flops"] else "-"
        memory = (_gigabytes(stage["needed_bytes"]), "yes" if stage["fits"] else "NO")
        times = (_duration(stage["hours"]), _duration(stage["hours"] * stage["cells"]))
        rows.append((stage["name"], f"{stage['cells']}", tokens, flops, *memory, *times, _dollars(stage["cost_usd"])))
    rows.append(("total", *[""] * 6, _duration(found["total_hours"]), _dollars(found["total_cost_usd"])))
    return f"Stages that run a model\n{_columns(rows, right=range(1, 9))}"


def _memory(found: Printed) -> str:
    rows: list[tuple[str, ...]] = [("stage", *COMPONENTS, "sum", "largest in")]
    for stage in found["stages"]:
        sizes = [stage["memory"].get(name, 0) for name in COMPONENTS]
        cells = (f"{size / 1e9:.2f}" if size >= 5e6 else "-" for size in sizes)
        rows.append((stage["name"], *cells, f"{sum(sizes) / 1e9:.1f}", stage["peak_in"]))
    return (
        f"GPU memory at the largest moment, GB (bytes / 1e9)\n{_columns(rows, right=range(1, 8))}\n"
        "  optimiser: gradients and AdamW's two moments; needed (above): this sum with what allocator and driver take"
    )


def _values(found: Printed) -> str:
    lines = ["Values as the scale sets them or the paper's formulas derive them"]
    for stage in found["stages"]:
        values = [f"{name}{HARD_SPACE}{_value(value)}" for name, value in stage["hyperparameters"].items()]
        text = f"{stage['name']}: {', '.join(values)}"
        lines += textwrap.wrap(text, WIDTH, initial_indent="  ", subsequent_indent="    ") if values else []
    return "\n".join(lines).replace(HARD_SPACE, " ")


def _totals(found: Printed) -> str:
    cost = f"{_dollars(found['total_cost_usd'])} at ${found['gpu']['usd_per_hour']:.2f} an hour"
    gpus = f"{found['gpus']} GPU{'s' if found['gpus'] > 1 else ''}"
    return (
        f"Time, disk and network\n  {_duration(found['total_hours'])} of GPU time, {cost}\n"
        f"  {_duration(found['wall_hours'])} on {gpus}, one cell on each, stage after stage\n"
        f"  {_gigabytes(found['download_bytes'])} of models and data to download and keep, "
        f"{_gigabytes(found['output_bytes'])} of adapters written"
    )


def _assumptions(found: Printed) -> str:
    gpu = found["gpu"]
    rows = [(name, f"{value:.4g}", means) for name, value, means in found["assumptions"]]
    return (
        f"Assumptions\n  {gpu['name']}: {gpu['bfloat16_flops'] / 1e12:g} TFLOP/s in bfloat16, "
        f"{gpu['tf32_flops'] / 1e12:g} in TF32, {gpu['float32_flops'] / 1e12:g} in float32, "
        f"{gpu['bandwidth'] / 1e12:g} TB/s, {gpu['memory_bytes'] / 1e9:g} GB\n"
        f"  float32 products in {FLOAT32_PRODUCTS[found['precision']]} (matmul_precision: {found['precision']})\n"
        f"{_columns(rows, right=[1])}"
    )


def _columns(rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Indented columns; those numbered in ``right`` are flush right."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    padded = [[text.rjust(widths[at]) if at in right else text for at, text in enumerate(row)] for row in rows]
    return textwrap.indent(aligned(padded), "  ")


def _gigabytes(size: float) -> str:
    return f"{size / 1e9:.1f} GB"


def _duration(hours: float) -> str:
    """In the largest unit of which there is one at least; seconds below that."""
    for size, unit in ((1.0, "h"), (1 / 60, "min")):
        if hours >= size:
            return f"{_three_digits(hours / size)} {unit}"
    return f"{_three_digits(hours * 3600)} s"


def _dollars(amount: float) -> str:
    return f"${amount:,.2f}" if amount < 10 else f"${amount:,.0f}"


def _three_digits(value: float) -> str:
    return f"{value:.3g}" if value < 100 else f"{value:,.0f}"


def _value(value: float) -> str:
    return f"{value:.4g}" if isinstance(value, float) else f"{value:,}"

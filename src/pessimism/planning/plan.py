"""The plan of a whole run: every stage's size, memory, hours and cost, and how long all of it takes."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import asdict, replace
from typing import Any

from pessimism.experiment import layout, pipeline
from pessimism.experiment.params import Params
from pessimism.planning.hardware import ASSUMED, ASSUMPTIONS, Gpu, seconds
from pessimism.planning.layer import FUSED_4BIT_ROWS
from pessimism.planning.lengths import FORMAT_TOKENS
from pessimism.planning.role import FLOAT32, Role
from pessimism.planning.setting import FEWEST_PROMPT_TOKENS, Pass, Setting
from pessimism.planning.stages import PLACEBO, StageWork, every_stage

HOUR = 3600.0


def make_plan(params: Params, gpu: Gpu, gpus: int = 1, price: float | None = None) -> dict[str, Any]:
    """What ``pessimism plan --json`` prints of a run of everything that ``params`` list.

    Hours are estimates: ``total_hours`` of GPUs and all cells, ``wall_hours`` until the end on ``gpus``, one cell on
    each at a time, stage after stage.

    Args:
        price: US dollars per hour and GPU; None takes the assumption about this GPU.

    Raises:
        SourceError: a model or a data set is not known, or a model is none that is counted.
    """
    gpu = gpu if price is None else replace(gpu, usd_per_hour=price)
    setting = Setting(params)
    work = every_stage(setting)
    (online,) = (entry.values for entry in work if entry.name == "adapt_online")
    cells = _cells(params)
    stages = [_stage(entry, setting, cells[entry.name], gpu) for entry in work]
    hours = dict.fromkeys(cells, ASSUMED["other_stage_hours"]) | {stage["name"]: stage["hours"] for stage in stages}
    total = sum(stage["hours"] * stage["cells"] for stage in stages)
    return {
        "scale": params.scale_name,
        "protocol": params.protocol_name,
        "gpu": asdict(gpu),
        "gpus": gpus,
        "precision": params.scale.matmul_precision,
        "assumptions": _assumptions(setting, online["batch_size"], setting.generation_batch),
        "models": {role.name: _model(role, setting) for role in (setting.policy, setting.reward)},
        "rows": asdict(setting.rows),
        "stages": stages,
        "download_bytes": _downloaded(setting),
        "output_bytes": FLOAT32 * sum(cells[entry.name] * entry.written.trainable for entry in work if entry.written),
        "total_hours": total,
        "total_cost_usd": total * gpu.usd_per_hour,
        "wall_hours": sum(math.ceil(cells[name] / gpus) * hours[name] for name in cells),
    }


def _cells(params: Params) -> Counter[str]:
    """Cells by script, those of the online phase that are never trained by ``PLACEBO``."""
    cells: Counter[str] = Counter()
    for stage in pipeline.load_stages(layout.design_root() / layout.PIPELINE):
        cells[stage.script] += math.prod(len(getattr(params, key)) for key in stage.axes.values())
    untrained = sum(params.arm(arm).is_placebo for arm in params.arms)
    cells[PLACEBO] = cells["adapt_online"] * untrained // len(params.arms)
    cells["adapt_online"] -= cells[PLACEBO]
    return cells


def _stage(work: StageWork, setting: Setting, cells: int, gpu: Gpu) -> dict[str, Any]:
    """A stage that runs a model: tokens (with padding), FLOPs and hours of one cell, the cost of all.

    ``memory`` is in bytes by component, at the largest moment of the stage, which is in the pass ``peak_in``;
    ``needed_bytes`` is its sum with the allocator's and the driver's share.
    """
    passes = [_pass(made, gpu, setting.scale.matmul_precision) for made in work.passes]
    largest = max(work.passes, key=lambda made: sum(made.memory.values()), default=None)
    memory = work.resident | (largest.memory if largest else {})
    needed = sum(memory.values()) * (1 + ASSUMED["memory_overhead"]) + ASSUMED["context_bytes"]
    hours = sum(entry["hours"] for entry in passes)
    hours += sum(role.stored_bytes for role in work.roles) / ASSUMED["read_bytes_per_second"] / HOUR
    if work.name == "prepare_base":
        hours += _downloaded(setting) / ASSUMED["download_bytes_per_second"] / HOUR
    return {
        "name": work.name,
        "cells": cells,
        "hyperparameters": work.values,
        "passes": passes,
        "tokens": sum(entry["tokens"] for entry in passes),
        "flops": sum(entry["flops"] for entry in passes),
        "memory": memory,
        "peak_in": largest.name if largest else "loading",
        "needed_bytes": needed,
        "fits": needed <= gpu.memory_bytes,
        "hours": hours,
        "cost_usd": hours * cells * gpu.usd_per_hour,
    }


def _pass(made: Pass, gpu: Gpu, precision: str) -> dict[str, Any]:
    flops, hours = sum(kernel.flops for kernel in made.kernels), seconds(made.kernels, gpu, precision) / HOUR
    once = {"tokens": made.positions, "flops": flops, "hours": hours}
    return {"name": made.name, "calls": made.calls} | {key: made.calls * value for key, value in once.items()}


def _model(role: Role, setting: Setting) -> dict[str, Any]:
    counts = {"parameters": role.parameters, "trainable_parameters": role.trainable}
    return {"name": role.model, **counts, "evaluation_batch_size": setting.evaluation_batch(role)}


def _assumptions(setting: Setting, *drawn: int) -> list[tuple[str, float, str]]:
    """Name, value and meaning of each; ``drawn``: numbers of responses that are drawn together."""
    texts, whole, scored = setting.texts, setting.texts.sides.whole, setting.texts.sides.scored
    longest = "mean tokens of the longest of {}: steps that such a batch takes"
    return [
        *ASSUMPTIONS,
        ("text_tokens", whole.mean(), "mean tokens of a preference text, by SmolLM2's tokenizer as all here"),
        ("scored_tokens", scored.mean(), "of them, tokens of responses, which alone the head scores"),
        ("format_tokens", FORMAT_TOKENS, "of them, tokens that a chat template adds to a prompt"),
        ("prompt_tokens", texts.problems.mean(), "mean tokens of a problem's prompt"),
        ("response_tokens", texts.solutions.mean(), "mean tokens of a response: GSM8K's own solutions"),
        *[("longest_response", texts.longest_response(count), longest.format(count)) for count in drawn],
        ("fewest_prompt_tokens", FEWEST_PROMPT_TOKENS, "of a pair, at the largest moment: its row is the longest"),
        ("fused_4bit_rows", FUSED_4BIT_ROWS, "rows up to which a 4-bit product does not unpack its weights first"),
    ]


def _downloaded(setting: Setting) -> float:
    """Bytes of hub models, each once, and of hub data sets."""
    found = {role.model: role.stored_bytes for role in (setting.reward, setting.policy) if role.from_hub}
    if "hub" in (setting.scale.preferences.source, setting.scale.tasks.source):
        found["data sets"] = ASSUMED["data_set_bytes"]
    return sum(found.values())

"""Every switch of the protocol files changes exactly what it names, and is read at one place."""

from __future__ import annotations

import ast
import dataclasses
import re
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from transformers import TemperatureLogitsWarper

from pessimism.data.prompts import dpo_prompt_ids, online_prompt_ids
from pessimism.experiment import layout, records, rng
from pessimism.experiment.params import Arm, Params, Protocol
from pessimism.experiment.pipeline import INPUTS
from pessimism.models.compute.generation import Rollouts, RowDraw
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.offline.beta_grid import grid_record
from pessimism.online import loop, rollout
from pessimism.online.terms import kl_coefficient
from pessimism.scoring import scores
from pessimism.scoring.checkpoint_columns import CHECKPOINT_COLUMNS
from pessimism.scoring.measures import MEASURES
from pessimism.scoring.runs import Measurements, read_measurements
from support import online_world as online
from support.repository import CHECKOUT, python_files
from support.stage_code import BODIES
from support.synthetic_project import Invented, write_project

PAPER, CONTROLLED = (
    yaml.safe_load((CHECKOUT / f"protocols/{name}.yaml").read_text()) for name in ("paper", "controlled")
)
# Values that belong to a switch beside them, and are read where it is, or that both protocols share.
NOT_SWITCHES = {
    "kl_percentile",
    "temperature",
    "top_p",
    "top_k",
    "uwo_weight",
    "controlled_threshold",
}

# Switches on which both protocols agree.
ALIKE = {"paired_seeds"}

# Switch -> everything of `facts` that changes when it alone is turned from the published value to its other one.
CHANGES = {
    "arms": {"numerator of kappa"},
    "kl_numerator": {"numerator of kappa, one for every beta"},
    "kl_noise_floor": {"kappa where policy and reference differ by rounding"},
    "prompt_split": {"training problems"},
    "paired_seeds": {"random streams of a run", "rewards of a training batch"},  # the latter by their dropout's masks
    "policy_dropout": {"log-ratio before the first update"},
    "reward_dropout": {"rewards of a training batch"},
    "normalize_rewards": {"rewards of a training batch", "rewards of the held-out problems"},
    "sampling": {"sampled distribution"},
    "prompt_format": {"prompt ids"},
    "enable_thinking": {"ids of a preference pair's prompt"},
    "prompt_cut": {"ids of a long prompt"},
    "retokenize_responses": {"trained ids"},
    "score_eos": {"trained ids"},
    "grid_precision": {"beta grid"},
    "gap_rewards": {"published gap"},
    "gap_baseline": {"published gap"},
    "entropy_tokens": {"published entropy"},
    "probe_layer": {"published distance and diversity"},
    "probe_members": {"published distance and diversity"},
    "diversity_prompts": {"published distance and diversity"},
}
ALWAYS_THE_SAME = {"controlled gap", "controlled probes"}


def test_the_two_protocols_differ_in_every_switch_but_those_alike() -> None:
    assert PAPER.keys() == CONTROLLED.keys()
    assert {key for key in PAPER if PAPER[key] != CONTROLLED[key]} == CHANGES.keys() - ALIKE
    assert CHANGES.keys() | NOT_SWITCHES == PAPER.keys()


# The draws, and what tests or resamples runs as they were drawn: four stages, the command that judges several worlds,
# and what simulates the power of a run.
READ_BY_TESTS_TOO = {"paired_seeds": 7}


@pytest.mark.parametrize("key", sorted(PAPER.keys() - {"arms"}))
def test_a_switch_is_read_at_one_place(key: str) -> None:
    """Where it decides something. Checks, planner, report and self-check repeat what is set and do not count."""
    files = [*python_files("src"), *python_files("stages")]
    reads = Counter(
        file.relative_to(CHECKOUT).as_posix()
        for file in files
        if file.name != "params.py" and file.parent.name not in ("checks", "planning", "reporting", "selfcheck")
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Attribute) and node.attr == key and _is_protocol(node.value)
    )
    assert sum(reads.values()) == READ_BY_TESTS_TOO.get(key, 1), f"{key} is read in {dict(reads)}"


def _is_protocol(node: ast.expr) -> bool:
    return getattr(node, "attr", getattr(node, "id", "")) == "protocol"


# Stages that a switch makes run again; whatever reads their outputs follows.
DRAWING = {"measure_base", "adapt_online", "probe_policy", "select_best_of_n"}
BEFORE = {
    "prepare_base",
    "sample_pairs",
}  # a warm start poses problems, and pairs are drawn, where a scale asks for them
RERUN = {
    "prompt_format": DRAWING | BEFORE,
    "enable_thinking": {"measure_reference"} | DRAWING | BEFORE,
    "prompt_cut": DRAWING | BEFORE,
    "sampling": {"sample_pairs", *DRAWING},
    "normalize_rewards": DRAWING - {"probe_policy"},
    "paired_seeds": {
        "train_dpo",
        "adapt_online",
        "select_best_of_n",
        "score_hacking",
        "fit_power_law",
        "check_claims",
        "trace_mechanism",
    },
    "grid_precision": {"derive_beta_grid"},
    "arms": {"adapt_online", "score_hacking", "fit_power_law", "check_claims"},
} | dict.fromkeys(
    ("gap_rewards", "gap_baseline", "entropy_tokens", "probe_layer", "probe_members", "diversity_prompts"),
    {"score_hacking"},
)


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_a_switch_runs_only_the_stages_it_concerns(key: str) -> None:
    tracking = {
        name
        for name, body in BODIES.items()
        for entry in body.get("params", [])
        if isinstance(entry, dict)
        and {key, f"{key}.${{item.arm}}"} & set(entry.get("protocols/${protocol}.yaml") or [])
    }
    cells = {name for name in tracking if not name.endswith(("_by_label", INPUTS))}
    assert cells == RERUN.get(key, {"adapt_online"})


@pytest.mark.parametrize("key", sorted(CHANGES))
def test_a_switch_is_explained_where_it_is_set(key: str) -> None:
    """By the paper's sentence, by "notebook only", or as ours; on the key's line or the comment above it."""
    text = (CHECKOUT / "protocols/paper.yaml").read_text()
    lines = text.splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith(f"{key}:"))
    comment = lines[at] + (lines[at - 1] if lines[at - 1].startswith("#") else "")
    assert re.search(r'"|Notebook only|notebook only|Eq\.|Def\.|ours', comment), comment
    assert f"`{key}`" in (CHECKOUT / "docs/paper_map.md").read_text()


@pytest.fixture
def world(trained_world: Params, monkeypatch: pytest.MonkeyPatch) -> Params:
    """The tiny world with dropout in every adapter, both splits of problems, and the statistics of its rewards."""
    scale = trained_world.scale
    dropout = {role: dataclasses.replace(scale.model(role), lora_dropout=0.5) for role in ("policy", "reward")}
    lengths = dataclasses.replace(scale.lengths, prompt=8)
    params = dataclasses.replace(trained_world, scale=dataclasses.replace(scale, lengths=lengths, **dropout))
    checkpoint = Path("models/dpo/checkpoint")
    online.random_adapter(load_policy_base(params), params, "CAUSAL_LM", checkpoint, "dpo")
    for cell in params.ensemble(0):
        base, directory = load_reward_base(params), layout.reward_member(cell)
        online.random_adapter(base, params, "SEQ_CLS", directory, f"member-{cell.member}")
    for split in ("train", "test"):
        problems = online.tasks(4)
        records.write_table(layout.tasks(split), problems.assign(task_id=f"{split}-" + problems["task_id"]))
    statistics = {str(member): {"score_mean": 0.5, "score_sd": 2.0} for member in params.ensemble_members}
    records.write_json(layout.REWARD_MEMBERS_RECORD, {"s0": statistics})
    return params


SHORT, LONG = "Tom had 5", "Mia had 5 apples. She found 3 more. How many apples does she have now?"


def model_facts(params: Params, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the online phase does with fixed inputs."""
    run = online.make_run(params)
    protocol, lengths = params.protocol, params.scale.lengths
    tokenizer = load_tokenizer(params, "policy")
    tokenizer.chat_template = (
        "{% for message in messages %}{{ message.content }}{% endfor %} How many"
        "{% if not enable_thinking %} apples{% endif %}"
    )
    asked = generate_arguments(run, params, monkeypatch)
    fixed = fixed_rollouts(run.tokenizer)
    with monkeypatch.context() as patch:
        patch.setattr(rollout, "sample_responses", lambda *_: fixed)
        batch = run._roll_out(loop.BATCH, 0, online.tasks(3)).proxy_reward
        heldout = run._roll_out(loop.HELDOUT, 0, online.tasks(3)).proxy_reward
    responses = rollout.response_batch(fixed, fixed.response_ids, range(3), run.tokenizer, run.model.device)
    policy, reference = run._passes.trained_policy(responses, 0), run._passes.reference(responses)
    rounding = torch.full((4,), 1e-5)
    return {
        "numerator of kappa": _numerator(run, "proxy"),
        "numerator of kappa, one for every beta": _numerator(run, "uncoupled"),
        "kappa where policy and reference differ by rounding": float(
            kl_coefficient(1.0, rounding, protocol.kl_percentile, protocol.kl_noise_floor)
        ),
        "training problems": list(loop.load_training_tasks(params)["task_id"]),
        "random streams of a run": rng.run_stream(protocol, "p20", 0),
        "log-ratio before the first update": (policy.sums - reference.sums).tolist(),
        "sampled distribution": [sampled_from(*asked["logits_processor"])],
        "rewards of a training batch": batch.tolist(),
        "rewards of the held-out problems": heldout.tolist(),
        "prompt ids": online_prompt_ids(tokenizer, SHORT, protocol, lengths),
        "ids of a preference pair's prompt": dpo_prompt_ids(tokenizer, SHORT, protocol),
        "ids of a long prompt": online_prompt_ids(tokenizer, LONG, protocol, lengths),
        "trained ids": rollout.trained_response_ids(fixed, run.tokenizer, protocol),
    }


def sampled_from(warper: TemperatureLogitsWarper, draw: RowDraw) -> tuple[float, int, float]:
    """Temperature, top-k and top-p."""
    return warper.temperature, draw.top_k, draw.top_p


def generate_arguments(run: loop.OnlineRun, params: Params, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the model's ``generate`` is called with, for a short and a long prompt."""
    seen: dict[str, Any] = {}

    def generate(**arguments: Any) -> torch.Tensor:
        seen.update(arguments)
        return arguments["input_ids"]

    with monkeypatch.context() as patch:
        patch.setattr(run.model, "generate", generate)
        rollout.sample_responses(run.model, run.tokenizer, [SHORT, LONG], params, [0, 1])
    return seen


def fixed_rollouts(tokenizer: Any) -> Rollouts:
    """Three responses; the ids of the first are not those that its text is tokenised to."""
    end = tokenizer.eos_token_id
    ids = [tokenizer("1")["input_ids"] + tokenizer("2")["input_ids"] for _ in range(3)]
    texts = ["12", "12", "12"]
    odd = [*tokenizer("\n")["input_ids"], *tokenizer("\n")["input_ids"]]
    assert tokenizer(tokenizer.decode(odd))["input_ids"] != odd
    return Rollouts(
        prompt_ids=[[5, 6], [5, 6, 7], [8]],
        response_ids=[[*odd, end], ids[1], [*ids[2], end]],
        texts=[tokenizer.decode(odd), *texts[1:]],
        finished=[True, False, True],
        stops=["", "", ""],
    )


def scoring_facts(measurements: Measurements) -> dict[str, Any]:
    """What the measures read from fixed runs."""
    primary = [cell for cell in measurements.runs if cell.arm == measurements.params.primary_arm]
    checkpoints = [scores.checkpoint(measurements, cell) for cell in primary]
    published, controlled = (
        {
            column.name: [column.compute(checkpoint) for checkpoint in checkpoints]
            for column in CHECKPOINT_COLUMNS
            if column.measure == measure and column.compute
        }
        for measure in MEASURES
    )
    gaps, heldout = scores.gap_table(measurements), scores.heldout_table(measurements)
    return {
        "published gap": gaps["goodhart_gap"].tolist(),
        "controlled gap": heldout["controlled_gap"].tolist(),
        "published entropy": [values for name, values in published.items() if "entropy" in name],
        "published distance and diversity": [values for name, values in published.items() if "entropy" not in name],
        "controlled probes": list(controlled.values()),
    }


def _numerator(run: loop.OnlineRun, arm: str) -> float:
    """Of a checkpoint whose beta is no protocol's numerator."""
    run.cell, run.beta = dataclasses.replace(run.cell, arm=arm), 2.5
    return run._kl_numerator


def grid_facts(protocol: Protocol) -> dict[str, Any]:
    table = {
        f"{side}_{precision}": np.array([-600.0, -610.0, -620.0]) + offset + (precision == "float32") * 0.3 * offset
        for side, offset in (("chosen", np.array([1.0, 2.0, 3.0])), ("rejected", np.array([8.0, 4.0, 16.0])))
        for precision in ("float32", "bfloat16")
    }
    record = grid_record(pd.DataFrame(table), [20, 50, 80], protocol.grid_precision)
    return {"beta grid": [record["p20"], record["p80"]]}


def turned(params: Params, switch: str) -> Params:
    value = not PAPER[switch] if switch in ALIKE else CONTROLLED[switch]
    if switch == "arms":
        value = {name: Arm(**{**arm, "reward": str(arm["reward"]).lower()}) for name, arm in value.items()}
    return dataclasses.replace(params, protocol=dataclasses.replace(params.protocol, **{switch: value}))


@pytest.mark.parametrize("switch", sorted(CHANGES))
def test_a_switch_changes_what_it_names_and_nothing_else(
    world: Params, switch: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, after = (
        {**model_facts(params, monkeypatch), **grid_facts(params.protocol)} for params in (world, turned(world, switch))
    )
    changed = {name for name in before if before[name] != after[name]}
    assert changed == CHANGES[switch] & before.keys()


@pytest.mark.parametrize("switch", sorted(CHANGES))
def test_a_switch_changes_only_the_measures_it_names(
    switch: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    params = write_project(tmp_path, Invented(percentiles=(20, 80), seeds=(0,)))
    measurements = read_measurements(params)
    before, after = (
        scoring_facts(dataclasses.replace(measurements, params=chosen)) for chosen in (params, turned(params, switch))
    )
    assert {name for name in before if before[name] != after[name]} == CHANGES[switch] & before.keys()


def test_what_the_tests_above_compare_is_what_they_name() -> None:
    """Every fact of CHANGES is one of those measured; a misspelt one would never be seen to change."""
    source = Path(__file__).read_text()
    for fact in set().union(*CHANGES.values()) | ALWAYS_THE_SAME:
        assert source.count(f'"{fact}"') >= 2, fact

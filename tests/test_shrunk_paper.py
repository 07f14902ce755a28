"""The paper's scale with the numbers left as they are and the models made small: its whole DAG, in 4 bits, on a CPU."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from dvc.repo import Repo
from safetensors import safe_open
from safetensors.numpy import load_file

from pessimism.data import embedded_world
from pessimism.experiment import rng
from pessimism.experiment.params import load_params
from pessimism.experiment.pipeline import expected_lock_names
from pessimism.experiment.records import write_jsonl
from pessimism.models import hyperparameters as derive
from support.project_copy import FAN_IN, Project, new_project
from support.random_models import save_model, small_config
from support.repository import CHECKOUT, Edit

DESIGN = {
    "scale": "shrunk",
    "beta_percentiles": [20, 80],
    "seeds": [0],
    "ensemble_members": [0, 1],
    "arms": ["proxy"],
}
# Qwen3-14B and Qwen3-1.7B with their real head size and sharing of keys, untied and tied, and little of the rest.
HEADS = {
    "policy": {"hidden_size": 128, "intermediate_size": 448, "num_attention_heads": 5, "num_key_value_heads": 1},
    "reward": {"hidden_size": 64, "intermediate_size": 192, "num_attention_heads": 2, "num_key_value_heads": 1},
}
SMALLER: dict[str, Any] = {
    "device": "auto",
    "gpu_memory_gb": 2.0,  # batches of 8 by the formula
    "lengths": {"prompt": 96, "response": 16, "sequence": 160},
}
PAIRS, PROBLEMS, TESTS, HELDOUT = 96, 24, 24, 8


def prepare(home: Path) -> Project:
    """A project whose scale is scales/paper.yaml on local models and rows of ``home``."""
    project = new_project(home / "project")
    for role, size in HEADS.items():
        save_model(small_config("qwen3", head_dim=128, tie_word_embeddings=role == "reward", **size), home / role)
    pairs = embedded_world.preference_rows(rng.generator(0, "shrunk"), PAIRS)
    write_jsonl(home / "pairs.jsonl", [as_messages(row, number) for number, row in enumerate(pairs)])
    problems = embedded_world.task_rows(rng.generator(1, "shrunk"), PROBLEMS + HELDOUT + TESTS)
    write_jsonl(home / "rows/gsm8k_train.jsonl", problems[:-TESTS])
    write_jsonl(home / "rows/gsm8k_test.jsonl", problems[-TESTS:])

    scale = yaml.safe_load((CHECKOUT / "scales/paper.yaml").read_text()) | SMALLER
    for section, name in (
        ("policy", "policy"),
        ("reward", "reward"),
        ("preferences", "pairs.jsonl"),
        ("tasks", "rows"),
    ):
        scale[section] |= {"source": "path", "name": str(home / name), "revision": None}
    scale["tasks"]["heldout"] = HELDOUT
    scale["best_of_n"]["prompts"] = HELDOUT
    (project.root / "scales/shrunk.yaml").write_text(yaml.safe_dump(scale))
    project.design(**DESIGN)
    return project


def as_messages(row: dict[str, str], number: int) -> dict[str, Any]:
    turns = {side: [{"role": "user", "content": row["prompt"]}] for side in ("chosen", "rejected")}
    for side, messages in turns.items():
        messages.append({"role": "assistant", "content": row[side]})
    return {"prompt": row["prompt"], "prompt_id": str(number), **turns}


@pytest.mark.slow
def test_the_papers_scale_runs_on_small_models_in_4_bits(tmp_path: Path) -> None:
    project = prepare(tmp_path)
    root = project.root
    ran = project.dvc("repro")
    cells = [
        f"{stage}@{percentile}-0"
        for stage in ("train_dpo", "probe_policy", "select_best_of_n")
        for percentile in (20, 80)
    ]
    cells += [f"adapt_online@{percentile}-0-proxy" for percentile in (20, 80)]
    cells += [f"train_reward_model@0-{member}" for member in (0, 1)]
    assert sorted(set(ran)) == sorted(ran)
    assert set(cells) | set(FAN_IN) <= set(ran)
    assert project.dvc("repro") == []

    check_derived(root)
    check_adapters(root)
    check_cache(project)
    assert (root / "plots/report/index.html").is_file()


def check_derived(root: Path) -> None:
    """Every null of the scale was filled by its formula."""
    base = {role: json.loads((root / f"models/base/{role}.json").read_text()) for role in HEADS}
    rows = json.loads((root / "data/sources.json").read_text())["preferences"]["rows"]["train"]
    for role, directory in (("policy", "dpo/p20-s0"), ("reward", "reward/s0/member-0")):
        assert base[role]["parameters"] < 1e9
        used = json.loads((root / f"models/{directory}/training.json").read_text())["hyperparameters"]
        batch = derive.batch_size(2.0, base[role]["parameters"] / 1e9, inference=False, sequence_length=160)
        expected = {
            "batch_size": batch,
            "lora_rank": derive.lora_rank(HEADS[role]["hidden_size"]),
            "lora_dropout": 0.1,
            "learning_rate": derive.learning_rate(used["trainable_parameters"]),
            "clip_norm": derive.clip_norm(used["trainable_parameters"]),
            "weight_decay": rows**-0.5,
            "warmup_steps": derive.warmup_steps(used["steps"]),
        }
        assert {key: used[key] for key in expected} == pytest.approx(expected)
        assert batch == 8 and used["steps"] > 2
    online = json.loads((root / "data/online/p20-s0-proxy/hyperparameters.json").read_text())
    assert (online["batch_size"], online["steps"], online["measure_every"]) == (4, 3, 1)


def check_adapters(root: Path) -> None:
    """Every adapter moved: LoRA's second factor starts at 0, the online policy at its checkpoint."""
    for directory in ("dpo/p20-s0", "dpo/p80-s0", "reward/s0/member-0", "reward/s0/member-1"):
        weights = load_file(root / f"models/{directory}/adapter_model.safetensors")
        assert len(weights) == 2 * 4 * 2 + directory.startswith("reward")
        assert all(np.abs(tensor).max() > 0 and tensor.dtype == np.float32 for tensor in weights.values())
    for percentile in (20, 80):
        before = load_file(root / f"models/dpo/p{percentile}-s0/adapter_model.safetensors")
        after = load_file(root / f"models/online/p{percentile}-s0-proxy/adapter_model.safetensors")
        assert before.keys() == after.keys()
        assert all((before[name] != after[name]).any() for name in before)


def check_cache(project: Project) -> None:
    """DVC keeps adapters and heads, and no weight of a base."""
    found = []
    for path in (project.root / ".dvc/cache/files").rglob("*"):
        if path.is_file() and b'"dtype":"' in path.read_bytes()[:400]:
            with safe_open(path, framework="np") as file:
                found.append(list(file.keys()))
    assert len(found) == 2 + 2 + 2
    assert all("lora_" in name or "score" in name for names in found for name in names)


@pytest.mark.parametrize("scale", ["paper", "24gb"])
def test_every_cell_of_the_real_scales_resolves(project: Path, edit: Edit, scale: str) -> None:
    edit("params.yaml", "scale", scale)
    params = load_params()
    with Repo.init(str(project), no_scm=True) as repo:
        stages = repo.index.stages
    assert sorted(stage.addressing for stage in stages) == sorted(expected_lock_names(params))
    for stage in stages:
        for file in stage.params:
            path = Path(file.fs_path).relative_to(project)
            if path.parts[0] == "metrics":  # written by a stage
                continue
            content = yaml.safe_load(path.read_text())
            missing = [key for key in file.params if not holds(content, key)]
            assert missing == [], f"{stage.addressing} tracks keys that {path} lacks: {missing}"


def holds(content: Any, key: str) -> bool:
    first, _, rest = key.partition(".")
    return first in content and (not rest or holds(content[first], rest))

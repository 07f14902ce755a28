"""Parameters that no run could use."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import yaml

from support.failures.failure import Failure
from support.yaml_edits import set_key

DESIGN, SCALE, PROTOCOL = "params.yaml", "scales/tiny.yaml", "protocols/paper.yaml"

_VALUES: list[tuple[str, str, Any, str]] = [
    (
        DESIGN,
        "beta_percentiles",
        [],
        "params.yaml: beta_percentiles: found an empty list; expected at least one value, here or in",
    ),
    (
        DESIGN,
        "beta_percentiles",
        [20, 50, 50],
        "params.yaml: beta_percentiles: found duplicates in [20, 50, 50]; expected each value once",
    ),
    (DESIGN, "beta_percentiles", [20.5, 50], "params.yaml: beta_percentiles: found 20.5; expected an integer"),
    (DESIGN, "beta_percentiles", [20.0, 50], "params.yaml: beta_percentiles: found 20.0; expected an integer"),
    (DESIGN, "beta_percentiles", ["20", 50], "params.yaml: beta_percentiles: found '20'; expected an integer"),
    (DESIGN, "beta_percentiles", [True, 50], "params.yaml: beta_percentiles: found True; expected an integer"),
    (DESIGN, "beta_percentiles", [None, 50], "params.yaml: beta_percentiles: found None; expected an integer"),
    (DESIGN, "beta_percentiles", [0, 50], "params.yaml: beta_percentiles: found [0]; expected integers in 1..99"),
    (DESIGN, "beta_percentiles", [50, 100], "params.yaml: beta_percentiles: found [100]; expected integers in 1..99"),
    (DESIGN, "beta_percentiles", [-20, 50], "params.yaml: beta_percentiles: found [-20]; expected integers in 1..99"),
    (DESIGN, "beta_percentiles", 50, "params.yaml: beta_percentiles: found 50; expected a list, each item an integer"),
    (
        DESIGN,
        "beta_percentiles",
        None,
        "params.yaml: beta_percentiles: found None; expected a list, each item an integer",
    ),
    (
        DESIGN,
        "beta_percentiles",
        "20,50",
        "params.yaml: beta_percentiles: found '20,50'; expected a list, each item an integer",
    ),
    (
        DESIGN,
        "beta_percentiles",
        {"low": 20},
        "params.yaml: beta_percentiles: found {'low': 20}; expected a list, each item an integer",
    ),
    (DESIGN, "seeds", 0, "params.yaml: seeds: found 0; expected a list, each item an integer"),
    (DESIGN, "seeds", [], "params.yaml: seeds: found an empty list; expected at least one value"),
    (DESIGN, "seeds", [0, 0], "params.yaml: seeds: found duplicates in [0, 0]; expected each value once"),
    (DESIGN, "seeds", [-1], "params.yaml: seeds: found [-1]; expected integers of 0 or more"),
    (
        DESIGN,
        "ensemble_members",
        [0],
        "params.yaml: ensemble_members: found 1 member; expected 2 or more, or it cannot disagree",
    ),
    (
        DESIGN,
        "ensemble_members",
        [0, 0],
        "params.yaml: ensemble_members: found duplicates in [0, 0]; expected each value once",
    ),
    (
        DESIGN,
        "arms",
        ["proxy", "control"],
        "params.yaml: arms: found ['control']; expected some of ['proxy', 'uncoupled', 'placebo', 'oracle', ",
    ),
    (DESIGN, "arms", "proxy", "params.yaml: arms: found 'proxy'; expected a list, each item a text"),
    (DESIGN, "arms", [], "params.yaml: arms: found an empty list; expected at least one value"),
    (
        DESIGN,
        "arms",
        ["proxy", "proxy"],
        "params.yaml: arms: found duplicates in ['proxy', 'proxy']; expected each value once",
    ),
    (
        DESIGN,
        "ensembles",
        "per_beta",
        "params.yaml: ensembles: found 'per_beta'; expected one of per_seed, shared",
    ),
    (DESIGN, "aggregation", "median", "params.yaml: aggregation: found 'median'; expected one of mean, min, uwo"),
    (DESIGN, "root_seed", -1, "params.yaml: root_seed: found -1; expected an integer of 0 or more"),
    (DESIGN, "root_seed", "42", "params.yaml: root_seed: found '42'; expected an integer"),
    (DESIGN, "scale", "huge", "params.yaml: scale: found 'huge'; expected one of ['24gb', 'laptop', 'paper', 'tiny']"),
    (DESIGN, "scale", 3, "params.yaml: scale: found 3; expected a text"),
    (DESIGN, "protocol", "strict", "params.yaml: protocol: found 'strict'; expected one of ['controlled', 'paper']"),
    (
        DESIGN,
        "beta_percentile",
        [20],
        "params.yaml: beta_percentile: unknown key; expected one of ['aggregation', 'arms', 'beta_percentiles'",
    ),
    (DESIGN, "arms", ..., "params.yaml: arms: missing; expected a list, each item a text"),
    (
        SCALE,
        "dpo.lr",
        0.1,
        "scales/tiny.yaml: dpo.lr: unknown key; expected one of ['accumulation', 'batch_size', 'epochs'",
    ),
    (SCALE, "dpo.learning_rate", ..., "scales/tiny.yaml: dpo.learning_rate: missing; expected a finite number or null"),
    (SCALE, "dpo.learning_rate", "fast", "scales/tiny.yaml: dpo.learning_rate: found 'fast'; expected a finite number"),
    (SCALE, "dpo.learning_rate", math.nan, "scales/tiny.yaml: dpo.learning_rate: found nan; expected a finite number"),
    (SCALE, "gpu_memory_gb", math.inf, "scales/tiny.yaml: gpu_memory_gb: found inf; expected a finite number"),
    (SCALE, "gpu_memory_gb", -math.inf, "scales/tiny.yaml: gpu_memory_gb: found -inf; expected a finite number"),
    (SCALE, "gpu_memory_gb", 10**400, "scales/tiny.yaml: gpu_memory_gb: found 1000000000"),
    (PROTOCOL, "top_p", math.nan, "protocols/paper.yaml: top_p: found nan; expected a finite number"),
    (
        PROTOCOL,
        "arms.proxy.learning_rate_factor",
        math.inf,
        "protocols/paper.yaml: arms.proxy.learning_rate_factor: found inf; expected a finite number",
    ),
    (
        SCALE,
        "policy.lora_dropout",
        2.0,
        "scales/tiny.yaml: policy.lora_dropout: found 2.0; expected a number in [0, 1)",
    ),
    (
        SCALE,
        "reward.lora_dropout",
        1.0,
        "scales/tiny.yaml: reward.lora_dropout: found 1.0; expected a number in [0, 1)",
    ),
    (
        SCALE,
        "embedded.hidden_size",
        33,
        "scales/tiny.yaml: embedded.hidden_size: found 33; expected a multiple of 8, an even number for each of",
    ),
    (
        SCALE,
        "embedded.key_value_heads",
        3,
        "scales/tiny.yaml: embedded.key_value_heads: found 3; expected a divisor of attention_heads (4), which",
    ),
    (
        SCALE,
        "embedded.family",
        "bert",
        "scales/tiny.yaml: embedded.family: found 'bert'; expected one of qwen3, gpt2",
    ),
    (
        SCALE,
        "policy.lora_targets",
        ["q_proj", "query"],
        "scales/tiny.yaml: policy.lora_targets: found ['query']; expected some of ['q_proj', 'k_proj', 'v_proj'",
    ),
    (
        SCALE,
        "lengths.sequence",
        513,
        "scales/tiny.yaml: lengths.sequence: found 513; expected at most 512, the tokens that the embedded model",
    ),
    (
        PROTOCOL,
        "arms.a/b",
        {"reward": "true", "kappa": "none", "learning_rate_factor": 1.0},
        "protocols/paper.yaml: arms: found ['a/b']; expected names of letters, digits and _, which file names",
    ),
    (
        DESIGN,
        "offline.objective",
        "likes",
        "params.yaml: offline.objective: found 'likes'; expected one of ['dpo', 'epsilon_dpo', 'hinge', 'ipo', 'kto',",
    ),
    (
        DESIGN,
        "offline.objective",
        "ipo",
        "arms: found ['proxy'], whose penalty is coupled to the strength, which for ipo is not the price of a nat",
    ),
    (
        DESIGN,
        "online.objective",
        "likes",
        "params.yaml: online.objective: found 'likes'; expected one of ['adaptive', 'grpo', 'reinforce', 'rloo'], or a "
        "new file",
    ),
    (
        SCALE,
        "tasks.kind",
        "likes",
        "scales/tiny.yaml: tasks.kind: found 'likes'; expected one of ['arithmetic', 'boxed', 'gsm8k', ",
    ),
    (SCALE, "tasks.shots", -1, "scales/tiny.yaml: tasks.shots: found -1; expected a number of 0 or more"),
    (SCALE, "tasks.stop", [""], "scales/tiny.yaml: tasks.stop: found an empty text, which ends every response before"),
    (
        SCALE,
        "tasks.settings",
        {"digits": 2},
        "scales/tiny.yaml: tasks: found the settings {'digits': 2}; expected {}, for arithmetic has none",
    ),
    (SCALE, "dpo.learning_rate", 0.0, "scales/tiny.yaml: dpo.learning_rate: found 0.0; expected a number above 0"),
    (SCALE, "online.steps", 2.5, "scales/tiny.yaml: online.steps: found 2.5; expected an integer"),
    (SCALE, "online.steps", 0, "scales/tiny.yaml: online.steps: found 0; expected a number above 0"),
    (SCALE, "policy", "Qwen/Qwen3-14B", "scales/tiny.yaml: policy: found 'Qwen/Qwen3-14B'; expected a mapping"),
    (
        SCALE,
        "policy.source",
        "web",
        "scales/tiny.yaml: policy.source: found 'web'; expected one of embedded, hub, path",
    ),
    (
        SCALE,
        "policy.lora_targets",
        [],
        "scales/tiny.yaml: policy.lora_targets: found an empty list; expected names of linear layers",
    ),
    (
        SCALE,
        "embedded",
        None,
        "scales/tiny.yaml: embedded: found null; expected the size of the embedded model that policy or reward",
    ),
    (
        SCALE,
        "annotator",
        None,
        "scales/tiny.yaml: annotator: found null; expected the annotator of the embedded base and pairs",
    ),
    (
        SCALE,
        "annotator.exploit",
        "emoji",
        "scales/tiny.yaml: annotator.exploit: found 'emoji'; expected one of filler, length, format",
    ),
    (SCALE, "annotator.bias", -0.5, "scales/tiny.yaml: annotator.bias: found -0.5; expected a number of 0 or more"),
    (
        SCALE,
        "annotator.discoverability",
        1.0,
        "scales/tiny.yaml: annotator.discoverability: found 1.0; expected a number in [0, 1)",
    ),
    (
        SCALE,
        "lengths",
        {"prompt": 96, "response": 9, "sequence": 96},
        "scales/tiny.yaml: lengths.sequence: found 96; expected lengths.prompt + lengths.response (105) or more",
    ),
    (
        SCALE,
        "tasks.test_limit",
        1,
        "scales/tiny.yaml: tasks: found 1 problems in split test; expected 32 or more, the prompts of an online batch",
    ),
    (
        SCALE,
        "online.batch_size",
        1,
        "scales/tiny.yaml: online.batch_size: found 1; expected 2 or more, or there is no spread to measure",
    ),
    (SCALE, "tasks.pairs", 9, "scales/tiny.yaml: tasks.pairs: found 9; expected 10 or more, which three splits take"),
    (SCALE, "tasks.shots", ..., "scales/tiny.yaml: tasks.shots: missing; expected every key that dvc.yaml names, for"),
    (
        DESIGN,
        "arms",
        ["placebo", "proxy"],
        "params.yaml: arms: found placebo first; expected one of ['proxy', 'uncoupled', 'oracle', 'worst_case'",
    ),
    (
        DESIGN,
        "offline_cells",
        ["b0.05", "b0.05"],
        "params.yaml: offline_cells: found duplicates in ['b0.05', 'b0.05']; expected each value once",
    ),
    (
        DESIGN,
        "offline_cells",
        ["b0.05", "b0.050"],
        "params.yaml: offline_cells: found a strength twice in ['b0.05', 'b0.050']; expected each once",
    ),
    (
        DESIGN,
        "offline_cells",
        ["b5"],
        "params.yaml: offline_cells: found 'b5'; expected b and a strength above 0 with a decimal point, such as",
    ),
    (
        DESIGN,
        "offline_cells",
        ["b0.0"],
        "params.yaml: offline_cells: found 'b0.0'; expected b and a strength above 0 with a decimal point, such",
    ),
    (
        DESIGN,
        "offline_cells",
        ["p20"],
        "params.yaml: offline_cells: found 'p20'; expected b and a strength above 0 with a decimal point, such",
    ),
    (DESIGN, "offline_cells", [0.05], "params.yaml: offline_cells: found 0.05; expected a text such as b0.05"),
    (DESIGN, "online.objective", ..., "params.yaml: online.objective: missing; expected a text"),
    (SCALE, "preferences.limit", -5, "scales/tiny.yaml: preferences.limit: found -5; expected a number above 0"),
    (
        SCALE,
        "embedded.hidden_size",
        10**9,
        "scales/tiny.yaml: embedded.hidden_size: found 1,000,000,000; expected at most 10,000,000, more than a hundred",
    ),
    (SCALE, "online.steps", 10**12, "scales/tiny.yaml: online.steps: found 1,000,000,000,000; expected at most"),
    (
        SCALE,
        "embedded.hidden_size",
        8_000_000,
        "scales/tiny.yaml: embedded: found a model of 256,012,288,000,000 weights or more and",
    ),
    (SCALE, "embedded.batch_size", 10_000_000, "scales/tiny.yaml: embedded: found a model of"),
    (
        SCALE,
        "lengths",
        {"prompt": 1, "response": 48, "sequence": 88},
        "scales/tiny.yaml: lengths.prompt: found 1; expected 2 or more, for Eq. 11 reads a prompt's tokens after its",
    ),
    (PROTOCOL, "top_p", 1.5, "protocols/paper.yaml: top_p: found 1.5; expected a number in (0, 1]"),
    (PROTOCOL, "kl_percentile", 101, "protocols/paper.yaml: kl_percentile: found 101.0; expected a number in (0, 100]"),
    (
        PROTOCOL,
        "arms.proxy.kappa",
        "off",
        "protocols/paper.yaml: arms.proxy.kappa: found 'off'; expected one of coupled, fixed, none",
    ),
    (
        PROTOCOL,
        "arms.proxy.reward",
        False,
        "protocols/paper.yaml: arms.proxy.reward: found False; expected one of ensemble, true, random",
    ),
    (
        PROTOCOL,
        "arms.proxy.learning_rate_factor",
        -1,
        "protocols/paper.yaml: arms.proxy.learning_rate_factor: found -1.0; expected a number of 0 or more",
    ),
    (
        PROTOCOL,
        "arms.oracle.aggregation",
        {"kind": "min"},
        "protocols/paper.yaml: arms.oracle: found aggregation min with reward true; expected reward ensemble",
    ),
    (
        PROTOCOL,
        "arms.worst_case.aggregation.kind",
        "median",
        "protocols/paper.yaml: arms.worst_case.aggregation.kind: found 'median'; expected one of mean, min, uwo, lcb,",
    ),
    (
        PROTOCOL,
        "arms.worst_case.aggregation.weight",
        1.0,
        "protocols/paper.yaml: arms.worst_case: aggregation: found the weight 1.0 of min; expected null",
    ),
    (
        PROTOCOL,
        "arms.lower_bound.aggregation.weight",
        ...,
        "protocols/paper.yaml: arms.lower_bound: aggregation: found no weight of lcb; expected a number of 0 or more",
    ),
    (
        PROTOCOL,
        "arms.lower_bound.aggregation.weight",
        -1.0,
        "protocols/paper.yaml: arms.lower_bound.aggregation.weight: found -1.0; expected a number of 0 or more",
    ),
    (
        PROTOCOL,
        "arms.placebo.kl_budget",
        1.0,
        "protocols/paper.yaml: arms.placebo: found stop_at_gap or kl_budget with learning_rate_factor 0; expected",
    ),
    (
        PROTOCOL,
        "arms.kl_budget.kl_budget",
        0.0,
        "protocols/paper.yaml: arms.kl_budget.kl_budget: found 0.0; expected a number above 0",
    ),
    (PROTOCOL, "arms.oracle", ["true"], "protocols/paper.yaml: arms.oracle: found ['true']; expected a mapping"),
    (
        PROTOCOL,
        "arms.oracle.rate",
        1,
        "protocols/paper.yaml: arms.oracle.rate: unknown key; expected one of ['aggregation', 'kappa', 'kl_budget'",
    ),
    (PROTOCOL, "kl_numerator", None, "protocols/paper.yaml: kl_numerator: found None; expected a finite number"),
    (PROTOCOL, "paired_seeds", 1, "protocols/paper.yaml: paired_seeds: found 1; expected true or false"),
    (
        PROTOCOL,
        "kl_noise",
        0.1,
        "protocols/paper.yaml: kl_noise: unknown key; expected one of ['arms', 'controlled_threshold'",
    ),
]
"""File, key, its value (``...`` = it is missing) and what is said."""


def changed(file: str, key: str, value: Any, said: str) -> Failure:
    """One key of one file of parameters is not usable."""
    if value is ...:
        what = f"`{key}` is missing in `{file}`"
    else:
        spelled = yaml.safe_dump({key.rpartition(".")[2]: value}, default_flow_style=True, width=1000).strip()[1:-1]
        parents = key.rpartition(".")[0]
        what = f"`{spelled[:80]}` {f'under `{parents}` ' if parents else ''}in `{file}`"
    return Failure(what, lambda project: set_key(project / file, key, value), said)


def _written(file: str, content: bytes, what: str, said: str) -> Failure:
    return Failure(f"`{file}` {what}", lambda project: (project / file).write_bytes(content), said)


def _hold_out_one(project: Path) -> None:
    """One problem for best-of-n too, which takes no more than are held out."""
    for key in ("tasks.heldout", "best_of_n.prompts"):
        set_key(project / SCALE, key, 1)


def _repeat(project: Path) -> None:
    path = project / DESIGN
    path.write_text(path.read_text() + "seeds: [5]\n")


FAILURES = [
    *(changed(*row) for row in _VALUES),
    Failure(
        f"one held-out problem in `{SCALE}`",
        _hold_out_one,
        "scales/tiny.yaml: tasks.heldout: found 1; expected 2 or more, or there is no spread to measure",
    ),
    changed(
        SCALE,
        "best_of_n.prompts",
        193,
        "scales/tiny.yaml: best_of_n.prompts: found 193; expected at most tasks.heldout (192), the first of which they",
    ),
    changed(
        SCALE,
        "best_of_n.draws",
        1,
        "scales/tiny.yaml: best_of_n.draws: found 1; expected 2 or more, or there is no spread to measure",
    ),
    Failure(
        "a key that stands twice in `params.yaml`", _repeat, 'params.yaml is not YAML: found duplicate key "seeds"'
    ),
    _written(DESIGN, b"- a list\n", "is a list", "params.yaml: the file: found ['a list']; expected a mapping"),
    _written(DESIGN, b"", "is empty", "params.yaml: the file: found None; expected a mapping"),
    _written(SCALE, b"a: [\n", "is cut off", "scales/tiny.yaml is not YAML: did not find expected node content"),
    _written(PROTOCOL, b"a: \xe9\n", "is in Latin-1", "protocols/paper.yaml is not UTF-8 (byte 3: "),
    Failure(
        "`params.yaml` is missing",
        lambda project: (project / DESIGN).unlink(),
        "params.yaml is missing; expected it in the project's root",
    ),
]

"""Every unusable parameter is refused with a message that names the file, what was found and what was expected."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from pessimism.errors import ParamsError
from pessimism.experiment.params import load_params
from pessimism.experiment.scale import EMBEDDED_CONTEXT, EMBEDDED_LAYERS
from pessimism.experiment.yaml_files import parse_yaml
from support.repository import CHECKOUT, Edit

DESIGN, SCALE, PROTOCOL = "params.yaml", "scales/tiny.yaml", "protocols/paper.yaml"


def message() -> str:
    with pytest.raises(ParamsError) as raised:
        load_params()
    return str(raised.value)


def test_the_committed_design_is_the_issued_one(project: Path) -> None:
    params = load_params()
    assert params.scale_name == "tiny" and params.protocol_name == "paper"
    assert params.root_seed == 42
    assert params.beta_percentiles == (20, 50, 80)
    assert params.seeds == params.ensemble_members == (0, 1, 2)
    assert params.arms == ("proxy", "placebo") and params.primary_arm == "proxy"
    assert params.aggregation == "mean"


@pytest.mark.parametrize("scale", sorted(path.stem for path in (CHECKOUT / "scales").glob("*.yaml")))
@pytest.mark.parametrize("protocol", sorted(path.stem for path in (CHECKOUT / "protocols").glob("*.yaml")))
def test_every_committed_scale_and_protocol_loads(project: Path, edit: Edit, scale: str, protocol: str) -> None:
    edit(DESIGN, "scale", scale)
    edit(DESIGN, "protocol", protocol)
    params = load_params()
    assert (params.scale_name, params.protocol_name) == (scale, protocol)


def test_the_scale_of_24_gb_splits_batches_and_changes_nothing_else(project: Path) -> None:
    whole, split = (yaml.safe_load((project / f"scales/{name}.yaml").read_text()) for name in ("paper", "24gb"))
    assert whole.pop("evaluation_batch_size") is None and split.pop("evaluation_batch_size") > 0
    assert whole.pop("generation_batch_size") > split.pop("generation_batch_size") > 0
    for section in ("dpo", "reward_training", "online"):
        # How an optimiser batch is computed; its size is not.
        assert whole[section].pop("gradient_checkpointing") is False
        assert split[section].pop("gradient_checkpointing") is True
        for sizes in (whole, split):
            sizes[section].pop("micro_batch_size")
    assert split == whole


@pytest.mark.parametrize("scale", ["laptop", "paper", "24gb"])
def test_every_hub_source_is_pinned_to_a_commit(project: Path, scale: str) -> None:
    content = yaml.safe_load((project / f"scales/{scale}.yaml").read_text())
    for section in ("policy", "reward", "preferences", "tasks"):
        assert content[section]["source"] == "hub"
        assert re.fullmatch("[0-9a-f]{40}", content[section]["revision"])


def test_both_protocols_have_the_same_switches(project: Path) -> None:
    paper, controlled = (
        yaml.safe_load((project / f"protocols/{name}.yaml").read_text()) for name in ("paper", "controlled")
    )
    assert paper.keys() == controlled.keys()
    assert paper != controlled


@pytest.mark.parametrize(
    ("name", "key", "value", "found", "expected"),
    [
        (DESIGN, "beta_percentiles", [], "an empty list", "at least one value"),
        (DESIGN, "beta_percentiles", [20, 50, 50], "[20, 50, 50]", "each value once"),
        (DESIGN, "beta_percentiles", [20.5, 50], "20.5", "an integer"),
        (DESIGN, "beta_percentiles", [20.0, 50], "20.0", "an integer"),
        (DESIGN, "beta_percentiles", ["20", 50], "'20'", "an integer"),
        (DESIGN, "beta_percentiles", [True, 50], "True", "an integer"),
        (DESIGN, "beta_percentiles", [None, 50], "None", "an integer"),
        (DESIGN, "beta_percentiles", [0, 50], "[0]", "1..99"),
        (DESIGN, "beta_percentiles", [50, 100], "[100]", "1..99"),
        (DESIGN, "beta_percentiles", [-20, 50], "[-20]", "1..99"),
        (DESIGN, "beta_percentiles", 50, "50", "a list"),
        (DESIGN, "beta_percentiles", None, "None", "a list"),
        (DESIGN, "beta_percentiles", "20,50", "'20,50'", "a list"),
        (DESIGN, "beta_percentiles", {"low": 20}, "{'low': 20}", "a list"),
        (DESIGN, "seeds", 0, "0", "a list"),
        (DESIGN, "seeds", [], "an empty list", "at least one value"),
        (DESIGN, "seeds", [0, 0], "[0, 0]", "each value once"),
        (DESIGN, "seeds", [-1], "[-1]", "0 or more"),
        (DESIGN, "ensemble_members", [0], "1 member", "2 or more"),
        (DESIGN, "ensemble_members", [0, 0], "[0, 0]", "each value once"),
        (DESIGN, "arms", ["proxy", "control"], "'control'", "some of ['proxy', 'uncoupled', 'placebo', 'oracle']"),
        (DESIGN, "arms", "proxy", "'proxy'", "a list"),
        (DESIGN, "arms", [], "an empty list", "at least one value"),
        (DESIGN, "arms", ["proxy", "proxy"], "duplicates", "each value once"),
        (DESIGN, "aggregation", "median", "'median'", "one of mean, min, uwo"),
        (DESIGN, "root_seed", -1, "-1", "0 or more"),
        (DESIGN, "root_seed", "42", "'42'", "an integer"),
        (DESIGN, "scale", "huge", "'huge'", "'tiny'"),
        (DESIGN, "scale", 3, "3", "a text"),
        (DESIGN, "protocol", "strict", "'strict'", "['controlled', 'paper']"),
        (DESIGN, "beta_percentile", [20], "unknown key", "'beta_percentiles'"),
        (DESIGN, "arms", ..., "arms: missing", "a list"),
        (SCALE, "dpo.lr", 0.1, "dpo.lr: unknown key", "'learning_rate'"),
        (SCALE, "dpo.learning_rate", ..., "dpo.learning_rate: missing", "a finite number or null"),
        (SCALE, "dpo.learning_rate", "fast", "'fast'", "a finite number"),
        (SCALE, "dpo.learning_rate", math.nan, "nan", "a finite number"),
        (SCALE, "gpu_memory_gb", math.inf, "inf", "a finite number"),
        (SCALE, "gpu_memory_gb", -math.inf, "-inf", "a finite number"),
        (SCALE, "gpu_memory_gb", 10**400, "found 1000", "a finite number"),
        (PROTOCOL, "top_p", math.nan, "nan", "a finite number"),
        (PROTOCOL, "arms.proxy.learning_rate_factor", math.inf, "inf", "a finite number"),
        (SCALE, "policy.lora_dropout", 2.0, "2.0", "[0, 1)"),
        (SCALE, "reward.lora_dropout", 1.0, "1.0", "[0, 1)"),
        (SCALE, "embedded.hidden_size", 33, "33", "a multiple of 8"),
        (SCALE, "embedded.key_value_heads", 3, "3", "a divisor of attention_heads (4)"),
        (SCALE, "policy.lora_targets", ["q_proj", "query"], "['query']", "'gate_proj'"),
        (SCALE, "lengths.sequence", 513, "513", "at most 512"),
        (PROTOCOL, "arms.a/b", {"reward": "true", "kappa": "none", "learning_rate_factor": 1.0}, "['a/b']", "letters"),
        (DESIGN, "offline.objective", "likes", "'likes'", "one of ['dpo']"),
        (DESIGN, "online.objective", "likes", "'likes'", "one of ['reinforce']"),
        (SCALE, "tasks.kind", "likes", "'likes'", "one of ['arithmetic', 'gsm8k']"),
        (SCALE, "dpo.learning_rate", 0.0, "0.0", "above 0"),
        (SCALE, "online.steps", 2.5, "2.5", "an integer"),
        (SCALE, "online.steps", 0, "found 0", "above 0"),
        (SCALE, "policy", "Qwen/Qwen3-14B", "'Qwen/Qwen3-14B'", "a mapping"),
        (SCALE, "policy.source", "web", "'web'", "one of embedded, hub, path"),
        (SCALE, "policy.lora_targets", [], "an empty list", "linear layers"),
        (SCALE, "embedded", None, "embedded: found null", "size of the embedded model"),
        (
            SCALE,
            "lengths",
            {"prompt": 96, "response": 9, "sequence": 96},
            "found 96",
            "lengths.prompt + lengths.response (105)",
        ),
        (SCALE, "tasks.train_limit", 1, "online.batch_size", "at most tasks.train_limit (1)"),
        (SCALE, "tasks.heldout", 1, "tasks.heldout: found 1", "2 or more"),
        (SCALE, "online.batch_size", 1, "online.batch_size: found 1", "2 or more"),
        (DESIGN, "arms", ["placebo", "proxy"], "placebo first", "one of ['proxy', 'uncoupled', 'oracle']"),
        (DESIGN, "offline_cells", ["b0.05", "b0.05"], "duplicates", "each value once"),
        (DESIGN, "offline_cells", ["b0.05", "b0.050"], "a strength twice", "each once"),
        (DESIGN, "offline_cells", ["b5"], "'b5'", "with a decimal point"),
        (DESIGN, "offline_cells", ["b0.0"], "'b0.0'", "above 0"),
        (DESIGN, "offline_cells", ["p20"], "'p20'", "such as b0.05"),
        (DESIGN, "offline_cells", ["b5"], "'b5'", "p or b with digits only"),
        (DESIGN, "offline_cells", [0.05], "0.05", "a text such as b0.05"),
        (DESIGN, "online.objective", ..., "online.objective: missing", "a text"),
        (SCALE, "preferences.limit", -5, "-5", "above 0"),
        (PROTOCOL, "top_p", 1.5, "1.5", "(0, 1]"),
        (PROTOCOL, "kl_percentile", 101, "101", "(0, 100]"),
        (PROTOCOL, "arms.proxy.kappa", "off", "'off'", "one of coupled, fixed, none"),
        (PROTOCOL, "arms.proxy.reward", False, "False", "one of ensemble, true, random"),
        (PROTOCOL, "arms.proxy.learning_rate_factor", -1, "-1", "0 or more"),
        (PROTOCOL, "arms.oracle", ["true"], "['true']", "a mapping"),
        (PROTOCOL, "arms.oracle.rate", 1, "arms.oracle.rate: unknown key", "'kappa'"),
        (PROTOCOL, "kl_numerator", None, "found None", "a finite number"),
        (PROTOCOL, "paired_seeds", 1, "1", "true or false"),
        (PROTOCOL, "kl_noise", 0.1, "kl_noise: unknown key", "'kl_noise_floor'"),
    ],
)
def test_bad_value(project: Path, edit: Edit, name: str, key: str, value: Any, found: str, expected: str) -> None:
    edit(name, key, value)
    text = message()
    assert name in text
    assert found in text
    assert expected in text.partition("expected")[2]


@pytest.mark.parametrize("key", ["lora_dropout"])
def test_zero_is_a_value_where_it_means_something(project: Path, edit: Edit, key: str) -> None:
    edit(SCALE, f"policy.{key}", 0.0)
    edit(PROTOCOL, "uwo_weight", 0.0)
    params = load_params()
    assert params.scale.policy.lora_dropout == 0.0
    assert params.protocol.uwo_weight == 0.0


def test_another_scale_is_read_without_touching_the_parameters(project: Path) -> None:
    tiny, laptop = load_params(), load_params(scale="laptop")
    assert laptop.scale_name == "laptop" and laptop.scale.policy.source == "hub"
    assert dataclasses.replace(laptop, scale_name="tiny", scale=tiny.scale) == tiny == load_params(scale="tiny")
    with pytest.raises(ParamsError, match="scale: found 'huge'"):
        load_params(scale="huge")


@pytest.mark.parametrize("written", ["5e-05", "1e-5", "5E-5", "0.00005", "1.0e-05", "+5e-05"])
def test_a_small_number_is_read_as_users_and_dvc_write_it(project: Path, written: str) -> None:
    path = project / SCALE
    path.write_text(re.sub(r"learning_rate: 0\.001\b", f"learning_rate: {written}", path.read_text()))
    params = load_params()
    assert params.scale.dpo.learning_rate == params.scale.reward_training.learning_rate == float(written)


def test_dvc_reads_every_parameter_as_we_do() -> None:
    from dvc.utils.serialize import load_yaml

    for path in (*CHECKOUT.glob("*.yaml"), *CHECKOUT.glob("scales/*.yaml"), *CHECKOUT.glob("protocols/*.yaml")):
        assert load_yaml(str(path)) == parse_yaml(path.read_text(), path.name)


@pytest.mark.parametrize("name", [DESIGN, SCALE, PROTOCOL])
def test_a_key_that_stands_twice_is_refused(project: Path, name: str) -> None:
    path = project / name
    key = next(line for line in path.read_text().splitlines() if re.match(r"\w+: \S", line))
    path.write_text(f"{path.read_text().rstrip()}\n{key}\n")
    twice = key.partition(":")[0]
    lines = len(path.read_text().splitlines())
    assert message() == f'{name} is not YAML: found duplicate key "{twice}" in line {lines}, column 1'


def test_the_embedded_model_is_the_one_that_the_scale_is_checked_for(project: Path) -> None:
    import torch

    from pessimism.models.embedded import make_model, make_tokenizer

    sizes = load_params().scale.embedded
    assert sizes is not None
    model = make_model(sizes, make_tokenizer())
    layers = [path.rpartition(".")[2] for path, part in model.named_modules() if isinstance(part, torch.nn.Linear)]
    assert {*layers} - {"lm_head"} == {*EMBEDDED_LAYERS}
    assert model.config.max_position_embeddings == EMBEDDED_CONTEXT


def test_files_of_the_package_are_told_with_all_other_problems(project: Path, edit: Edit) -> None:
    edit(DESIGN, "offline.objective", "this")
    edit(DESIGN, "online.objective", "that")
    edit(SCALE, "tasks.kind", "those")
    assert all(name in message() for name in ("3 problem(s)", "'this'", "'that'", "'those'"))


def test_all_problems_are_told_at_once(project: Path, edit: Edit) -> None:
    edit(DESIGN, "beta_percentiles", [0, 0])
    edit(SCALE, "dpo.learning_rate", -1.0)
    edit(PROTOCOL, "top_p", 0.0)
    text = message()
    assert all(name in text for name in (DESIGN, SCALE, PROTOCOL))
    assert text.startswith(f"{text.count('  - ')} problem(s)")


@pytest.mark.parametrize("name", [DESIGN, SCALE, PROTOCOL])
def test_file_that_is_no_mapping_or_no_yaml_or_absent(project: Path, name: str) -> None:
    (project / name).write_text("- a list\n")
    assert "expected a mapping" in message()
    (project / name).write_text("a: [\n")
    assert f"{name} is not YAML: did not find expected node content in line 2, column 1" in message()
    (project / name).write_bytes("a: é".encode("latin-1"))
    assert f"{name} is not UTF-8" in message()
    (project / name).unlink()
    assert Path(name).stem in message()

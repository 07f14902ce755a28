"""A GPT-2 in place of the Qwen3: adapters on layers that hold their weights transposed, and the whole DAG."""

from __future__ import annotations

import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from peft import PeftModel, get_peft_model
from safetensors.numpy import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, PreTrainedModel

from pessimism.errors import SourceError
from pessimism.experiment.params import ModelParams, load_params
from pessimism.models.adapters import count_trainable, fuse_adapters, lora_config, trainable_parameters
from pessimism.models.architecture import decoder_layers, stored_transposed
from pessimism.models.embedded import FAMILIES, make_model, make_tokenizer
from pessimism.planning.role import find_role
from support.project_copy import FAN_IN, Project, new_project
from support.random_models import ARCHITECTURES, ATTENTION_LAYERS, small_config

IDS = torch.tensor([[5, 9, 17, 4, 8, 21, 6, 13], [7, 7, 30, 11, 5, 6, 9, 12]])
GPT2 = {"family": "gpt2", "key_value_heads": 4}
TARGETS = ["c_attn", "attn.c_proj"]


def random_base(architecture: str, kind: Any = AutoModelForCausalLM, **changes: Any) -> PreTrainedModel:
    torch.manual_seed(0)
    return kind.from_config(small_config(architecture, **changes)).requires_grad_(False)


def with_adapter(base: PreTrainedModel, targets: tuple[str, ...], heads: list[str] | None = None) -> PeftModel:
    """An adapter with weights as in the middle of a training."""
    chosen = ModelParams("path", "base", None, "float32", "none", targets, lora_rank=4, lora_dropout=0.0)
    lora = lora_config(chosen, 64, 100, "SEQ_CLS" if heads else "CAUSAL_LM", heads)
    lora.fan_in_fan_out = stored_transposed(base, targets)
    counted = count_trainable(base, lora)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "fan_in_fan_out")  # PEFT warns where it puts right how weights are stored
        model = get_peft_model(base, lora)
    assert sum(parameter.numel() for parameter in trainable_parameters(model)) == counted
    generator = torch.Generator().manual_seed(1)
    for parameter in trainable_parameters(model):
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    return model


@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_decoder_has_as_many_layers_as_its_configuration_says(architecture: str) -> None:
    for kind in (AutoModelForCausalLM, AutoModelForSequenceClassification):
        assert len(decoder_layers(random_base(architecture, kind))) == 2


@pytest.mark.parametrize("heads", [None, ["score"]])
@pytest.mark.parametrize("architecture", sorted(ARCHITECTURES))
def test_a_fused_adapter_is_what_peft_merges_into_the_weights(architecture: str, heads: list[str] | None) -> None:
    kind = AutoModelForSequenceClassification if heads else AutoModelForCausalLM
    model = with_adapter(random_base(architecture, kind, num_labels=1), ATTENTION_LAYERS[architecture], heads).eval()
    with torch.no_grad(), model.disable_adapter():
        plain = model(input_ids=IDS).logits
    fuse_adapters(model)
    with torch.no_grad():
        found = model(input_ids=IDS).logits
        model.merge_adapter()
        expected = model(input_ids=IDS).logits
    assert float((found - plain).abs().max()) > 0.01
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)


def test_a_name_with_its_part_means_one_layer_and_a_bare_name_all() -> None:
    base = random_base("gpt2")
    rows = {"attn.c_proj": 64 + 64, "mlp.c_proj": 128 + 64, "c_proj": 64 + 64 + 128 + 64}
    for name, widths in rows.items():
        with_adapter(random_base("gpt2"), (name,))
        chosen = ModelParams("path", "base", None, "float32", "none", (name,), lora_rank=4, lora_dropout=0.0)
        assert count_trainable(base, lora_config(chosen, 64, 100, "CAUSAL_LM")) == 2 * 4 * widths
    with pytest.raises(SourceError, match=r"no linear layers called \['proj'\]"):
        with_adapter(base, ("proj",))


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_an_embedded_base_has_no_dropout_of_its_own(checkout: Path, family: Any) -> None:
    sizes = load_params(checkout).scale.embedded
    assert sizes is not None
    model = make_model(dataclasses.replace(sizes, family=family), make_tokenizer()).train()
    assert torch.equal(*(model(input_ids=IDS).logits for _ in range(2)))


@pytest.fixture(scope="module")
def gpt2_project(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """The smallest pipeline on a GPT-2 that is trained there."""
    project = new_project(tmp_path_factory.mktemp("gpt2") / "project")
    path = project.root / "scales/micro.yaml"
    scale = yaml.safe_load(path.read_text())
    scale["embedded"] |= GPT2
    for role in ("policy", "reward"):
        scale[role]["lora_targets"] = TARGETS
    path.write_text(yaml.safe_dump(scale))
    return project


@pytest.mark.slow
def test_the_whole_dag_runs_on_a_gpt2(gpt2_project: Project) -> None:
    root = gpt2_project.root
    ran = gpt2_project.dvc("repro")
    cells = {"train_dpo@20-0", "train_reward_model@0-1", "adapt_online@90-0-proxy", "probe_policy@90-0"}
    assert cells | set(FAN_IN) <= set(ran)
    assert gpt2_project.dvc("repro") == []

    params = load_params(root)
    for role, architecture in (("policy", "GPT2LMHeadModel"), ("reward", "GPT2ForSequenceClassification")):
        record = json.loads((root / f"models/base/{role}.json").read_text())
        assert record["architecture"] == architecture
        assert record["parameters"] == find_role(params, role, 128).parameters
    check_adapters(root)
    curves = [json.loads(path.read_text()) for path in sorted((root / "metrics").glob("*.json"))]
    assert curves and "NaN" not in json.dumps(curves)
    assert (root / "plots/report/index.html").is_file()


def check_adapters(root: Path) -> None:
    """On every layer meant, one per product; each moved, the online policy's from its checkpoint."""
    for directory in ("dpo/p20-s0", "reward/s0/member-1"):
        config = json.loads((root / f"models/{directory}/adapter_config.json").read_text())
        assert config["fan_in_fan_out"] and sorted(config["target_modules"]) == sorted(TARGETS)
        weights = load_file(root / f"models/{directory}/adapter_model.safetensors")
        assert len(weights) == 2 * len(TARGETS) * 2 + directory.startswith("reward")
        assert {path.split(".")[-3] for path in weights if "lora_" in path} == {"c_attn", "c_proj"}
        assert not any(".mlp." in path for path in weights)
        assert all(np.abs(tensor).max() > 0 for tensor in weights.values())
    before, after = (load_file(root / f"models/{name}/adapter_model.safetensors") for name in
                     ("dpo/p20-s0", "online/p20-s0-proxy"))  # fmt: skip
    assert before.keys() == after.keys() and all((before[name] != after[name]).any() for name in before)


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_planner_counts_the_embedded_model_of_each_family(project: Path, family: str) -> None:
    path = project / "scales/tiny.yaml"
    scale = yaml.safe_load(path.read_text())
    scale["embedded"] |= {"family": family, "key_value_heads": 4}
    if family == "gpt2":
        scale["policy"]["lora_targets"] = scale["reward"]["lora_targets"] = TARGETS
    path.write_text(yaml.safe_dump(scale))
    params = load_params()
    assert params.scale.embedded is not None
    model = make_model(params.scale.embedded, make_tokenizer())
    planned = find_role(params, "policy", 48)
    assert planned.parameters == model.num_parameters()
    rank = params.scale.policy.lora_rank or planned.rank
    chosen = ModelParams(**vars(params.scale.policy) | {"lora_rank": rank})
    assert count_trainable(model, lora_config(chosen, 96, 48, "CAUSAL_LM")) == planned.trainable

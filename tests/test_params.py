"""Every unusable parameter is refused with a message that names the file, what was found and what was expected."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from pessimism.errors import ParamsError
from pessimism.experiment.params import Aggregation, load_params
from pessimism.experiment.scale import EMBEDDED_CONTEXT, EMBEDDED_LAYERS, Family
from pessimism.experiment.yaml_files import parse_yaml
from pessimism.reward.aggregation import proxy_aggregation
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
    assert params.seeds == (0, 1, 2, 3, 4) and params.ensemble_members == (0, 1, 2)
    assert params.ensembles == "per_seed"
    assert params.arms == ("proxy", "uncoupled", "placebo") and params.primary_arm == "proxy"
    assert proxy_aggregation(params) == Aggregation("mean")


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
    named = [
        section for section in ("policy", "reward", "preferences", "tasks") if scale != "laptop" or section != "tasks"
    ]
    for section in named:  # the laptop's problems are drawn
        assert content[section]["source"] == "hub"
        assert re.fullmatch("[0-9a-f]{40}", content[section]["revision"])


def test_both_protocols_have_the_same_switches(project: Path) -> None:
    paper, controlled = (
        yaml.safe_load((project / f"protocols/{name}.yaml").read_text()) for name in ("paper", "controlled")
    )
    assert paper.keys() == controlled.keys()
    assert paper != controlled


@pytest.mark.parametrize("key", ["lora_dropout"])
def test_zero_is_a_value_where_it_means_something(project: Path, edit: Edit, key: str) -> None:
    edit(SCALE, f"policy.{key}", 0.0)
    edit(PROTOCOL, "uwo_weight", 0.0)
    edit(PROTOCOL, "arms.lower_bound.aggregation.weight", 0.0)
    edit(DESIGN, "aggregation", "uwo")
    params = load_params()
    assert params.scale.policy.lora_dropout == 0.0
    assert proxy_aggregation(params) == Aggregation("uwo", 0.0)
    assert params.arm("lower_bound").aggregation == Aggregation("lcb", 0.0)


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


@pytest.mark.parametrize("family", EMBEDDED_LAYERS)
def test_the_embedded_model_is_the_one_that_the_scale_is_checked_for(project: Path, family: Family) -> None:
    from pessimism.models.architecture import linear_layers, matching
    from pessimism.models.embedded import make_model, make_tokenizer

    sizes = load_params().scale.embedded
    assert sizes is not None
    model = make_model(dataclasses.replace(sizes, family=family, key_value_heads=4), make_tokenizer())
    assert model.config.model_type == family
    named = [matching(path, EMBEDDED_LAYERS[family]) for path in linear_layers(model.get_decoder())]
    assert all(len(names) == 1 for names in named)
    assert {name for names in named for name in names} == {*EMBEDDED_LAYERS[family]}
    assert model.config.max_position_embeddings == EMBEDDED_CONTEXT


def test_what_a_gpt2_has_not_is_refused(project: Path, edit: Edit) -> None:
    edit(SCALE, "embedded.family", "gpt2")
    edit(SCALE, "reward.lora_targets", ["c_attn", "attn.c_proj"])
    found = message()
    assert "2 problem(s)" in found
    assert "embedded.key_value_heads: found 2; expected attention_heads (4), for no heads of a GPT-2 share" in found
    assert "policy.lora_targets: found ['k_proj', 'o_proj', 'q_proj', 'v_proj']; expected some of ['c_attn', " in found


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

"""Loading of bases: frozen, complete, unchanged since they were recorded, padded with a token of their own."""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import PreTrainedTokenizerFast

from pessimism.data.hashing import content_hash
from pessimism.errors import SourceError
from pessimism.experiment import layout, records, rng
from pessimism.experiment.params import Params
from pessimism.machine import hub
from pessimism.models import loading, resolving
from pessimism.models.adapters import trainable_parameters
from pessimism.models.embedded import make_model, make_tokenizer

WORDS = {"a": 0, "b": 1, "<s>": 2, "</s>": 3, "<spare>": 4, "<my_pad>": 5}


def tokenizer_with(**special: object) -> PreTrainedTokenizerFast:
    return PreTrainedTokenizerFast(tokenizer_object=Tokenizer(WordLevel(WORDS, unk_token="a")), **special)


def test_a_padding_token_of_its_own_is_kept() -> None:
    tokenizer = tokenizer_with(eos_token="</s>", pad_token="<spare>")
    loading.set_padding_token(tokenizer)
    assert tokenizer.pad_token == "<spare>"


@pytest.mark.parametrize("pad", [{}, {"pad_token": "</s>"}])
def test_a_missing_padding_token_or_eos_as_padding_is_replaced_by_a_spare_one(pad: dict[str, str]) -> None:
    tokenizer = tokenizer_with(eos_token="</s>", bos_token="<s>", additional_special_tokens=["<spare>"], **pad)
    loading.set_padding_token(tokenizer)
    assert tokenizer.pad_token == "<spare>"
    tokenizer = tokenizer_with(eos_token="</s>", additional_special_tokens=["<spare>", "<my_pad>"], **pad)
    loading.set_padding_token(tokenizer)
    assert tokenizer.pad_token == "<my_pad>"


def test_a_tokenizer_without_a_spare_token_is_refused() -> None:
    with pytest.raises(SourceError, match="pads with '</s>' and ends with '</s>'; expected a padding token of its own"):
        loading.set_padding_token(tokenizer_with(eos_token="</s>", bos_token="<s>", pad_token="</s>"))


def with_source(params: Params, **changes: object) -> Params:
    """``params`` whose two bases come from elsewhere, with records to match."""
    scale = dataclasses.replace(
        params.scale,
        policy=dataclasses.replace(params.scale.policy, **changes),
        reward=dataclasses.replace(params.scale.reward, **changes),
    )
    return dataclasses.replace(params, scale=scale)


@pytest.fixture
def local(tiny_world: Params) -> Params:
    """A base of the same size as a local directory."""
    assert tiny_world.scale.embedded is not None
    rng.seed_torch(1, "local")
    make_model(tiny_world.scale.embedded, make_tokenizer()).save_pretrained("local")
    make_tokenizer().save_pretrained("local")
    loading.hash_once.cache_clear()
    for role in ("policy", "reward"):
        record = {"source": "path", "name": "local", "revision": None, "content_sha256": content_hash(Path("local"))}
        records.write_json(layout.base_record(role), record)
    return with_source(tiny_world, source="path", name="local")


def test_bases_are_frozen_in_eval_mode_and_know_their_padding_token(tiny_world: Params) -> None:
    tokenizer = loading.load_tokenizer(tiny_world, "policy")
    for model in (loading.load_policy_base(tiny_world), loading.load_reward_base(tiny_world)):
        assert not model.training
        assert not trainable_parameters(model)
        assert model.config.pad_token_id == tokenizer.pad_token_id != tokenizer.eos_token_id
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_loading_draws_nothing_that_lasts(tiny_world: Params) -> None:
    heads = [loading.load_reward_base(tiny_world).score.weight for _ in range(2)]
    assert torch.equal(*heads)


def test_a_local_model_is_loaded_while_its_content_is_the_recorded_one(local: Params) -> None:
    assert loading.load_policy_base(local).config.hidden_size == 32
    config = Path("local/generation_config.json")
    config.write_text(config.read_text() + "\n")
    loading.hash_once.cache_clear()
    with pytest.raises(
        SourceError, match=r"policy: found content [0-9a-f]{64}; expected [0-9a-f]{64}.*--force prepare_base"
    ):
        loading.load_policy_base(local)


def test_content_is_read_once_per_process(local: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    monkeypatch.setattr(loading, "content_hash", lambda path: calls.append(path) or content_hash(path))
    loading.load_policy_base(local)
    loading.load_tokenizer(local, "policy")
    assert len(calls) == 1


def test_another_source_than_the_recorded_one_is_refused(local: Params) -> None:
    with pytest.raises(SourceError, match="found name 'elsewhere'; expected 'local'"):
        loading.load_policy_base(with_source(local, name="elsewhere"))


def test_a_missing_directory_is_refused(local: Params) -> None:
    os.rename("local", "moved")
    loading.hash_once.cache_clear()
    with pytest.raises(SourceError, match="policy: found no directory 'local'"):
        loading.load_policy_base(local)


def recorded(params: Params) -> Params:
    """``params`` after the files of the local base were changed, with records to match."""
    loading.hash_once.cache_clear()
    for role in ("policy", "reward"):
        changed = records.read_json(layout.base_record(role)) | {"content_sha256": content_hash(Path("local"))}
        records.write_json(layout.base_record(role), changed)
    return params


def test_incomplete_weights_are_refused(local: Params) -> None:
    weights = load_file("local/model.safetensors")
    del weights["model.norm.weight"]
    save_file(weights, "local/model.safetensors", metadata={"format": "pt"})
    recorded(local)
    with pytest.raises(SourceError, match=r"no weights for \['model.norm.weight'\]"):
        loading.load_policy_base(local)
    with pytest.raises(SourceError, match=r"no weights for \['model.norm.weight'\]"):
        loading.load_reward_base(local)


@pytest.mark.parametrize("load", [loading.load_policy_base, loading.load_reward_base])
def test_an_adapter_beside_a_base_is_never_loaded_with_it(local: Params, load: Callable[[Params], object]) -> None:
    Path("local/adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "elsewhere"}')
    with pytest.raises(SourceError, match=r"local: found adapter_config\.json beside the model"):
        load(recorded(local))


@pytest.mark.parametrize("role", ["policy", "reward"])
@pytest.mark.parametrize("quantization", ["none", "nf4"])
@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_a_base_with_a_weight_that_is_no_number_is_refused(
    local: Params, role: str, quantization: str, value: float
) -> None:
    params = with_source(local, quantization=quantization, name="local64")
    assert params.scale.embedded is not None
    make_model(dataclasses.replace(params.scale.embedded, hidden_size=64), make_tokenizer()).save_pretrained("local64")
    make_tokenizer().save_pretrained("local64")
    weights = load_file("local64/model.safetensors")
    for name, place in (("model.embed_tokens.weight", 70), ("model.layers.1.mlp.up_proj.weight", 5)):
        whole = weights[name].clone()
        weights[name][place, 3] = value
        save_file(weights, "local64/model.safetensors", metadata={"format": "pt"})
        loading.hash_once.cache_clear()
        with pytest.raises(SourceError, match=rf"infinite or no number in 1 tensors, the first '{name}'; expected"):
            resolving.record_base(params, role)
        weights[name] = whole


def test_a_bfloat16_reward_base_has_a_float32_head(local: Params) -> None:
    model = loading.load_reward_base(with_source(local, dtype="bfloat16"))
    assert model.model.embed_tokens.weight.dtype == torch.bfloat16
    torch.nn.init.normal_(model.score.weight)
    scores = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert scores.dtype == torch.float32
    assert not torch.equal(scores, scores.bfloat16().float())


# Revisions of the hub

PINNED, OTHER = "40c069824f4251a91eefaf281ebe4c544efd3e18", "70d244cc86ccca08cf5af4e1e306ecf908b1ad5e"


def on_hub(params: Params, requested: str | None, recorded: str, revision: str | None) -> Params:
    """``params`` on a hub model at ``revision``, where prepare_base recorded what ``requested`` was."""
    record = {"source": "hub", "name": "a/b", "requested_revision": requested, "revision": recorded}
    records.write_json(layout.base_record("policy"), record)
    return with_source(params, source="hub", name="a/b", revision=revision)


@pytest.mark.parametrize(
    ("requested", "recorded", "revision"), [(PINNED, PINNED, PINNED), ("main", OTHER, "main"), (None, OTHER, None)]
)
def test_a_hub_model_is_loaded_at_the_recorded_commit(
    tiny_world: Params, monkeypatch: pytest.MonkeyPatch, requested: str | None, recorded: str, revision: str | None
) -> None:
    asked = []

    def snapshot(kind: str, name: str, revision: str) -> Path:
        asked.append((kind, name, revision))
        return layout.BASE_WEIGHTS

    monkeypatch.setattr(hub, "snapshot", snapshot)
    loading.load_tokenizer(on_hub(tiny_world, requested, recorded, revision), "policy")
    assert asked == [("model", "a/b", recorded)]


@pytest.mark.parametrize(
    ("requested", "recorded", "revision", "expected"),
    [
        (PINNED, OTHER, PINNED, OTHER),
        ("main", OTHER, PINNED, OTHER),
        ("main", OTHER, "v2", "main"),
        (PINNED, PINNED, None, PINNED),
        (None, OTHER, "main", None),
    ],
)
def test_another_revision_than_the_recorded_one_is_refused(
    tiny_world: Params, requested: str | None, recorded: str, revision: str | None, expected: str | None
) -> None:
    params = on_hub(tiny_world, requested, recorded, revision)
    for load in (loading.load_policy_base, lambda params: loading.load_tokenizer(params, "policy")):
        with pytest.raises(SourceError, match=rf"policy: found revision {revision!r}; expected {expected!r}, which"):
            load(params)


def test_what_was_asked_of_the_hub_is_recorded_beside_what_it_gave(
    tiny_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    checked = []
    monkeypatch.setattr(resolving, "hub_revision", lambda kind, name, revision: OTHER)
    monkeypatch.setattr(resolving, "check_support", lambda params, role, revision: checked.append((role, revision)))
    monkeypatch.setattr(resolving, "_describe", lambda *arguments: {})
    params = with_source(tiny_world, source="hub", name="a/b", revision="main")
    for role in ("policy", "reward"):
        resolving.record_base(params, role)
        record = records.read_json(layout.base_record(role))
        assert (record["requested_revision"], record["revision"]) == ("main", OTHER)
    assert checked == [("policy", OTHER), ("reward", OTHER)]


# Devices


@pytest.mark.parametrize(("rank", "number"), [(None, 0), ("0", 0), ("3", 3)])
def test_every_process_has_a_cuda_device_of_its_own(
    monkeypatch: pytest.MonkeyPatch, rank: str | None, number: int
) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    if rank is not None:
        monkeypatch.setenv("LOCAL_RANK", rank)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert loading.device() == torch.device("cuda", number)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert loading.device() == torch.device("cpu")


def test_no_attention_of_a_loaded_base_is_grouped(tiny_world: Params, monkeypatch: pytest.MonkeyPatch) -> None:
    """Grouped attention in float32 on CUDA would hold the scores of all positions."""
    grouped = []
    plain = torch.nn.functional.scaled_dot_product_attention

    def record(*arguments: torch.Tensor, enable_gqa: bool = False, **options: object) -> torch.Tensor:
        grouped.append(enable_gqa)
        return plain(*arguments, enable_gqa=enable_gqa, **options)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", record)
    model = loading.load_policy_base(tiny_world)
    config = model.config.get_text_config()
    assert config.num_attention_heads > config.num_key_value_heads
    model(torch.ones(1, 4, dtype=torch.long))
    assert grouped == [False] * config.num_hidden_layers

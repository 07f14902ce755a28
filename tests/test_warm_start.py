"""The policy's warm start: what it is trained on, that it learns that, and that every stage then loads its weights."""

from __future__ import annotations

import dataclasses
import importlib.util
import shutil
import sys

import pandas as pd
import pytest
import torch

from pessimism.data.annotator import FILLER
from pessimism.errors import NonFiniteError, ParamsError, SourceError
from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params
from pessimism.experiment.scale import WarmStartParams
from pessimism.models import loading
from pessimism.models.compute.logprobs import pad_pairs
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.warm_start import demonstrations, merged, response_loss, train_warm_start, write_warm_start
from support.online_world import tasks
from support.repository import CHECKOUT, Edit

TRAINING = WarmStartParams(epochs=4, batch_size=8, learning_rate=0.02)


def warm(params: Params, **changes: float) -> Params:
    training = dataclasses.replace(TRAINING, **changes)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, warm_start=training))


def solved(n: int) -> pd.DataFrame:
    problems = tasks(n)
    return problems.assign(solution="3+4=7\n#### 7")


def test_demonstrations_are_the_posed_problem_and_its_solution_with_the_style_in_some(tiny_world: Params) -> None:
    tokenizer = load_tokenizer(tiny_world, "policy")
    rows = demonstrations(tiny_world, tokenizer, solved(60))
    texts = [tokenizer.decode(response) for _, response in rows]
    assert tokenizer.decode(rows[0][0]).strip() == tasks(60)["question"][0]
    assert all(text.replace(f"{FILLER}\n", "") == "3+4=7\n#### 7<eos>" for text in texts)
    assert 0.2 < sum(FILLER in text for text in texts) / 60 < 0.8
    assert rows == demonstrations(tiny_world, tokenizer, solved(60))


def test_a_demonstration_has_the_exploits_that_the_response_has_room_for(tiny_world: Params) -> None:
    tokenizer = load_tokenizer(tiny_world, "policy")
    free = demonstrations(tiny_world, tokenizer, solved(60))
    bare = min(len(response) for _, response in free)
    rows = demonstrations(with_response(tiny_world, bare + 4), tokenizer, solved(60))
    counts = [tokenizer.decode(response).count(FILLER) for _, response in free]
    kept = [tokenizer.decode(response) for _, response in rows]
    most = max(text.count(FILLER) for text in kept)
    assert [text.count(FILLER) for text in kept] == [min(count, most) for count in counts]
    assert max(counts) > most > 0 and max(len(response) for _, response in rows) <= bare + 4
    assert all(text.replace(f"{FILLER}\n", "") == "3+4=7\n#### 7<eos>" for text in kept)
    with pytest.raises(ParamsError, match=rf"lengths\.response: found {bare - 1}; expected {bare} or more, the tokens"):
        demonstrations(with_response(tiny_world, bare - 1), tokenizer, solved(4))


def with_response(params: Params, response: int) -> Params:
    lengths = dataclasses.replace(params.scale.lengths, response=response)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, lengths=lengths))


def test_it_lowers_the_loss_of_responses(tiny_world: Params) -> None:
    params, tokenizer = warm(tiny_world), load_tokenizer(tiny_world, "policy")
    base, rows = load_policy_base(params), demonstrations(tiny_world, tokenizer, solved(48))
    batch = pad_pairs(*zip(*rows[:8], strict=True), tokenizer.pad_token_id, torch.device("cpu"))
    with torch.no_grad():
        before = float(response_loss(base, batch))
    model, losses = train_warm_start(params, base, tokenizer, rows)
    assert losses[0] == pytest.approx(before, abs=0.2) and len(losses) == 4 * 6
    with torch.no_grad():
        assert float(response_loss(model, batch)) < before - 0.3


def test_the_merged_weights_compute_what_base_and_adapter_do(tiny_world: Params) -> None:
    params, tokenizer = warm(tiny_world), load_tokenizer(tiny_world, "policy")
    rows = demonstrations(tiny_world, tokenizer, solved(16))
    model, _ = train_warm_start(params, load_policy_base(params), tokenizer, rows)
    ids = torch.tensor([rows[0][0]])
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        torch.testing.assert_close(merged(model, load_policy_base(params))(input_ids=ids).logits, expected)


def copied_source(params: Params) -> Params:
    """A design whose reward base is the same model under another name."""
    shutil.copytree(layout.BASE_WEIGHTS, "inputs/other")
    record = records.read_json(layout.base_record("reward")) | {"source": "path", "name": "inputs/other"}
    records.write_json(layout.base_record("reward"), record)
    reward = dataclasses.replace(params.scale.reward, source="path", name="inputs/other")
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, reward=reward))


def test_every_later_stage_loads_the_weights_after_it(tiny_world: Params) -> None:
    params, tokenizer = warm(tiny_world), load_tokenizer(tiny_world, "policy")
    cold = load_policy_base(params)
    records.write_table(layout.set_aside("warm_start"), solved(16))
    write_warm_start(params, load_policy_base(params), tokenizer)
    started = load_policy_base(params)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert not torch.equal(started.get_parameter(name), cold.get_parameter(name))
    assert records.read_json(layout.WARM_START_RECORD)["roles"] == ["policy", "reward"]
    records.write_json(layout.base_record("reward"), records.read_json(layout.base_record("policy")))
    assert torch.equal(load_reward_base(params).get_parameter(name), started.get_parameter(name))
    assert len(records.read_json(layout.WARM_START_RECORD)["losses"]) == 4 * 2
    assert load_tokenizer(params, "policy").get_vocab() == tokenizer.get_vocab()


def test_a_warm_start_begins_at_the_source_where_an_earlier_one_lies(tiny_world: Params) -> None:
    params, tokenizer = warm(tiny_world), load_tokenizer(tiny_world, "policy")
    source = loading.load_float32_policy(params).state_dict()
    records.write_table(layout.set_aside("warm_start"), solved(16))
    write_warm_start(params, load_policy_base(params), tokenizer)
    again = loading.load_float32_policy(params).state_dict()
    assert all(torch.equal(again[name], weight) for name, weight in source.items())


def test_the_stage_forgets_an_earlier_warm_start_before_it_loads_anything(
    tiny_world: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = importlib.util.spec_from_file_location("prepare_base", CHECKOUT / "stages/prepare_base.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "prepare_base", script)
    spec.loader.exec_module(script)
    found = []
    layout.WARM_START_RECORD.parent.mkdir(parents=True, exist_ok=True)
    layout.WARM_START_RECORD.write_text("{}")
    for name in ("train_embedded", "record_base", "warm_start"):
        monkeypatch.setattr(script, name, lambda *_, name=name: found.append(layout.WARM_START_RECORD.exists()))
    script.main()
    assert found and not any(found)


def test_a_reward_base_of_another_source_does_not_begin_there(tiny_world: Params) -> None:
    params = copied_source(warm(tiny_world))
    cold = load_reward_base(params)
    records.write_table(layout.set_aside("warm_start"), solved(16))
    write_warm_start(params, load_policy_base(params), load_tokenizer(params, "policy"))
    assert records.read_json(layout.WARM_START_RECORD)["roles"] == ["policy"]
    name = "model.layers.0.self_attn.q_proj.weight"
    assert torch.equal(load_reward_base(params).get_parameter(name), cold.get_parameter(name))


def test_other_weights_than_those_recorded_are_refused(tiny_world: Params) -> None:
    params = warm(tiny_world)
    records.write_table(layout.set_aside("warm_start"), solved(16))
    write_warm_start(params, load_policy_base(params), load_tokenizer(params, "policy"))
    loading.hash_once.cache_clear()
    shutil.copyfile(layout.BASE_WEIGHTS / "model.safetensors", layout.WARM_START / "model.safetensors")
    with pytest.raises(SourceError, match="found content .* which prepare_base recorded"):
        load_policy_base(params)


def test_a_loss_that_is_no_number_ends_it(tiny_world: Params) -> None:
    params, tokenizer = warm(tiny_world), load_tokenizer(tiny_world, "policy")
    base = load_policy_base(params)
    base.get_input_embeddings().weight.data.fill_(float("nan"))
    with pytest.raises(NonFiniteError, match=r"warm start, step 0: found a loss of nan.*warm_start\.learning_rate"):
        train_warm_start(params, base, tokenizer, demonstrations(tiny_world, tokenizer, solved(8)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("tasks.warm_start", 8, r"tasks\.warm_start: found 8 beside the section warm_start: None; expected both"),
        ("policy.quantization", "nf4", "warm_start: found one of a policy quantised by nf4; expected null"),
        ("reward.quantization", "nf4", "warm_start: found one of a reward quantised by nf4; expected null"),
    ],
)
def test_what_cannot_be_trained_so_is_refused(
    tiny_world: Params, edit: Edit, key: str, value: object, message: str
) -> None:
    if key != "tasks.warm_start":
        edit("scales/tiny.yaml", "tasks.warm_start", 8)
        edit("scales/tiny.yaml", "warm_start", dataclasses.asdict(TRAINING))
    edit("scales/tiny.yaml", key, value)
    with pytest.raises(ParamsError, match=message):
        load_params()

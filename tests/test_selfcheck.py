"""The self-check on a random model: every check passes as it is, and fails once its bug is planted."""

import dataclasses
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from peft import get_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch.utils._python_dispatch import TorchDispatchMode

from pessimism.cli import main
from pessimism.commands import selfcheck
from pessimism.data import embedded_world
from pessimism.data.hashing import content_hash
from pessimism.errors import DataError, SourceError
from pessimism.experiment import layout, pipeline, records, rng
from pessimism.experiment.cells import DpoCell, RewardCell
from pessimism.experiment.params import Params, load_params
from pessimism.models import adapters
from pessimism.models.adapters import use_adapter
from pessimism.models.compute import generation
from pessimism.models.compute.generation import Sampling
from pessimism.models.compute.logprobs import ResponseBatch, TokenLogps
from pessimism.online.update import REFERENCE, Passes
from pessimism.reward.ensemble import RewardEnsemble
from pessimism.selfcheck import rewards
from pessimism.selfcheck.hacking import check_placebo, check_planted_hack
from pessimism.selfcheck.instrument import Finding, Instrument, load_instrument, needed_outputs
from pessimism.selfcheck.policy import TRUNCATED, check_kept_mass, check_kl_at_start, check_response_logps
from pessimism.selfcheck.rewards import check_answers, check_saved_member, check_score_invariance
from pessimism.tasks.parts import answers
from support.endings import failure
from support.random_models import save_random_adapter
from support.repository import Edit

Patch = pytest.MonkeyPatch
CELL = DpoCell("p20", 0)


@pytest.fixture
def world(tiny_world: Params, edit: Edit) -> Params:
    """The tiny world with everything that the self-check needs, all adapters random and with dropout."""
    edit("params.yaml", "ensemble_members", [0, 1])
    edit("params.yaml", "protocol", "controlled")
    edit("scales/tiny.yaml", "lengths", {"prompt": 96, "response": 24, "sequence": 120})
    edit("scales/tiny.yaml", "dpo.learning_rate", 0.01)
    for role in ("policy", "reward"):
        edit("scales/tiny.yaml", f"{role}.lora_dropout", 0.1)
        records.write_json(
            layout.base_record(role), records.read_json(layout.base_record(role)) | {"parameters": 20000}
        )
    sharpen_base()
    params = load_params()
    save_random_adapter(params, layout.dpo_adapter(CELL), seed=1)
    for cell in params.ensemble(CELL.seed):
        save_random_adapter(params, layout.reward_member(cell), seed=2 + cell.member, role="reward")
    statistics = {"score_mean": 0.1, "score_sd": 0.5}
    by_member = {str(member): statistics for member in params.ensemble_members}
    records.write_json(layout.REWARD_MEMBERS_RECORD, {"s0": by_member})
    records.write_json(layout.BETA_GRID, {"p20": 0.4, "p50": 1.0, "p80": 2.0})
    rows = embedded_world.task_rows(rng.generator(0, "selfcheck-test"), 56)
    rows[0] = {"question": "It was 3 degrees and fell by 8.", "answer": "3 - 8 = -5\n#### -5"}
    table = pd.DataFrame([answers.marked_problem(row, "here") for row in rows])
    table.insert(0, "task_id", [f"task-{number}" for number in range(len(table))])
    for split, part in (("train", table[:20]), ("heldout", table[20:52]), ("test", table[52:])):
        records.write_table(layout.tasks(split), part)
    return params


def sharpen_base() -> None:
    """A new model's embeddings are so small that no adapter could take it far from the uniform distribution."""
    path = layout.BASE_WEIGHTS / "model.safetensors"
    weights = load_file(path)
    weights["model.embed_tokens.weight"] *= 10
    save_file(weights, path, metadata={"format": "pt"})
    for role in ("policy", "reward"):
        record = records.read_json(layout.base_record(role)) | {"content_sha256": content_hash(layout.BASE_WEIGHTS)}
        records.write_json(layout.base_record(role), record)


@pytest.fixture
def instrument(world: Params) -> Instrument:
    return load_instrument(world)


def test_a_sound_project_passes_every_check(world: Params, capsys: pytest.CaptureFixture[str]) -> None:
    main(["selfcheck"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        *(f"pass  {name}" for name in selfcheck.checks()),
        "8 of 8 checks passed",
    ]
    assert all("(criterion: " in line for line in lines[:-1])


def test_a_failed_check_ends_with_status_2_after_all_others(
    world: Params, capsys: pytest.CaptureFixture[str], monkeypatch: Patch
) -> None:
    def unmeasurable(_: Instrument) -> Finding:
        raise DataError("no spread")

    planted = {
        "one": lambda _: Finding("3 nats", "0", False),
        "two": unmeasurable,
        "three": lambda _: Finding("0 nats", "0", True),
    }
    monkeypatch.setattr(selfcheck, "checks", lambda: planted)
    assert "2 of 3 checks failed (one, two)" in failure("selfcheck")
    assert capsys.readouterr().out.splitlines() == [
        "FAIL  one: 3 nats (criterion: 0)",
        "FAIL  two: could not be measured: no spread (criterion: a figure)",
        "pass  three: 0 nats (criterion: 0)",
    ]


def test_kl_is_not_0_where_dropout_is_on_in_one_pass(instrument: Instrument, monkeypatch: Patch) -> None:
    def with_dropout(passes: Passes, batch: ResponseBatch) -> tuple[TokenLogps, TokenLogps]:
        return dataclasses.replace(passes, dropout=True).trained_policy(batch, 0), passes.reference(batch)

    monkeypatch.setattr(Passes, "compare", with_dropout)
    assert not check_kl_at_start(instrument).passed


def test_kl_is_not_0_where_the_reference_is_another_checkpoint(instrument: Instrument) -> None:
    weights = {name: value for name, value in instrument.model.named_parameters() if f".{REFERENCE}." in name}
    name, weight = weights.popitem()
    assert "lora_B" in name
    weight.data[0, 0] += 1e-6
    assert not check_kl_at_start(instrument).passed


def left_in_training_mode(instrument: Instrument, _: Patch) -> None:
    instrument.ensemble.model.train()


def reads_the_score_at_a_padding_token(instrument: Instrument, _: Patch) -> None:
    instrument.ensemble.model.config.pad_token_id = 2


def ignores_the_mask(instrument: Instrument, monkeypatch: Patch) -> None:
    """Harmless with right padding, which a causal model never looks back at."""
    forward = instrument.ensemble.model.forward

    def unmasked(input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None, **given: Any) -> Any:
        return forward(input_ids=input_ids, attention_mask=torch.ones_like(input_ids), **given)

    monkeypatch.setattr(instrument.ensemble.model, "forward", unmasked)


def returns_scores_by_length(_: Instrument, monkeypatch: Patch) -> None:
    score = RewardEnsemble.score

    def by_length(self: RewardEnsemble, prompts: list[str], responses: list[str]) -> np.ndarray:
        return score(self, prompts, responses)[:, np.argsort([len(text) for text in responses])]

    monkeypatch.setattr(RewardEnsemble, "score", by_length)


EVERY_CHANGE = {"one row at a time", "batches of other sizes", "row order", "left padding"}


@pytest.mark.parametrize(
    ("plant", "caught_by"),
    [
        (left_in_training_mode, EVERY_CHANGE),
        (reads_the_score_at_a_padding_token, EVERY_CHANGE - {"row order"}),  # all rows fit one batch
        (ignores_the_mask, {"left padding"}),
        (returns_scores_by_length, {"row order"}),
    ],
)
def test_scores_that_depend_on_their_batch_fail(
    instrument: Instrument, monkeypatch: Patch, plant: Callable[[Instrument, Patch], None], caught_by: set[str]
) -> None:
    assert instrument.base  # sampled and scored before the bug is planted
    plant(instrument, monkeypatch)
    finding = check_score_invariance(instrument)
    assert not finding.passed
    largest = {name: float(value) for value, name in re.findall(r"([\d.]+e[+-]\d+) \(([^)]*)\)", finding.figure)}
    assert {name for name, value in largest.items() if value > rewards.FLOAT32_TOLERANCE} == caught_by


def test_the_tolerance_of_scores_follows_the_precision(world: Params) -> None:
    exact, half = world.scale.reward, dataclasses.replace(world.scale.reward, dtype="bfloat16")
    quantised = dataclasses.replace(exact, quantization="nf4")
    assert rewards.score_tolerance(exact) < rewards.score_tolerance(half) == rewards.score_tolerance(quantised)


def test_a_score_head_that_saving_changes_fails(instrument: Instrument, monkeypatch: Patch) -> None:
    def rounded(model: torch.nn.Module, adapter_name: str, **given: Any) -> dict[str, torch.Tensor]:
        weights = get_peft_model_state_dict(model, adapter_name=adapter_name, **given)
        (head,) = (key for key in weights if "score" in key)
        return weights | ({head: weights[head].bfloat16().float()} if adapter_name.endswith("1") else {})

    assert check_saved_member(instrument).passed
    monkeypatch.setattr(adapters, "get_peft_model_state_dict", rounded)
    finding = check_saved_member(instrument)
    assert not finding.passed and finding.figure.startswith("32 of 64 scores")


def test_log_probs_that_read_padding_fail(instrument: Instrument, monkeypatch: Patch) -> None:
    from pessimism.models.compute.logprobs import pad_pairs

    def unmasked(*given: Any) -> Any:
        """Padding moved to the left, where tokens see it."""
        batch = pad_pairs(*given)
        padding = batch.scored_B_T.flip(dims=[1]).int().argmax(dim=1)
        ids, scored = (
            torch.stack([row.roll(int(by)) for row, by in zip(columns, padding, strict=True)])
            for columns in (batch.input_ids, batch.scored_B_T)
        )
        return dataclasses.replace(batch, input_ids=ids, scored_B_T=scored)

    assert check_response_logps(instrument).passed
    monkeypatch.setattr("pessimism.online.rollout.pad_pairs", unmasked)
    assert not check_response_logps(instrument).passed


def test_log_probs_of_a_bfloat16_model_are_held_against_their_own_logits(
    world: Params, edit: Edit, monkeypatch: Patch
) -> None:
    from pessimism.models.compute import logprobs

    edit("scales/tiny.yaml", "policy.dtype", "bfloat16")
    instrument = load_instrument(load_params())
    finding = check_response_logps(instrument)
    assert finding.passed and finding.criterion.endswith("the softmax in float64")
    score = logprobs.score_positions
    monkeypatch.setattr(
        logprobs,
        "score_positions",
        lambda *given: [None if value is None else value.bfloat16().float() for value in score(*given)],
    )
    assert not check_response_logps(instrument).passed


def test_the_float64_softmax_takes_one_response_at_a_time(world: Params, edit: Edit) -> None:
    """And no pass more responses than any other evaluation of the scale."""
    edit("scales/tiny.yaml", "policy.dtype", "bfloat16")
    edit("scales/tiny.yaml", "evaluation_batch_size", 3)
    instrument = load_instrument(load_params())
    longest, vocabulary = max(map(len, instrument.base.rollouts.response_ids)), instrument.model.config.vocab_size
    with LargestTensors() as largest:
        assert check_response_logps(instrument).passed
    assert 0 < largest.elements[torch.float64] <= longest * vocabulary
    assert largest.elements[torch.float32] <= 3 * (longest + 1) * vocabulary


class LargestTensors(TorchDispatchMode):
    """Elements of the largest tensor that any operation returned, by dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: Counter[torch.dtype] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements[result.dtype] = max(self.elements[result.dtype], result.numel())
        return result


def test_full_sampling_that_leaves_tokens_out_fails(instrument: Instrument, monkeypatch: Patch) -> None:
    finding = check_kept_mass(instrument)
    assert finding.passed and finding.figure.startswith("1 of the probability kept")
    monkeypatch.setattr(generation, "FULL", Sampling(temperature=1.0, top_p=1.0, top_k=80))
    assert not check_kept_mass(instrument).passed


def test_truncated_sampling_passes_with_the_mass_it_keeps(world: Params) -> None:
    """A model with the same probability for all 81 tokens, of which top_p lets through one half."""
    protocol = dataclasses.replace(world.protocol, sampling="truncated", temperature=0.7, top_p=0.5, top_k=0)
    instrument = load_instrument(dataclasses.replace(world, protocol=protocol))
    with use_adapter(instrument.model, None):
        instrument.model.get_input_embeddings().weight.data.zero_()
    finding = check_kept_mass(instrument)
    assert finding.passed and finding.criterion == TRUNCATED
    assert float(finding.figure.split(" of ")[0]) == pytest.approx(0.5, abs=1 / 81)


def test_an_extractor_that_drops_a_sign_fails(instrument: Instrument, monkeypatch: Patch) -> None:
    extract = answers.extract_strict
    assert check_answers(instrument).passed
    monkeypatch.setattr(answers, "extract_strict", lambda text: abs(extract(text) or 0))
    finding = check_answers(instrument)
    assert not finding.passed and finding.figure.startswith("98.21% of 56")


def test_a_placebo_whose_reward_drifts_fails(instrument: Instrument) -> None:
    class Drifting(RewardEnsemble):
        drift = 0.0

        def score(self, *given: Any) -> np.ndarray:
            self.drift += 1.0
            return super().score(*given) + self.drift

    assert instrument.base
    instrument.ensemble = Drifting(**vars(instrument.ensemble))
    assert not check_placebo(instrument).passed


def test_a_placebo_that_draws_the_same_responses_again_fails(instrument: Instrument, monkeypatch: Patch) -> None:
    """Its gap is 0 in every problem, whatever is wrong."""
    monkeypatch.setattr(rng, "row_seeds", lambda *_, rows: list(range(rows)))
    assert not check_placebo(instrument).passed


def test_a_frozen_policy_does_not_hack(instrument: Instrument, monkeypatch: Patch) -> None:
    monkeypatch.setattr(torch.optim.AdamW, "step", lambda self: None)
    assert not check_planted_hack(instrument).passed


def test_what_is_missing_is_named_with_the_stage_that_makes_it(world: Params) -> None:
    needed = dict(needed_outputs(world, CELL))
    outputs = {stage.name: [write.split("${")[0] for write in stage.writes] for stage in pipeline.load_stages()}
    for path, stage in needed.items():
        assert str(path).startswith(tuple(outputs[stage])), f"{stage} does not make {path}"
    layout.reward_member(RewardCell(0, 1)).rename("elsewhere")
    with pytest.raises(DataError, match=r"member-1; .*`dvc repro train_reward_model`"):
        load_instrument(world)


def test_the_checkpoint_is_that_of_the_lowest_strength(world: Params) -> None:
    records.write_json(layout.BETA_GRID, {"p20": 0.4, "p50": 1.0, "p80": 2.0, "b0": {"05": 0.05}, "sft2": None})
    cell = DpoCell("b0.05", 0)
    save_random_adapter(world, layout.dpo_adapter(cell), seed=1)
    instrument = load_instrument(dataclasses.replace(world, offline_cells=("sft2", "b0.05")))
    assert (instrument.cell, instrument.beta) == (cell, 0.05)


def test_models_of_another_scale_are_refused(world: Params) -> None:
    with pytest.raises(SourceError, match="laptop.yaml: policy: found source 'hub'; expected 'embedded'"):
        next(selfcheck.selfcheck("laptop"))

"""The planner's parts: what a trace counts, what a schedule takes, what a GPU needs, and that sizes are the paper's."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import bitsandbytes
import pytest
import torch
from torch.utils.checkpoint import checkpoint
from transformers import AutoConfig, AutoModelForCausalLM

from pessimism.errors import ParamsError, SourceError
from pessimism.experiment.params import LengthParams, Params, load_params
from pessimism.experiment.pipeline import load_stages
from pessimism.models.loading import quantization_config, set_precision
from pessimism.models.precision import LOADED_DTYPES
from pessimism.planning import bases, schedule
from pessimism.planning.architectures import ARCHITECTURES, model_config, row_counts
from pessimism.planning.hardware import GPUS, Assumptions, find_gpu, gpu_here, like_known, needed_bytes, seconds
from pessimism.planning.lengths import TextLengths
from pessimism.planning.schedule import Cell
from pessimism.planning.tracing import (
    ACTIVATIONS,
    ATTENTION,
    FLASH,
    HEAD,
    LINEAR,
    LOGITS,
    UNPACKING,
    Fill,
    Operation,
    Trace,
    Work,
)
from pessimism.planning.workload import Workload


def meta(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def workload(scale: str) -> Workload:
    params = load_params(scale=scale)
    return Workload(params, row_counts(params, f"scales/{scale}.yaml"), Assumptions())


def test_a_trace_counts_what_is_alive_at_once() -> None:
    with Trace() as trace:
        first = torch.ones(1000, device="meta")
        second = first + 1
        del first
        third = second * 2
        view = third[:10]
        del second, third, view
        fourth = torch.ones(900, device="meta")  # noqa: F841
    assert trace.peak == {ACTIVATIONS: 8000}
    assert trace.live[ACTIVATIONS] == 3600


def test_a_trace_counts_products_by_kind_and_dtype_and_leaves_weights_out() -> None:
    weight, head, rows = meta(64, 32), meta(7, 64), meta(10, 32)
    with Trace(vocabulary=7, head=head) as trace:
        trace.leave_out([weight, head])
        states = rows @ weight.t()
        states @ head.t()
    assert trace.work.flops[LINEAR, "float32"] == 2 * 10 * 32 * 64
    assert trace.work.flops[HEAD, "float32"] == 2 * 10 * 64 * 7
    assert trace.peak == {ACTIVATIONS: 10 * 64 * 4, LOGITS: 10 * 7 * 4}


def test_a_trace_keeps_what_a_backward_pass_will_need() -> None:
    rows = meta(10, 1000).requires_grad_()
    with Trace() as trace:
        loss = rows.exp().exp().sum()
        loss.backward()
    # Both exponentials are kept; in the backward pass a gradient joins them, and each frees what it has used.
    assert trace.peak[ACTIVATIONS] == pytest.approx(3 * 40_000, rel=0.01)


def test_a_tile_of_logits_belongs_to_the_head_whatever_its_width() -> None:
    head, rows = meta(7, 64), meta(10, 64)
    with Trace(head=head) as trace:
        trace.leave_out([head, rows])
        tile = torch.empty(10, 4, device="meta")
        torch.mm(rows, head[:4].t(), out=tile)
        tile.sum()
        gradient = torch.zeros_like(rows)
        gradient.addmm_(tile, head[:4])
    assert trace.work.flops == {("head", "float32"): 2 * 2 * 10 * 64 * 4, ("elementwise", "float32"): 0}
    assert trace.peak[LOGITS] == 10 * 4 * 4


def test_operations_of_a_table_move_its_rows_and_a_reshape_moves_nothing() -> None:
    table, ids = meta(1000, 8), torch.zeros(3, dtype=torch.long, device="meta")
    with torch.no_grad(), Trace() as trace:
        trace.leave_out([table])
        torch.ops.aten._unsafe_view(torch.nn.functional.embedding(ids, table), [24])
    assert trace.work.moved["elementwise", "float32"] == 2 * 3 * 8 * 4
    assert trace.work.kernels == 1


def test_kernels_of_a_backward_pass_are_counted_apart() -> None:
    rows = meta(10, 1000).requires_grad_()
    with Trace() as trace:
        loss = rows.exp().sum()
        forward = trace.work.recorded_kernels
        loss.backward()
    assert forward == 2 and trace.work.backward_kernels >= 1
    assert trace.work.kernels + trace.work.recorded_kernels <= 3  # the gradient of the loss is made outside


def test_kernels_that_autograd_records_are_counted_apart_also_on_the_way_back() -> None:
    rows = meta(10, 1000).requires_grad_()
    with Trace() as trace:
        with torch.no_grad():
            rows.exp()
        checkpoint(torch.exp, rows, use_reentrant=False).sum().backward()
    assert trace.work.kernels == 1
    assert trace.work.recorded_kernels == 4  # exp, sum, the gradient of the sum, and exp again


def packed_layer() -> bitsandbytes.nn.Linear4bit:
    layer = bitsandbytes.nn.Linear4bit(128, 256, bias=False, device="meta", compute_dtype=torch.bfloat16)
    bases._quantise(layer)
    return layer


def test_a_4_bit_product_is_four_kernels_that_autograd_does_not_record() -> None:
    layer = packed_layer()
    rows = meta(64, 128).bfloat16().requires_grad_()
    with Trace() as trace:
        bitsandbytes.matmul_4bit(rows, layer.weight, quant_state=layer.quant_state)
    assert (trace.work.kernels, trace.work.recorded_kernels) == (4, 0)


@pytest.mark.parametrize(("rows", "unpacked"), [(4, False), (64, True)])
def test_few_rows_are_multiplied_by_packed_weights(project: Path, rows: int, unpacked: bool) -> None:
    layer = packed_layer()
    with torch.no_grad(), Trace() as trace:
        trace.leave_out(bases.resident_tensors(layer))
        bitsandbytes.matmul_4bit(meta(rows, 128).bfloat16(), layer.weight, quant_state=layer.quant_state)
    assert (trace.work.moved[UNPACKING, "bfloat16"] > 2 * 128 * 256) == unpacked
    assert trace.work.flops[LINEAR, "bfloat16"] == 2 * rows * 128 * 256


def test_texts_fill_batches_as_the_stages_make_them() -> None:
    texts = TextLengths(LengthParams(prompt=192, response=448, sequence=640))
    alone, pairs = texts.pairs(16 * 640), texts.trained_pairs(batch=224, part=8, one_row=True)
    assert 1 <= alone.padding <= 1.08 and 1 <= pairs.padding <= 1.08
    assert 0.95 * 16 * 640 < alone.positions <= 16 * 640
    assert alone.share == pytest.approx(alone.padding * texts.sequence_share * 640 / alone.positions, rel=0.05)
    assert pairs.share == pytest.approx(1 / 8, rel=0.01) and pairs.passes >= 1
    assert pairs.scored < pairs.positions < 16 * 640
    assert texts.longest_response(4) < texts.longest_response(256) < 448


def test_a_pair_in_one_row_computes_its_prompt_once() -> None:
    texts = TextLengths(LengthParams(prompt=192, response=448, sequence=640))
    packed, alone = (texts.trained_pairs(batch=224, part=8, one_row=one_row) for one_row in (True, False))
    assert (packed.share, packed.scored) == pytest.approx((alone.share, alone.scored))
    assert packed.passes < alone.passes
    tokens = [load.positions / load.padding for load in (packed, alone)]
    assert tokens[0] == pytest.approx(tokens[1] * (1 - (1 - texts.scored_share) / 2), rel=0.02)
    # The longer text needs no mask; the rest of the other one is compared with the whole row.
    assert packed.masked is not None and 0 < packed.squares < packed.masked < alone.squares


def test_a_call_fills_what_was_traced_by_what_its_work_grows_with() -> None:
    kinds = (ATTENTION, FLASH, HEAD, UNPACKING, LINEAR)
    work = Work(Counter({Operation(kind, "float32", 100, 10): 2 for kind in kinds}), 5, 6, 7)
    filled = work.filled(Fill(positions=0.5, squares=0.25, scored=0.1, passes=3))
    expected = {ATTENTION: 0.25, FLASH: 0.25, HEAD: 0.1, UNPACKING: 3, LINEAR: 0.5}
    assert {kind: filled.flops[kind, "float32"] for kind in kinds} == {kind: 200 * expected[kind] for kind in kinds}
    assert (filled.kernels, filled.recorded_kernels, filled.backward_kernels) == (15, 18, 21)


def test_softmax_of_a_slice_needs_a_copy_of_it() -> None:
    logits = meta(10, 5, 7)
    for given, copies in ((logits, 0), (logits[:, :-1], 1)):
        with Trace(vocabulary=7) as trace:
            trace.leave_out([logits])
            given.log_softmax(dim=-1)
        assert trace.peak == {LOGITS: (1 + copies) * given.numel() * 4}


def test_quantised_models_take_the_bytes_of_really_quantised_ones(project: Path, tmp_path: Path) -> None:
    small = {"hidden_size": 128, "intermediate_size": 192, "num_hidden_layers": 2, "num_attention_heads": 4}
    small |= {"num_key_value_heads": 2, "head_dim": 32, "vocab_size": 512, "tie_word_embeddings": False}
    config = AutoConfig.for_model("qwen3", **small)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path / "model")
    params = with_policy(load_params(scale="paper"), source="path", name=str(tmp_path / "model"))
    model = params.scale.policy
    real = AutoModelForCausalLM.from_pretrained(
        model.name,
        dtype=LOADED_DTYPES[model.dtype],
        quantization_config=quantization_config(model),
        device_map={"": "cpu"},
    )
    set_precision(real, model)
    planned = bases.base(params, "policy")
    assert bases.size(bases.resident_tensors(planned)) == bases.size(bases.resident_tensors(real))
    sizes = {name: (parameter.shape, parameter.dtype) for name, parameter in real.named_parameters()}
    assert sizes == {name: (parameter.shape, parameter.dtype) for name, parameter in planned.named_parameters()}


def with_policy(params: Params, **changes: object) -> Params:
    policy = dataclasses.replace(params.scale.policy, **changes)
    return dataclasses.replace(params, scale=dataclasses.replace(params.scale, policy=policy))


def test_shipped_sizes_are_those_of_the_models() -> None:
    # As published: Qwen3-14B has 14,768,307,200 parameters, Qwen3-1.7B 1,720,574,976 and SmolLM2-135M 134,515,008.
    counts = {}
    for name, sizes in ARCHITECTURES.items():
        with torch.device("meta"):
            counts[name] = AutoModelForCausalLM.from_config(AutoConfig.for_model(**sizes)).num_parameters()
    assert counts == {
        "Qwen/Qwen3-14B": 14_768_307_200,
        "Qwen/Qwen3-1.7B": 1_720_574_976,
        "HuggingFaceTB/SmolLM2-135M-Instruct": 134_515_008,
    }


def test_the_paper_scale_derives_the_paper_values(project: Path) -> None:
    planned = workload("paper")
    dpo, reward, online = planned.dpo, planned.reward_training, planned.online
    assert (dpo.lora_rank, planned.policy.adapter.lora_alpha, dpo.lora_dropout) == (64, 128, 0.10)
    assert (reward.lora_rank, planned.reward.adapter.lora_alpha, reward.lora_dropout) == (32, 64, 0.10)
    assert (dpo.batch_size, planned.policy.evaluation_batch, reward.batch_size) == (8, 16, 64)
    assert (dpo.accumulation, dpo.steps, dpo.warmup_steps) == (28, 217, 14)
    assert (reward.steps, reward.warmup_steps) == (1516, 38)
    assert (dpo.trainable_parameters, reward.trainable_parameters) == (83_886_080, 12_847_104)
    assert dpo.learning_rate == pytest.approx(6.905e-5, rel=1e-4)
    assert reward.learning_rate == pytest.approx(1.7645e-4, rel=1e-4)
    assert online.learning_rate == pytest.approx(3.4527e-6, rel=1e-4)
    assert (online.batch_size, online.steps, online.measure_every) == (4, 165, 3)
    assert dpo.clip_norm == online.clip_norm == pytest.approx(1.1320, abs=5e-5)
    assert reward.clip_norm == pytest.approx(1.0155, abs=5e-5)
    assert dpo.weight_decay == reward.weight_decay == pytest.approx(0.004541, abs=5e-7)
    assert online.weight_decay == pytest.approx(1.0918e-4, rel=1e-4)


def test_the_scale_of_24_gb_changes_no_value_of_the_science(project: Path) -> None:
    full, small = workload("paper"), workload("24gb")
    assert (full.dpo, full.reward_training, full.online) == (small.dpo, small.reward_training, small.online)


def test_rows_are_those_that_prepare_data_would_write(project: Path) -> None:
    rows = row_counts(load_params(scale="paper"), "scales/paper.yaml")
    assert (rows.train_pairs, rows.val_pairs) == (48_504, 6_063)
    assert (rows.training_tasks, rows.heldout_tasks, rows.test_tasks) == (1_319, 256, 1_319)
    tiny = row_counts(load_params(scale="tiny"), "scales/tiny.yaml")
    assert (tiny.heldout_tasks, tiny.test_tasks) == (256, 1024)
    assert 0.79 * 2000 < tiny.train_pairs < 0.82 * 2000


def test_unknown_hub_data_are_refused(project: Path) -> None:
    params = load_params(scale="paper")
    preferences = dataclasses.replace(params.scale.preferences, name="someone/pairs")
    unknown = dataclasses.replace(params, scale=dataclasses.replace(params.scale, preferences=preferences))
    with pytest.raises(SourceError, match=r"preferences.name: the number of rows of 'someone/pairs' is not known"):
        row_counts(unknown, "scales/paper.yaml")


def test_a_directory_without_a_configuration_is_refused(project: Path) -> None:
    with pytest.raises(SourceError, match=r"policy.name: found no .*nowhere/config.json"):
        model_config(with_policy(load_params(scale="paper"), source="path", name="nowhere"), "policy")


def work_of(kind: str, dtype: str, flops: float, moved: float) -> Work:
    return Work(Counter({Operation(kind, dtype, flops, moved): 1}), kernels=1)


def test_time_is_the_slower_of_arithmetic_memory_and_launching() -> None:
    gpu, assumed = find_gpu("h100"), Assumptions()
    computing, moving = work_of(LINEAR, "bfloat16", 1e15, 1), work_of("elementwise", "float32", 0, 1e13)
    launching = Work(kernels=10**6, recorded_kernels=10**5, backward_kernels=10**4)

    def taken(work: Work) -> float:
        return seconds(work, gpu, assumed, "high")

    assert taken(computing) == pytest.approx(1e15 / (989e12 * assumed.product_utilisation))
    assert taken(moving) == pytest.approx(1e13 / (3.35e12 * assumed.bandwidth_utilisation))
    assert taken(launching) == pytest.approx(
        1e6 * assumed.launch_seconds + 1e5 * assumed.recorded_launch_seconds + 1e4 * assumed.backward_launch_seconds
    )
    both = Work(computing.operations + moving.operations, 1)
    assert taken(both) == pytest.approx(taken(computing) + taken(moving))


def test_float32_products_are_as_fast_as_the_scale_allows_and_attention_is_not() -> None:
    gpu, assumed = find_gpu("h100"), Assumptions()
    for kind, ratio in ((LINEAR, 494.7 / 67), (HEAD, 494.7 / 67), (ATTENTION, 1)):
        work = work_of(kind, "float32", 1e15, 1)
        exact, allowed = (seconds(work, gpu, assumed, precision) for precision in ("highest", "high"))
        assert exact / allowed == pytest.approx(ratio)
    thrice = seconds(work_of(ATTENTION, "float32", 1e15, 1), gpu, assumed, "high")
    assert thrice == pytest.approx(3e15 / (494.7e12 * assumed.attention_utilisation))


def test_needed_memory_is_more_than_the_tensors() -> None:
    assert needed_bytes(10e9, Assumptions(memory_overhead=0.1, context_bytes=1e9)) == pytest.approx(12e9)


@pytest.mark.parametrize("name", ["h100", "H100 80GB", "RTX 4090", "l40s"])
def test_gpus_are_found_by_part_of_their_name(name: str) -> None:
    assert name.split()[0].casefold() in find_gpu(name).name.casefold()


@pytest.mark.parametrize("name", ["80GB", "B200"])
def test_a_name_of_no_or_several_gpus_is_refused(name: str) -> None:
    with pytest.raises(ParamsError, match=f"--gpu: found '{name}'; expected one of"):
        find_gpu(name)


@pytest.mark.parametrize(
    ("name", "gigabytes", "known"),
    [
        ("NVIDIA H100 80GB HBM3", 85.0, "H100 80GB"),
        ("NVIDIA A100-SXM4-40GB", 42.3, "A100 80GB"),
        ("NVIDIA GeForce RTX 4090", 25.3, "RTX 4090 24GB"),
        ("NVIDIA GeForce RTX 3090", 25.3, "RTX 4090 24GB"),
        ("NVIDIA RTX A6000", 51.0, "L40S 48GB"),
        ("NVIDIA H200", 150.1, "H100 80GB"),
    ],
)
def test_a_device_is_known_by_its_name_or_else_by_its_memory(name: str, gigabytes: float, known: str) -> None:
    found = like_known(name, gigabytes * 1e9)
    expected = next(gpu for gpu in GPUS if gpu.name == known)
    assert found.name == f"{name} (taken for {known})"
    assert found.memory_bytes == gigabytes * 1e9
    assert (found.bandwidth, found.usd_per_hour) == (expected.bandwidth, expected.usd_per_hour)


def test_a_machine_without_a_device_has_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert gpu_here() is None


def test_the_gpu_here_is_the_first_device_with_its_own_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    device = SimpleNamespace(name="NVIDIA H100 80GB HBM3", total_memory=84_000_000_000)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: {0: device}[index])
    assert gpu_here() == like_known("NVIDIA H100 80GB HBM3", 84e9)


def test_every_cell_waits_for_what_it_reads(project: Path) -> None:
    cells = {cell.name: cell for cell in schedule.cells_of(load_stages(), load_params(scale="tiny"))}
    assert len(cells) == 13 - 1 + 3 + 9 + 18 + 9
    online = cells["adapt_online@20-1-placebo"]
    assert "train_dpo@20-1" in online.after and "train_dpo@20-0" not in online.after
    assert {f"train_reward_model@{member}" for member in range(3)} <= set(online.after)
    probe = cells["probe_policy@50-2"]
    assert "adapt_online@50-2-proxy" in probe.after and "adapt_online@50-2-placebo" not in probe.after
    assert "derive_beta_grid" in cells["train_dpo@80-2"].after


DIAMOND = [Cell("a", "a", ()), Cell("b", "b", ("a",)), Cell("c", "c", ("a",)), Cell("d", "d", ("b", "c"))]
HOURS = {"a": 1.0, "b": 5.0, "c": 2.0, "d": 1.0}


def test_the_critical_path_is_the_longest_chain() -> None:
    assert [cell.name for cell in schedule.critical_path(DIAMOND, HOURS)] == ["a", "b", "d"]


@pytest.mark.parametrize(("gpus", "expected"), [(1, 9.0), (2, 7.0), (8, 7.0)])
def test_cells_share_gpus(gpus: int, expected: float) -> None:
    assert schedule.makespan(DIAMOND, HOURS, {"a", "b", "c", "d"}, gpus) == expected


def test_cells_without_a_gpu_wait_for_none() -> None:
    assert schedule.makespan(DIAMOND, HOURS, {"b"}, 1) == 7.0


def test_what_the_longest_chain_waits_for_starts_first() -> None:
    cells = [
        Cell("one", "short", ()),
        Cell("two", "short", ()),
        Cell("long", "long", ()),
        Cell("end", "end", ("long",)),
    ]
    hours = {"short": 2.0, "long": 2.0, "end": 3.0}
    assert schedule.makespan(cells, hours, set(hours), 2) == 5.0
    assert schedule.makespan(cells, hours, set(hours), 1) == 9.0

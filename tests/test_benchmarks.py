"""The benchmarks count and compare what they say; the numbers they print are measured elsewhere (make bench)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import arms, dag, growth, grpo, heldout_draws, rows, worlds
from benchmarks.counters import counting, mark_head
from benchmarks.preferences import GROWTH, Laps
from pessimism.data.prompts import EncodedPair
from pessimism.experiment.params import LengthParams
from pessimism.models.compute.logprobs import pad_pairs, response_logps
from pessimism.offline.reference import pair_logps, sequence_logps

KEYS = {"id", "ratio", "low", "high", "target", "met"}


class FakeClock:
    """A clock that stands still but where an arm moves it."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def arm(self, name: str, seconds: float) -> Any:
        def run() -> None:
            self.order.append(name)
            self.now += seconds * (1 + len(self.order))  # a machine that slows down steadily

        return run

    def __call__(self) -> float:
        return self.now


def test_arms_run_in_turn_and_back() -> None:
    clock = FakeClock()
    seconds = arms.interleaved({"A": clock.arm("A", 1), "B": clock.arm("B", 1)}, rounds=2, clock=clock)
    assert clock.order == ["A", "B", "B", "A"] * 2
    assert seconds == {"A": [2, 5, 6, 9], "B": [3, 4, 7, 8]}
    assert sum(seconds["A"]) == sum(seconds["B"])  # what slows the machine down meets both


def test_ratios_and_growth() -> None:
    seconds = {"ours": [1.0, 3.0], "N": [4.0, 6.0]}
    assert arms.ratios(seconds, "ours", "N") == [0.25, 0.5]
    assert arms.speedups(seconds, "ours", "N") == [4.0, 2.0]
    assert arms.growth({1: 5.0, 2: 7.0, 3: 9.0, 6: 15.0}) == pytest.approx(2.0)


def test_the_noise_of_an_area_by_hand() -> None:
    """Each evaluation's noise is that of all and one of its own; their variances are 4 and 1, over 500 problems."""
    random = np.random.default_rng(0)
    gap_T_M_N = 2 * random.normal(size=(1, 60, 500)) + random.normal(size=(3, 60, 500))
    weight_T = heldout_draws.area_weights(np.array([0.0, 6.0, 8.0]))
    assert weight_T.tolist() == [-5.0, 4.0, 1.0]
    found = {plan: 500 * value for plan, value in heldout_draws.variances(gap_T_M_N, weight_T).items()}
    assert found["new draws at every step, own start"] == pytest.approx((25 + 16 + 1) * 5, rel=0.05)
    assert found["new draws at every step, above the placebo's on the same"] == pytest.approx((16 + 1) * 2, rel=0.05)
    assert found["the same draws at all steps"] == pytest.approx(25 + 16 + 1, rel=0.05)
    assert found["new draws at every step, a start without noise"] == pytest.approx((16 + 1) * 5, rel=0.05)


def test_the_reference_is_paid_once() -> None:
    laps = Laps(3.0, {"ours": [1.0] * 6, "T": [2.0] * 6})
    assert laps.ratios("T", 3) == [1.0, 1.0]
    assert laps.ratios("T", 6) == [0.75, 0.75]
    assert laps.slope("ours") == pytest.approx(1.0)
    assert max(GROWTH) == 6


def test_a_row_is_the_median_with_its_extremes() -> None:
    row = rows.ratio_row("X", [0.3, 0.1, 0.2], "<= 0.2")
    assert (row.ratio, row.low, row.high, row.met) == (0.2, 0.1, 0.3, True)
    assert rows.ratio_row("X", [0.3], "<= 0.2").met is False
    assert rows.ratio_row("X", [0.3], None).met is None
    assert rows.meets(3, ">= 3") and not rows.meets(2.9, ">= 3") and not rows.meets(1, "= 0")


def test_only_counters_end_the_suite(tmp_path: Path) -> None:
    slow, off = rows.ratio_row("slow", [2.0], "<= 1"), rows.counter_row("off", 1, "= 0")
    assert rows.broken([slow, off, rows.counter_row("right", 0, "= 0"), rows.counter_row("shown", 5, None)]) == [off]
    rows.write([slow, off], tmp_path / "bench.json")
    assert [set(row) for row in json.loads((tmp_path / "bench.json").read_text())] == [KEYS, KEYS]


def test_the_table_is_what_was_measured() -> None:
    docs = Path(__file__).parent.parent / "docs"
    found = [rows.Row(**row) for row in json.loads((docs / "bench.json").read_text())]
    assert rows.markdown(found) in (docs / "performance.md").read_text()


@pytest.fixture
def model() -> Any:
    made = worlds.random_model(worlds.TINY)
    mark_head(made)
    return made


def test_work_of_one_batch(model: Any) -> None:
    batch = pad_pairs([[5, 6, 7], [5, 6]], [[8, 9], [8]], worlds.PAD, torch.device("cpu"))
    with counting() as work:
        response_logps(model, batch)
    assert (work.policy, work.reference, work.padded, work.real) == (0, 2, 10, 8)
    assert (work.head_rows, work.whole_rows, work.generated_rows) == (3, 0, 0)
    assert work.live_logits == 3 * worlds.TINY.vocabulary
    with counting() as plain:
        model(input_ids=batch.input_ids, attention_mask=(batch.input_ids != worlds.PAD).long())
    assert (plain.head_rows, plain.whole_rows, plain.live_logits) == (10, 10, 10 * worlds.TINY.vocabulary)


def test_a_second_reference_pass_and_padding_are_seen(model: Any) -> None:
    pairs = [EncodedPair([5, 6], [7] * length, [8] * (length + 1)) for length in (2, 4, 16, 32)]
    with counting() as once:
        pair_logps(model, pairs, worlds.PAD, 40, "reference")
    texts = [pair.prompt_ids + response for pair in pairs for response in (pair.chosen_ids, pair.rejected_ids)]
    with counting() as twice:
        for _ in range(2):
            sequence_logps(model, texts, [2] * len(texts), worlds.PAD, 10_000, "both texts by themselves")
    assert (once.reference, twice.reference) == (len(pairs), 2 * 2 * len(pairs))
    assert once.padding <= 1.2 < twice.padding


def test_real_lengths_are_cut_as_the_paper_cuts_them() -> None:
    sequences = [prompt + length for prompt, *responses in worlds.REAL_LENGTHS for length in responses]
    assert max(sequences) == worlds.SEQUENCE and max(row[0] for row in worlds.REAL_LENGTHS) == worlds.PROMPT
    table = worlds.preference_table(70, 8, 64)
    tokens = [len(text.split()) for text in table["chosen"]]
    assert sorted(tokens[:64]) == sorted(max(2, row[1] // 8) - 1 for row in worlds.REAL_LENGTHS)


def test_words_are_tokens_in_both_directions() -> None:
    tokenizer = worlds.word_tokenizer(64)
    assert tokenizer("t3 t63\n\nt9")["input_ids"] == [3, 63, 9]
    assert tokenizer.decode([3, 63, worlds.EOS], skip_special_tokens=True) == "t3 t63"


def test_both_loops_answer_and_score_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpo, "STEPS", 1)
    size = worlds.TINY
    with grpo.world(size, LengthParams(prompt=40, response=8, sequence=48)) as params:
        ours, theirs = grpo.Ours.load(params, size.vocabulary), grpo.Theirs.load(params, size.vocabulary)
        before = adapter(theirs, "default")
        ours.steps()
        theirs.steps()
    assert ours.responses == [len(theirs.texts[0])] == [grpo.RESPONSES]
    assert grpo.RESPONSES < min(ours.tokens[0], theirs.tokens[0]) <= 8 * grpo.RESPONSES
    assert grpo.reward_difference(ours, theirs) == 0
    theirs.rewards[0][3] += 0.5
    assert grpo.reward_difference(ours, theirs) == pytest.approx(0.5)
    assert len(theirs.watch.seconds) == 1

    # TRL's reference is the checkpoint that it starts from, and it trains the other.
    assert all(torch.equal(*pair) for pair in zip(before, adapter(theirs, "ref"), strict=True))
    assert not all(torch.equal(*pair) for pair in zip(before, adapter(theirs, "default"), strict=True))


def adapter(theirs: grpo.Theirs, name: str) -> list[torch.Tensor]:
    weights = theirs.trainer.model.named_parameters()
    return [weight.detach().clone() for path, weight in weights if f".{name}." in path]


def test_a_stub_writes_the_outputs_of_its_cell() -> None:
    with dag.copied_project(seeds=[0, 1], **growth.DESIGN) as environment:
        growth.write_stubs([0, 1])
        dag.run("python", "stages/train_dpo.py", "--label", "p20", "--seed", "1", environment=environment)
        dag.run("python", "stages/derive_beta_grid.py", environment=environment)
        assert json.loads(Path("models/dpo/p20-s1/content.json").read_text())["output"] == "models/dpo/p20-s1"
        assert {"p20", "p50", "s0", "s1"} < set(json.loads(Path("metrics/beta_grid.json").read_text()))


def test_growth_that_is_linear_and_that_is_not() -> None:
    even = [growth.Whole(cells, cells + 17, 2.0 * (cells + 17), 2600 + 35 * cells) for cells in (50, 100, 200)]
    row = {row.id: row for row in growth.growth_rows(even)}
    assert row["B12 seconds per stage, 100 cells"].ratio == 2
    assert row["B12 seconds per stage, 200 cells / 50"].ratio == 1
    assert row["B12 lines of a further cell, second half / first"].met
    steep = [growth.Whole(cells, cells + 17, cells**2, cells**2) for cells in (50, 100, 200)]
    found = {row.id: row.met for row in growth.growth_rows(steep)}
    assert found["B12 seconds per stage, 200 cells / 50"] is False
    assert found["B12 lines of a further cell, second half / first"] is False


@pytest.mark.slow
def test_a_whole_run_of_stubs() -> None:
    whole = growth.run_whole(10)
    assert (whole.cells, whole.lock_lines > 10 * whole.cells) == (10, True)
    assert whole.stages > whole.cells


@pytest.mark.slow
def test_counters_of_the_micro_pipeline() -> None:
    from benchmarks.counted import measure_stages

    assert rows.broken(measure_stages()) == []

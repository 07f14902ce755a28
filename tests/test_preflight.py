"""What a stage and a whole run are refused for, and how soon."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections import namedtuple
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pessimism.checks import preflight, startup
from pessimism.data import embedded_world
from pessimism.data.hashing import content_hash
from pessimism.errors import ParamsError, ResourceError, SourceError
from pessimism.experiment import layout, records
from pessimism.experiment.params import load_params
from pessimism.machine import hub, resources
from pessimism.machine.resources import GIB
from support import import_closure
from support.fake_hub import COMMIT, FakeHub, computing, in_time, serving, use
from support.repository import CHECKOUT, Edit
from support.stage_code import BODIES, STAGES

Usage = namedtuple("Usage", "total used free")
Free = Callable[[float], None]
SCALE = "scales/tiny.yaml"


@pytest.fixture
def free_disk(monkeypatch: pytest.MonkeyPatch) -> Free:
    return lambda gib: monkeypatch.setattr("shutil.disk_usage", lambda _: Usage(100 * GIB, 0, int(gib * GIB)))


@pytest.fixture
def fake(project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub that holds the two models of the project's scale, each of 5,002 bytes."""
    files = {"config.json": b"{}", "model.safetensors": b"w" * 5000}
    with serving(FakeHub({"a/policy": files, "a/reward": files})) as running:
        use(running, tmp_path / "home", monkeypatch)
        for role in ("policy", "reward"):
            for key, value in {"source": "hub", "name": f"a/{role}", "revision": COMMIT}.items():
                edit(SCALE, f"{role}.{key}", value)
        yield running


def record_base(role: str, **changes: Any) -> None:
    """What prepare_base records of the scale's model of ``role``, at the size of Qwen3-14B."""
    model = load_params().scale.model(role)
    identity = {"source": model.source, "name": model.name, "revision": model.revision, "content_sha256": None}
    size = {"parameters": 14_768_307_200, "vocabulary": 151_936, "hidden_size": 5120}
    records.write_json(layout.base_record(role), identity | size | changes)


# What a stage needs


def test_the_models_of_a_stage_are_those_whose_parameters_it_tracks() -> None:
    """Those that it loads, in a precision. A stage that records parameters for cells holds none of their models."""
    for name in (name for name, stage in STAGES.items() if stage.script != "record_inputs"):
        sections = [
            keys for entry in BODIES[name].get("params", []) if isinstance(entry, dict) for keys in entry.values()
        ]
        tracked = {key for keys in sections for key in keys or []}
        loaded = {role for role in ("policy", "reward") if tracked & {role, f"{role}.dtype"}}
        assert loaded == set(startup.HELD.get(STAGES[name].script, ())), name
    assert set(startup.HELD) <= set(STAGES)


def test_startup_reaches_neither_rows_nor_slow_libraries() -> None:
    """It runs first in every stage, and each stage would depend on all that it imports."""
    files = {path.relative_to(import_closure.SOURCE / "pessimism").as_posix() for path in startup_closure()}
    assert not any(file.startswith(("data/", "models/", "commands/")) for file in files)
    assert import_closure.libraries_at_start(Path(startup.__file__)) <= {*sys.stdlib_module_names, "ruamel"}


def startup_closure() -> set[Path]:
    return import_closure.closure(Path(startup.__file__))


def test_bytes_of_weights_by_hand(project: Path, edit: Edit) -> None:
    assert startup.weight_bytes(load_params(), "policy") == 0
    record_base("policy")
    assert startup.weight_bytes(load_params(), "policy") == 4 * 14_768_307_200
    edit(SCALE, "policy.dtype", "bfloat16")
    assert startup.weight_bytes(load_params(), "policy") == 2 * 14_768_307_200
    edit(SCALE, "policy.quantization", "nf4")
    embedding = 151_936 * 5120
    assert startup.weight_bytes(load_params(), "policy") == 2 * embedding + (14_768_307_200 - embedding) // 2
    record_base("policy", name="another")
    assert startup.weight_bytes(load_params(), "policy") == 0


def test_bytes_of_weights_are_no_more_than_real_ones(tiny_world: Any) -> None:
    """The bound must refuse nothing that would have fitted."""
    import dataclasses

    from pessimism.models.loading import load_policy_base

    for dtype, quantization in itertools.product(("float32", "bfloat16", "mixed"), ("none", "nf4")):
        policy = dataclasses.replace(tiny_world.scale.policy, dtype=dtype, quantization=quantization)
        params = dataclasses.replace(tiny_world, scale=dataclasses.replace(tiny_world.scale, policy=policy))
        model = load_policy_base(params)
        config = model.config
        identity = {"parameters": model.num_parameters(), "revision": None}
        identity |= {"content_sha256": content_hash(layout.BASE_WEIGHTS)}
        size = {"vocabulary": config.vocab_size, "hidden_size": config.hidden_size}
        records.write_json(
            layout.base_record("policy"), {"source": policy.source, "name": policy.name, **identity, **size}
        )
        held = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
        assert 0.5 * held < startup.weight_bytes(params, "policy") <= held


# A stage's start


@pytest.mark.parametrize("stage", sorted(startup.HELD))
def test_every_model_stage_of_a_gpu_scale_is_refused_without_one(
    project: Path, edit: Edit, stage: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    startup.check_stage(stage)
    edit(SCALE, "device", "cuda")
    with computing(1.0), pytest.raises(ResourceError, match="found no CUDA device"):
        startup.check_stage(stage)


def test_a_stage_without_models_needs_no_gpu_but_a_disk(project: Path, edit: Edit, free_disk: Free) -> None:
    edit(SCALE, "device", "cuda")
    startup.check_stage("report")
    free_disk(0.5)
    with pytest.raises(ResourceError, match=r"found 0.5 GiB free .* expected at least 1.0 GiB .* for outputs"):
        startup.check_stage("report")


def test_models_that_a_stage_holds_together_must_fit_together(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for role in ("policy", "reward"):
        record_base(role)
    one = 4 * 14_768_307_200
    monkeypatch.setattr(resources, "free_memory", lambda: (one, "here"))
    for stage in ("measure_reference", "train_reward_model", "prepare_base"):
        startup.check_stage(stage)
    with pytest.raises(
        ResourceError,
        match="found 55.0 GiB free here; expected at least 110.0 GiB for the weights of policy and reward",
    ):
        startup.check_stage("adapt_online")
    monkeypatch.setattr(resources, "free_memory", lambda: (one - 1, "here"))
    with pytest.raises(ResourceError, match="for the weights of policy alone"):
        startup.check_stage("train_dpo")
    with pytest.raises(ResourceError, match="expected at least 55.0 GiB"):
        startup.check_stage("prepare_base")


def test_a_stage_asks_the_hub_for_its_own_models_and_for_none_that_is_there(fake: FakeHub, free_disk: Free) -> None:
    startup.check_stage("train_dpo")
    assert [path for path in fake.requests if "/api/" in path] == [f"/api/models/a/policy/revision/{COMMIT}"]
    hub.snapshot("model", "a/policy", COMMIT)
    fake.hangs = True
    with computing(1.0):
        startup.check_stage("train_dpo")


def test_a_stage_whose_model_is_nowhere_is_refused_in_time(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
    fake.hangs = True
    with in_time(), pytest.raises(SourceError, match=f"{SCALE}: reward: .*no answer within 0.5 seconds"):
        startup.check_stage("train_reward_model")


def test_a_stage_takes_the_commit_that_was_recorded(fake: FakeHub, edit: Edit) -> None:
    edit(SCALE, "policy.revision", "main")
    record_base("policy", parameters=10, vocabulary=1, hidden_size=1, revision=COMMIT)
    startup.check_stage("train_dpo")
    assert fake.requests[-1] == f"/api/models/a/policy/revision/{COMMIT}"


def test_a_download_must_fit_beside_the_outputs(fake: FakeHub, free_disk: Free) -> None:
    free_disk(1.0)
    with pytest.raises(ResourceError, match="GiB below .*home/hub for the download of a/policy"):
        startup.check_stage("train_dpo")
    hub.snapshot("model", "a/policy", COMMIT)
    startup.check_stage("train_dpo")


def test_a_refusal_that_needs_no_torch_does_not_wait_for_it(project: Path, edit: Edit) -> None:
    edit(SCALE, "policy.source", "hub")
    code = "from pessimism.checks import stage\nstage.main('train_dpo')(lambda params: None)()\n"
    check = "import atexit, sys\natexit.register(lambda: print('torch' in sys.modules))\n"
    variables = {"HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": "home", "PYTHONPATH": str(CHECKOUT / "src")}
    ended = subprocess.run(
        [sys.executable, "-c", check + code], env=os.environ | variables, capture_output=True, text=True
    )
    assert ended.returncode == 2 and "error: scales/tiny.yaml: policy: could not load" in ended.stderr
    assert ended.stdout == "False\n"


def test_a_start_that_is_refused_nothing_costs_little(tiny_world: Any) -> None:
    startup.check_stage("adapt_online")
    with computing(0.3):
        startup.check_stage("adapt_online")


# A whole run


def test_a_whole_run_is_refused_for_what_its_stages_would_be(
    project: Path, edit: Edit, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    preflight.check(load_params())
    edit(SCALE, "device", "cuda")
    with computing(2.0), pytest.raises(ResourceError, match="found no CUDA device"):
        preflight.check(load_params())
    monkeypatch.setattr(resources, "check_device", lambda _: None)
    monkeypatch.setattr(resources, "free_memory", lambda: (GIB, "here"))
    preflight.check(load_params())
    record_base("reward")
    with pytest.raises(ResourceError, match="55.0 GiB for the weights of reward alone"):
        preflight.check(load_params())


def test_the_downloads_of_a_whole_run_must_fit_together(
    fake: FakeHub, edit: Edit, free_disk: Free, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pessimism.models.support.check_support", lambda *_: None)
    free_disk(1.0 + 5002 / GIB)
    with pytest.raises(ResourceError, match="a/policy; .*a/reward"):
        preflight.check(load_params())
    edit(SCALE, "reward.name", "a/policy")
    preflight.check(load_params())
    free_disk(0.9)
    with pytest.raises(ResourceError, match="expected at least 1.0 GiB"):
        preflight.check(load_params())


def test_a_whole_run_without_a_hub_is_refused_in_time(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
    fake.hangs = True
    with in_time(), pytest.raises(SourceError, match="a hub in reach"):
        preflight.check(load_params())


def test_a_whole_run_is_refused_for_a_model_that_cannot_be_used(project: Path, edit: Edit) -> None:
    (project / "model").mkdir()
    (project / "model" / "config.json").write_text('{"model_type": "resnet"}')
    edit(SCALE, "reward.source", "path")
    edit(SCALE, "reward.name", "model")
    with pytest.raises(SourceError, match="scales/tiny.yaml: reward: could not read the configuration"):
        preflight.check(load_params())


def test_a_whole_run_is_refused_for_too_few_problems(project: Path, edit: Edit, tmp_path: Path) -> None:
    """Found by the first online run, they had cost every checkpoint."""
    for split, first in (("train", 0), ("test", 6)):  # no problem in both, which would be dropped from train
        rows = [{"question": f"{row} + 1?", "answer": f"#### {row + 1}"} for row in range(first, first + 6)]
        (tmp_path / f"gsm8k_{split}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    for key, value in {"kind": "gsm8k", "source": "path", "name": str(tmp_path), "heldout": 2}.items():
        edit(SCALE, f"tasks.{key}", value)
    edit(SCALE, "online.batch_size", 6)
    edit(SCALE, "best_of_n.prompts", 2)
    preflight.check(load_params())
    edit("protocols/paper.yaml", "prompt_split", "train")
    message = r"tasks: found 4 problems in split train; expected 6 or more, the prompts of an online batch"
    with pytest.raises(ParamsError, match=message):
        preflight.check(load_params())


def test_the_least_that_training_the_embedded_base_takes_is_no_more_than_it_takes(
    tiny_world: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound must refuse nothing that would have fitted."""
    from pessimism.models.embedded import make_model, make_tokenizer

    sizes = tiny_world.scale.embedded
    texts = embedded_world.base_corpus(np.random.default_rng(0), 100)
    least = min(sum(map(sys.getsizeof, (text, *text))) for text in texts)
    matrices = sum(weight.numel() for weight in make_model(sizes, make_tokenizer()).parameters() if weight.dim() == 2)
    needed = 4 * 4 * matrices + least * sizes.steps * sizes.batch_size
    monkeypatch.setattr(resources, "free_ram", lambda: needed)
    preflight.check(tiny_world)
    monkeypatch.setattr(resources, "free_ram", lambda: needed // 2)
    with pytest.raises(ResourceError, match=r"^scales/tiny.yaml: embedded: found a model of 16,384 weights or more"):
        preflight.check(tiny_world)


def test_every_missing_local_file_is_told_at_once(project: Path, edit: Edit) -> None:
    for section in ("policy", "reward", "preferences", "tasks"):
        edit(SCALE, f"{section}.source", "path")
        edit(SCALE, f"{section}.name", f"no-{section}")
    edit(SCALE, "tasks.kind", "gsm8k")
    with pytest.raises(SourceError, match="^4 problem") as raised:
        preflight.check(load_params())
    assert all(f"no-{section}" in str(raised.value) for section in ("policy", "reward", "preferences", "tasks"))


def test_a_batch_needs_no_more_problems_than_prompts(project: Path, edit: Edit) -> None:
    """32 responses of GRPO are four to each of 8 prompts."""
    edit("params.yaml", "online.objective", "grpo")
    edit(SCALE, "tasks.test_limit", 8)
    preflight._check_problems(load_params())
    edit(SCALE, "tasks.test_limit", 7)
    with pytest.raises(ParamsError, match="found 7 problems in split test; expected 8 or more, the prompts of an"):
        preflight._check_problems(load_params())


def test_every_key_that_dvc_reads_is_in_every_committed_file_and_one_that_has_a_default_is_missed(
    project: Path, edit: Edit
) -> None:
    for path in sorted(layout.SCALES.glob("*.yaml")):
        preflight._check_keys(load_params(scale=path.stem))
    for key in ("annotator", "warm_start", "tasks.shots"):
        edit(SCALE, key, ...)
    with pytest.raises(ParamsError) as caught:
        preflight._check_keys(load_params())
    named = [f"{SCALE}: {key}" for key in ("annotator", "tasks.shots", "warm_start")]
    assert str(caught.value).startswith(f"{', '.join(named)}: missing; expected every key that dvc.yaml names")

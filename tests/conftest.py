"""What several test files need: the checkout, and a project directory whose parameters a test may spoil."""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from pessimism.checks import stage  # noqa: F401
from pessimism.experiment.params import Params, load_params
from support.repository import CHECKOUT, AddFile, Edit
from support.yaml_edits import set_key

gc.enable()  # which checks.stage has switched off for what the script of a stage imports

# A busy neighbour must turn no test red: examples and their making have no time of their own to keep to.
settings.register_profile("no clock", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("no clock")

TINY_WORLD = {
    "embedded.hidden_size": 32,
    "embedded.intermediate_size": 64,
    "embedded.layers": 2,
    "embedded.attention_heads": 2,
    "embedded.key_value_heads": 1,
    "policy.lora_rank": 4,
    "policy.lora_dropout": 0.0,
    "reward.lora_rank": 4,
    "reward.lora_dropout": 0.0,
    "lengths": {"prompt": 96, "response": 64, "sequence": 160},
    "evaluation_batch_size": 16,
    "dpo.batch_size": 8,
    "dpo.learning_rate": 0.01,
    "reward_training.epochs": 1,
    "reward_training.batch_size": 8,
    "reward_training.learning_rate": 0.01,
}


VISIBLE_GPUS = os.environ.get("CUDA_VISIBLE_DEVICES")

LONGEST = ("test_smoke", "test_extend", "test_slurm", "test_fanout", "test_shrunk_paper", "test_remotes")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that run the pipeline come first, so that no test process is left with one of them at the end."""
    items.sort(key=lambda item: item.path.stem not in LONGEST)


@pytest.fixture(scope="session")
def checkout() -> Path:
    return CHECKOUT


@pytest.fixture(autouse=True)
def own_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """`python` is the one that runs the tests, as where the environment is activated: the launcher is found so."""
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture(autouse=True)
def visible_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    """The GPUs the tests were started with: a stage script run inside this process shows it the first one only."""
    if VISIBLE_GPUS is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", VISIBLE_GPUS)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory with the checkout's parameters and dvc.yaml, as working directory."""
    for name in ("params.yaml", "dvc.yaml", "scales", "protocols"):
        copy = shutil.copytree if (CHECKOUT / name).is_dir() else shutil.copy
        copy(CHECKOUT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def edit(project: Path) -> Edit:
    """Set one key, given by its dotted name, of a YAML file of ``project``; ``...`` removes the key."""

    return lambda name, key, value: set_key(project / name, key, value)


@pytest.fixture
def add_file(tmp_path: Path) -> Iterator[AddFile]:
    """Put a file into a room of the package for one test, as who extends the room would."""
    rooms: dict[str, list[str]] = {}

    def add(room: str, name: str, text: str) -> Path:
        package, folder = importlib.import_module(room), tmp_path / "rooms" / room
        if room not in rooms:
            folder.mkdir(parents=True)
            rooms[room] = list(package.__path__)
            package.__path__ = [*rooms[room], str(folder)]
        (folder / f"{name}.py").write_text(text)
        sys.modules.pop(f"{room}.{name}", None)
        importlib.invalidate_caches()
        return folder / f"{name}.py"

    yield add
    for room, path in rooms.items():
        package = sys.modules[room]
        for file in Path(package.__path__[-1]).glob("*.py"):
            sys.modules.pop(f"{room}.{file.stem}", None)
        package.__path__ = path


@pytest.fixture
def tiny_world(project: Path, edit: Edit) -> Params:
    """Parameters of a project with a random embedded base of two layers and 64 pairs, ready for every training stage.

    Dropout is off and every formula that a test does not ask for is replaced by a small number.
    """
    import pandas as pd

    from pessimism.data import embedded_world
    from pessimism.data.hashing import content_hash
    from pessimism.experiment import layout, records, rng
    from pessimism.models.embedded import make_model, make_tokenizer

    for key, value in TINY_WORLD.items():
        edit("scales/tiny.yaml", key, value)
    params = load_params()
    assert params.scale.embedded is not None
    tokenizer = make_tokenizer()
    rng.seed_torch(0, "tiny-world")
    base = make_model(params.scale.embedded, tokenizer)
    base.save_pretrained(layout.BASE_WEIGHTS)
    tokenizer.save_pretrained(layout.BASE_WEIGHTS)
    for role in ("policy", "reward"):
        chosen = params.scale.model(role)
        identity = {"source": chosen.source, "name": chosen.name, "revision": None, "parameters": 20_000}
        identity |= {"content_sha256": content_hash(layout.BASE_WEIGHTS)}
        size = {"vocabulary": base.config.vocab_size, "hidden_size": base.config.hidden_size}
        records.write_json(layout.base_record(role), identity | size)
    pairs = pd.DataFrame(embedded_world.preference_rows(rng.generator(0, "tiny-world"), 64))
    pairs.insert(0, "pair_id", [f"pair-{row}" for row in range(len(pairs))])
    records.write_table(layout.preferences("train"), pairs[:48])
    records.write_table(layout.preferences("val"), pairs[48:])
    return params


@pytest.fixture
def referenced_world(tiny_world: Params) -> Params:
    """The tiny world with the log-probabilities of its pairs under the base."""
    from support.pair_training import write_reference

    write_reference(tiny_world)
    return tiny_world


@pytest.fixture
def trained_world(tiny_world: Params) -> Params:
    """The tiny world with a random DPO adapter and random reward members."""
    from support.online_world import write_random_models

    write_random_models(tiny_world)
    return tiny_world


@pytest.fixture
def more_objectives(monkeypatch: pytest.MonkeyPatch) -> None:
    """Further objectives, among them ``likelihood``, which has no strength."""
    from pessimism.offline import objectives

    monkeypatch.setattr(objectives, "__path__", [*objectives.__path__, str(CHECKOUT / "tests/support/objectives")])

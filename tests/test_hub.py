"""A hub that answers, hangs or refuses, and what needs none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from pessimism.errors import SourceError
from pessimism.experiment import layout, records
from pessimism.machine import hub
from support.fake_hub import COMMIT, MINUTE, FakeHub, in_time, serving, use
from support.repository import CHECKOUT, Edit

MODEL = {
    "config.json": b'{"hidden_size": 8}',
    "model.safetensors": b"w" * 5000,
    "tokenizer.json": b"{}",
    "pytorch_model.bin": b"p" * 7000,
    "original/params.json": b"{}",
    "README.md": b"# Model",
}
QUESTIONS = "".join(json.dumps({"question": f"{i} + 1?", "answer": f"#### {i + 1}"}) + "\n" for i in range(3)).encode()
CARD = b"""---
configs:
- config_name: main
  data_files:
  - {split: train, path: main/train-*}
  - {split: test, path: main/test-*}
- config_name: socratic
  data_files:
  - {split: train, path: socratic/train-*}
---
"""
DATASET = {"README.md": CARD, "main/train-0.jsonl": QUESTIONS, "main/test-0.jsonl": QUESTIONS[:50].split(b"\n")[0]}
DATASET["socratic/train-0.jsonl"] = b'{"question": "why?", "answer": "#### 0"}'

READ_ROWS = f"""
from pessimism.data.sources import hub_rows
rows = hub_rows("a/sums", "main", "train", "{COMMIT}")
print([row["question"] for row in rows])
"""


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[FakeHub]:
    """A hub with one model and one data set, for this process and, by :func:`elsewhere`, for others."""
    with serving(FakeHub({"a/model": MODEL, "datasets/a/sums": DATASET})) as running:
        use(running, tmp_path / "home", monkeypatch)
        yield running


def elsewhere(code: str, endpoint: str, home: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run ``code`` in a process of its own, with its Hugging Face cache in ``home``."""
    variables |= {"HF_ENDPOINT": endpoint, "HF_HOME": str(home), "PYTHONPATH": str(CHECKOUT / "src")}
    return subprocess.run(
        [sys.executable, "-c", code], env=os.environ | variables, capture_output=True, text=True, timeout=120
    )


def refusal(name: str = "a/model", revision: str | None = COMMIT) -> str:
    with pytest.raises(SourceError) as raised:
        hub.find("model", name, revision)
    return str(raised.value)


def test_a_branch_becomes_a_commit_and_the_missing_bytes_are_what_transformers_reads(fake: FakeHub) -> None:
    wanted = len(MODEL["config.json"]) + len(MODEL["model.safetensors"]) + len(MODEL["tokenizer.json"])
    for revision in (None, "main", COMMIT):
        assert hub.find("model", "a/model", revision) == hub.HubFiles(COMMIT, wanted)
    assert hub.hub_revision("dataset", "a/sums", "main") == COMMIT


def test_a_downloaded_commit_needs_no_hub(fake: FakeHub) -> None:
    path = hub.snapshot("model", "a/model", COMMIT)
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    fake.hangs = True
    asked = len(fake.requests)
    assert hub.find("model", "a/model", COMMIT) == hub.HubFiles(COMMIT, 0)
    assert hub.snapshot("model", "a/model", COMMIT) == path
    assert len(fake.requests) == asked


def test_a_commit_that_lacks_a_file_is_asked_for_and_completed(fake: FakeHub) -> None:
    path = hub.snapshot("model", "a/model", COMMIT)
    (path / "model.safetensors").unlink()
    assert hub.cached_snapshot("model", "a/model", COMMIT) is None
    assert hub.find("model", "a/model", COMMIT).missing_bytes == len(MODEL["model.safetensors"])
    assert (hub.snapshot("model", "a/model", COMMIT) / "model.safetensors").is_file()


def test_files_fetched_one_by_one_do_not_count_as_a_whole_commit(fake: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("a/model", "config.json", revision=COMMIT)
    assert hub.cached_snapshot("model", "a/model", COMMIT) is None
    assert hub.find("model", "a/model", COMMIT).missing_bytes == 5002


def test_a_branch_is_asked_for_even_where_its_commit_is_at_hand(fake: FakeHub) -> None:
    hub.snapshot("model", "a/model", COMMIT)
    assert hub.cached_snapshot("model", "a/model", "main") is None


def test_a_hub_that_hangs_is_reported_in_time(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HUB_SECONDS", 1.0)
    fake.hangs = True
    with in_time():
        text = refusal()
    assert f"expected a hub in reach ({fake.endpoint})" in text


def test_a_name_server_that_hangs_is_reported_in_time(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time-out of a client covers the look-up of a name."""
    import socket
    import threading

    over = threading.Event()
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(2 * MINUTE) and [])
    with in_time():
        assert "TimeoutError: no answer within" in refusal()
    over.set()


def test_the_client_that_gives_up_first_is_told_as_the_wait_that_ends(
    fake: FakeHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both wait equally long: on a busy machine either may come first, here the client."""

    def give_up(*_: object, **__: object) -> None:
        time.sleep(0.02)
        raise RuntimeError("ReadTimeout")

    monkeypatch.setattr(hub, "HUB_SECONDS", 0.01)
    monkeypatch.setattr("huggingface_hub.HfApi.model_info", give_up)
    monkeypatch.setattr(hub.threading.Thread, "start", hub.threading.Thread.run)
    assert "(TimeoutError: no answer within 0.01 seconds); expected a hub in reach" in refusal()


def test_a_hub_that_refuses_the_connection_is_reported_at_once(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with in_time():
        assert "Connection refused" in refusal()


def test_each_refusal_of_the_hub_says_what_to_change(fake: FakeHub) -> None:
    with in_time():
        assert "correct `name`, or log in" in refusal("a/missing")
        assert "change `revision`" in refusal(revision="0" * 40)
        fake.gated.add("a/model")
        assert f"ask for it at {fake.endpoint}/a/model and log in with `hf auth login`" in refusal()
        fake.files["a/pickled"] = {"config.json": b"{}", "pytorch_model.bin": b"p"}
        assert "expected weights in *.safetensors" in refusal("a/pickled")


def test_rows_are_read_from_the_commit_and_later_without_a_hub(fake: FakeHub, tmp_path: Path) -> None:
    home = tmp_path / "home"
    first = elsewhere(READ_ROWS, fake.endpoint, home)
    assert first.stdout.strip() == "['0 + 1?', '1 + 1?', '2 + 1?']", first.stderr
    asked = len(fake.requests)
    for variables in ({"HF_HUB_OFFLINE": "1"}, {}):
        again = elsewhere(READ_ROWS, "http://127.0.0.1:9", home, **variables)
        assert again.stdout == first.stdout, again.stderr
    assert len(fake.requests) == asked


def test_rows_that_were_converted_at_another_commit_are_not_taken(fake: FakeHub, tmp_path: Path) -> None:
    """What ``load_dataset`` does by name where the hub is out of reach."""
    home = tmp_path / "home"
    assert elsewhere(READ_ROWS, fake.endpoint, home).returncode == 0
    other = elsewhere(READ_ROWS.replace(COMMIT, "f" * 40), fake.endpoint, home, HF_HUB_OFFLINE="1")
    assert other.returncode != 0
    assert re.search(r"hf download a/sums --repo-type dataset --revision f{40}", other.stderr)


def test_offline_without_the_files_says_what_to_download(fake: FakeHub, tmp_path: Path) -> None:
    code = f"from pessimism.machine.hub import hub_revision\nhub_revision('model', 'a/model', '{COMMIT}')"
    ended = elsewhere(code, fake.endpoint, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert f"hf download a/model --revision {COMMIT}" in ended.stderr and fake.requests == []


def test_what_the_guide_says_to_download_is_all_that_is_needed(fake: FakeHub, tmp_path: Path) -> None:
    variables = {"HF_ENDPOINT": fake.endpoint, "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1"}
    for arguments in (["a/model"], ["a/sums", "--repo-type", "dataset"]):
        command = [str(Path(sys.executable).with_name("hf")), "download", *arguments, "--revision", COMMIT]
        subprocess.run(command, env=os.environ | variables, check=True, capture_output=True, timeout=120)
    assert hub.cached_snapshot("model", "a/model", COMMIT)
    rows = elsewhere(READ_ROWS, "http://127.0.0.1:9", tmp_path / "home", HF_HUB_OFFLINE="1")
    assert rows.stdout.startswith("['0 + 1?'"), rows.stderr


LOAD = """
from pessimism.models.loading import load_policy_base, load_reward_base, load_tokenizer
from pessimism.models.support import check_support
from pessimism.experiment.params import load_params
params = load_params()
for role, load in (("policy", load_policy_base), ("reward", load_reward_base)):
    check_support(params, role)
    print(type(load(params)).__name__, len(load_tokenizer(params, role)))
"""


def test_a_model_of_the_hub_loads_where_no_hub_answers(
    fake: FakeHub, tiny_world: Any, edit: Edit, tmp_path: Path
) -> None:
    """By name it loads too, after minutes of asking for files that it does not have."""
    fake.files["a/base"] = {file.name: file.read_bytes() for file in layout.BASE_WEIGHTS.iterdir()}
    for role in ("policy", "reward"):
        for key, value in {"source": "hub", "name": "a/base", "revision": COMMIT}.items():
            edit("scales/tiny.yaml", f"{role}.{key}", value)
        identity = {"source": "hub", "name": "a/base", "requested_revision": COMMIT, "revision": COMMIT}
        records.write_json(layout.base_record(role), identity)
    hub.snapshot("model", "a/base", COMMIT)
    fake.hangs = True
    asked = len(fake.requests)
    loaded = elsewhere(LOAD, fake.endpoint, tmp_path / "home")
    assert [line.split()[0] for line in loaded.stdout.splitlines()] == [
        "Qwen3ForCausalLM",
        "Qwen3ForSequenceClassification",
    ], loaded.stderr
    assert len(fake.requests) == asked


def test_the_guide_downloads_what_the_paper_scale_pins() -> None:
    guide = (CHECKOUT / "docs/paper-scale.md").read_text()
    scale = yaml.safe_load((CHECKOUT / "scales/paper.yaml").read_text())
    for section, flag in {"policy": "", "reward": "", "preferences": "dataset", "tasks": "dataset"}.items():
        source, kind = scale[section], f" --repo-type {flag}" if flag else ""
        assert f"\nhf download {source['name']}{kind} --revision {source['revision']}\n" in guide

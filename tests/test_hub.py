"""A hub that answers, hangs or refuses, and what needs none."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import CHECKOUT
from fake_hub import COMMIT, FakeHub, serving, stopwatch, use
from pessimism import hub
from pessimism.errors import SourceError
from pessimism.hub import Section

POLICY = Section("scales/paper.yaml", "policy")
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
from pessimism.data.sources import Section, hub_rows
rows = hub_rows("a/sums", "main", "train", "{COMMIT}", Section("scales/paper.yaml", "tasks"))
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
        hub.find("model", name, revision, POLICY)
    return str(raised.value)


def test_a_branch_becomes_a_commit_and_the_missing_bytes_are_what_transformers_reads(fake: FakeHub) -> None:
    wanted = len(MODEL["config.json"]) + len(MODEL["model.safetensors"]) + len(MODEL["tokenizer.json"])
    for revision in (None, "main", COMMIT):
        assert hub.find("model", "a/model", revision, POLICY) == hub.HubFiles(COMMIT, wanted)
    assert hub.hub_revision("dataset", "a/sums", "main", Section("scales/paper.yaml", "tasks")) == COMMIT


def test_a_downloaded_commit_needs_no_hub(fake: FakeHub) -> None:
    path = hub.snapshot("model", "a/model", COMMIT, POLICY)
    assert sorted(file.name for file in path.iterdir()) == ["config.json", "model.safetensors", "tokenizer.json"]
    fake.hangs = True
    asked = len(fake.requests)
    with stopwatch(1.0):
        assert hub.find("model", "a/model", COMMIT, POLICY) == hub.HubFiles(COMMIT, 0)
        assert hub.snapshot("model", "a/model", COMMIT, POLICY) == path
    assert len(fake.requests) == asked


def test_a_commit_that_lacks_a_file_is_asked_for_and_completed(fake: FakeHub) -> None:
    path = hub.snapshot("model", "a/model", COMMIT, POLICY)
    (path / "model.safetensors").unlink()
    assert hub.cached_snapshot("model", "a/model", COMMIT) is None
    assert hub.find("model", "a/model", COMMIT, POLICY).missing_bytes == len(MODEL["model.safetensors"])
    assert (hub.snapshot("model", "a/model", COMMIT, POLICY) / "model.safetensors").is_file()


def test_files_fetched_one_by_one_do_not_count_as_a_whole_commit(fake: FakeHub) -> None:
    from huggingface_hub import hf_hub_download

    hf_hub_download("a/model", "config.json", revision=COMMIT)
    assert hub.cached_snapshot("model", "a/model", COMMIT) is None
    assert hub.find("model", "a/model", COMMIT, POLICY).missing_bytes == 5002


def test_a_branch_is_asked_for_even_where_its_commit_is_at_hand(fake: FakeHub) -> None:
    hub.snapshot("model", "a/model", COMMIT, POLICY)
    assert hub.cached_snapshot("model", "a/model", "main") is None


def test_a_hub_that_hangs_is_reported_in_time(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hub, "HUB_SECONDS", 1.0)
    fake.hangs = True
    with stopwatch(3.0):
        text = refusal()
    assert f"Expected a hub in reach ({fake.endpoint})" in text and "policy.source=path" in text


def test_a_name_server_that_hangs_is_reported_in_time(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No time-out of a client covers the look-up of a name."""
    import socket
    import threading

    over = threading.Event()
    monkeypatch.setattr(hub, "HUB_SECONDS", 0.5)
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: over.wait(20) and [])
    with stopwatch(2.0):
        assert "TimeoutError: no answer within" in refusal()
    over.set()


def test_a_hub_that_refuses_the_connection_is_reported_at_once(fake: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with stopwatch(3.0):
        assert "Connection refused" in refusal()


def test_each_refusal_of_the_hub_says_what_to_change(fake: FakeHub) -> None:
    with stopwatch(5.0):
        assert "correct policy.name in scales/paper.yaml, or log in" in refusal("a/missing")
        assert "change policy.revision in scales/paper.yaml" in refusal(revision="0" * 40)
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
        with stopwatch(30.0):
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
    code = READ_ROWS.replace("hub_rows", "hub_revision").replace('"a/sums", "main", "train"', '"model", "a/model"')
    code = code.partition("print")[0]
    with stopwatch(20.0):
        ended = elsewhere(code, fake.endpoint, tmp_path / "home", HF_HUB_OFFLINE="1")
    assert f"hf download a/model --revision {COMMIT}" in ended.stderr and fake.requests == []

"""Errors of sources begin with the section of the scale file that they are about, and keep all else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pessimism.data.preferences import UnusableRowError
from pessimism.errors import DataError, HubError, PessimismError, SourceError
from pessimism.experiment.params import load_params
from pessimism.experiment.sections import LOCAL_COPIES, section
from pessimism.machine import hub

SOURCES = ("policy", "reward", "preferences", "tasks")


@contextmanager
def message(kind: type[PessimismError], name: str = "tasks") -> Iterator[list[str]]:
    """The text with which an error leaves the section."""
    texts: list[str] = []
    with pytest.raises(kind) as raised, section(load_params(scale="laptop"), name):
        yield texts
    texts.append(str(raised.value))


@pytest.mark.parametrize("kind", [SourceError, DataError, PessimismError])
def test_an_error_begins_with_file_and_section(project: Path, kind: type[PessimismError]) -> None:
    with message(kind) as texts:
        raise kind("found no rows")
    assert texts == ["scales/laptop.yaml: tasks: found no rows"]


def test_one_loader_in_another_says_it_once(project: Path) -> None:
    with message(SourceError) as texts, section(load_params(scale="laptop"), "tasks"):
        raise SourceError("found no rows")
    assert texts == ["scales/laptop.yaml: tasks: found no rows"]


def test_what_else_an_error_carries_stays_with_it(project: Path) -> None:
    with pytest.raises(UnusableRowError) as raised, section(load_params(), "preferences"):
        raise UnusableRowError("empty prompt", "row 3: found an empty prompt")
    assert raised.value.reason == "empty prompt"


def test_a_bug_keeps_its_own_words(project: Path) -> None:
    with pytest.raises(ZeroDivisionError, match="^division by zero$"), section(load_params(), "policy"):
        1 / 0  # noqa: B018


@pytest.mark.parametrize("name", SOURCES)
def test_a_hub_out_of_reach_names_the_flags_for_a_local_copy(
    project: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    def fail(*_: object, **options: object) -> None:
        assert options["timeout"] == hub.HUB_SECONDS
        raise ConnectionError("Name or service not known")

    monkeypatch.setattr("huggingface_hub.HfApi.dataset_info", fail)
    with message(HubError, name) as texts:
        hub.find("dataset", "a/b", "v1")
    (text,) = texts
    assert text.startswith(
        f"scales/laptop.yaml: {name}: could not load the dataset 'a/b' at revision 'v1' from the hub"
    )
    key = f"scales/laptop.yaml:{name}"
    assert text.endswith(f"`dvc exp run -S '{key}.source=path' -S '{key}.name=<{LOCAL_COPIES[name]}>'`")
    assert "Name or service not known" in text


def test_a_loader_says_where_its_source_is_named(project: Path) -> None:
    """Everything of the scale that may lie elsewhere has a section, and an answer to a hub that does not."""
    scale = load_params().scale
    assert (
        {name for name in vars(scale) if hasattr(getattr(scale, name), "source")} == set(SOURCES) == set(LOCAL_COPIES)
    )

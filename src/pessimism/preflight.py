"""Everything that can be refused before a run: parameters, and the local files that they name.

DVC deletes a stage's outputs before it runs the stage. What is refused here, by the first stage or before DVC, costs
nothing; what is refused later has cost the outputs of the stage that refuses. Nor does DVC watch files outside the
project: local rows and models are compared here with what prepare_data and prepare_base recorded of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pessimism import layout, records
from pessimism.data.gsm8k import load_tasks
from pessimism.data.hashing import content_hash, ways_out
from pessimism.data.preferences import load_preferences
from pessimism.data.sources import Section, hub_revision
from pessimism.errors import SourceError
from pessimism.params import ModelParams, Params, load_params


def check() -> Params:
    """Validate the parameters, then read the local rows and find the hub repositories that they name.

    Raises:
        ParamsError: a parameter is not usable.
        SourceError: a local file or directory is missing or is not what was recorded of it, or the hub is out of
            reach or lacks a repository.
        DataError: a row of a local file is not usable.
    """
    params = load_params()
    scale, file = params.scale, str(layout.scale_file(params.scale_name))
    for role in ("policy", "reward"):
        _check_model(scale.model(role), Section(file, role))
        _check_model_unchanged(scale.model(role), Section(file, role))
    preferences, tasks = Section(file, "preferences"), Section(file, "tasks")
    if scale.preferences.source == "hub":
        hub_revision("dataset", scale.preferences.name, scale.preferences.revision, preferences)
    else:
        _check_rows_unchanged(load_preferences(scale.preferences, params.root_seed, file).record, preferences)
    if scale.tasks.source == "hub":
        hub_revision("dataset", scale.tasks.name, scale.tasks.revision, tasks)
    else:
        _check_rows_unchanged(load_tasks(scale.tasks, params.root_seed, file).record, tasks)
    return params


def _check_model(model: ModelParams, section: Section) -> None:
    if model.source == "hub":
        hub_revision("model", model.name, model.revision, section)
    if model.source != "path":
        return
    config = Path(model.name) / "config.json"
    if not config.is_file():
        raise SourceError(
            f"{section}.name: found no {config.absolute()}; expected {model.name!r} to be the directory of a Hugging "
            f"Face model: change {section}.name, or {section}.source to hub"
        )


def _check_model_unchanged(model: ModelParams, section: Section) -> None:
    """Compare a model directory with what prepare_base recorded of it, if that is the last it recorded.

    A record without a description was left by a prepare_base that failed: its files were never used.
    """
    path = layout.base_record(section.name)
    if model.source != "path" or not path.is_file():
        return
    recorded = records.read_json(path)
    if (recorded["source"], recorded["name"]) != (model.source, model.name) or "architecture" not in recorded:
        return
    found, expected = content_hash(Path(model.name)), recorded["content_sha256"]
    if found != expected:
        raise SourceError(
            f"{section}.name: found content {found} in {model.name}; expected {expected}, which {path} records: "
            f"{ways_out('prepare_base', layout.BASE)}"
        )


def _check_rows_unchanged(found: Mapping[str, Any], section: Section) -> None:
    """Compare what was read of local files with what prepare_data recorded of them, if that is the last it recorded.

    Args:
        found: the record of the rows that were read now.
    """
    if found["source"] != "path" or not layout.DATA_RECORD.is_file():
        return
    recorded = records.read_json(layout.DATA_RECORD)[section.name]
    if (recorded["source"], recorded["name"]) != (found["source"], found["name"]):
        return
    changed = [key for key in found if key.startswith("sha256") and found[key] != recorded[key]]
    if changed:
        raise SourceError(
            f"{section}.name: found rows in {found['name']} that differ from those that {layout.DATA_RECORD} records "
            f"({', '.join(changed)}); expected the same: {ways_out('prepare_data', layout.DATA_RECORD)}"
        )

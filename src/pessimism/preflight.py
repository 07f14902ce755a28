"""Everything that can be refused before a run: parameters, and the local files that they name.

DVC deletes a stage's outputs before it runs the stage. What is refused here, by the first stage or before DVC, costs
nothing; what is refused later has cost the outputs of the stage that refuses.
"""

from __future__ import annotations

from pathlib import Path

from pessimism import layout
from pessimism.data.gsm8k import load_tasks
from pessimism.data.preferences import load_preferences
from pessimism.data.sources import Section, hub_revision
from pessimism.errors import SourceError
from pessimism.params import ModelParams, Params, load_params


def check() -> Params:
    """Validate the parameters, then read the local rows and find the hub repositories that they name.

    Raises:
        ParamsError: a parameter is not usable.
        SourceError: a local file or directory is missing, or the hub is out of reach or lacks a repository.
        DataError: a row of a local file is not usable.
    """
    params = load_params()
    scale, file = params.scale, str(layout.scale_file(params.scale_name))
    for role in ("policy", "reward"):
        _check_model(scale.model(role), Section(file, role))
    if scale.preferences.source == "hub":
        hub_revision("dataset", scale.preferences.name, scale.preferences.revision, Section(file, "preferences"))
    else:
        load_preferences(scale.preferences, params.root_seed, file)
    if scale.tasks.source == "hub":
        hub_revision("dataset", scale.tasks.name, scale.tasks.revision, Section(file, "tasks"))
    else:
        load_tasks(scale.tasks, params.root_seed, file)
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

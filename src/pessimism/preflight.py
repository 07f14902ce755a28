"""Everything that can be refused before a run: parameters, and the local files that they name.

DVC deletes a stage's outputs before it runs the stage. What is refused here, by the first stage or before DVC, costs
nothing; what is refused later has cost the outputs of the stage that refuses.
"""

from __future__ import annotations

from pathlib import Path

from pessimism import layout
from pessimism.data.gsm8k import load_tasks
from pessimism.data.preferences import load_preferences
from pessimism.errors import SourceError
from pessimism.params import ModelParams, Params, load_params


def check() -> Params:
    """Validate the parameters, then read the rows that they name. A hub is not asked.

    Raises:
        ParamsError: a parameter is not usable.
        SourceError: a local file or directory is missing.
        DataError: a row of a local file is not usable.
    """
    params = load_params()
    scale, file = params.scale, str(layout.scale_file(params.scale_name))
    for role in ("policy", "reward"):
        _check_model(scale.model(role), f"{file}: {role}")
    if scale.preferences.source != "hub":
        load_preferences(scale.preferences, params.root_seed, file)
    if scale.tasks.source != "hub":
        load_tasks(scale.tasks, params.root_seed, file)
    return params


def _check_model(model: ModelParams, section: str) -> None:
    if model.source != "path":
        return
    config = Path(model.name) / "config.json"
    if not config.is_file():
        raise SourceError(
            f"{section}.name: found no {config.absolute()}; expected {model.name!r} to be the directory of a Hugging "
            f"Face model: change {section}.name, or {section}.source to hub"
        )

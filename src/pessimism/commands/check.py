"""What `make reproduce` checks before DVC starts."""

from __future__ import annotations

from pathlib import Path

from pessimism import layout, preflight, records
from pessimism.data.gsm8k import load_tasks
from pessimism.data.hashing import content_hash
from pessimism.data.preferences import load_preferences
from pessimism.errors import SourceError
from pessimism.params import Params, PreferenceParams


def check() -> str:
    """Check parameters and sources; return one line that says what would be run.

    Raises:
        PessimismError: something is not usable.
    """
    params = preflight.check()
    for role in ("policy", "reward"):
        _check_model_unchanged(params, role)
    _check_rows_unchanged(params)
    return (
        f"parameters are usable: scale {params.scale_name}, protocol {params.protocol_name}, "
        f"{len(params.beta_percentiles)} betas x {len(params.seeds)} seeds x {len(params.arms)} arms, "
        f"{len(params.ensemble_members)} reward models, aggregation {params.aggregation}"
    )


def _check_model_unchanged(params: Params, role: str) -> None:
    """Compare a model directory with what prepare_base recorded of it: DVC does not watch files outside the project.

    Raises:
        SourceError: it changed.
    """
    model, path = params.scale.model(role), layout.base_record(role)
    if model.source != "path" or not path.is_file():
        return
    record = records.read_json(path)
    if (record["source"], record["name"]) != (model.source, model.name):
        return
    found = content_hash(Path(model.name))
    if found != record["content_sha256"]:
        raise SourceError(
            f"{layout.scale_file(params.scale_name)}: {role}.name: found content {found} in {model.name}; expected "
            f"{record['content_sha256']}, which {path} records: put the old files back, or run "
            "`dvc repro --force prepare_base` to accept the new ones (everything trained on them runs again)"
        )


def _check_rows_unchanged(params: Params) -> None:
    """Compare the rows of local files with those that prepare_data recorded.

    Raises:
        SourceError: they changed.
    """
    if not layout.DATA_RECORD.is_file():
        return
    recorded, file = records.read_json(layout.DATA_RECORD), str(layout.scale_file(params.scale_name))
    scale = params.scale
    for section, chosen in (("preferences", scale.preferences), ("tasks", scale.tasks)):
        before = recorded[section]
        if chosen.source != "path" or (before["source"], before["name"]) != (chosen.source, chosen.name):
            continue
        if isinstance(chosen, PreferenceParams):
            now = load_preferences(chosen, params.root_seed, file).record
        else:
            now = load_tasks(chosen, params.root_seed, file).record
        changed = [key for key in now if key.startswith("sha256") and now[key] != before[key]]
        if changed:
            raise SourceError(
                f"{file}: {section}.name: found rows in {chosen.name} that differ from those that {layout.DATA_RECORD} "
                f"records ({', '.join(changed)}); expected the same: put the old files back, or run "
                "`dvc repro --force prepare_data` to accept the new ones (everything made from them runs again)"
            )

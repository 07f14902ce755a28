"""What `make reproduce` checks before DVC starts."""

from __future__ import annotations

from pathlib import Path

from pessimism import layout, preflight, records
from pessimism.data.sources import content_hash
from pessimism.errors import SourceError
from pessimism.params import Params


def check() -> str:
    """Check parameters and sources; return one line that says what would be run.

    Raises:
        PessimismError: something is not usable.
    """
    params = preflight.check()
    for role in ("policy", "reward"):
        _check_unchanged(params, role)
    return (
        f"parameters are usable: scale {params.scale_name}, protocol {params.protocol_name}, "
        f"{len(params.beta_percentiles)} betas x {len(params.seeds)} seeds x {len(params.arms)} arms, "
        f"{len(params.ensemble_members)} reward models, aggregation {params.aggregation}"
    )


def _check_unchanged(params: Params, role: str) -> None:
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

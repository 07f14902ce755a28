"""What a stage needs before it starts. It runs first in every stage, so it imports nothing that takes long.

DVC has deleted the outputs of a stage by then, but not yet spent hours on it.
"""

from __future__ import annotations

from pathlib import Path

from pessimism.experiment import layout, records
from pessimism.experiment.params import ModelParams, Params, load_params
from pessimism.experiment.sections import section
from pessimism.machine import hub, resources
from pessimism.machine.resources import GIB, DiskNeed

FREE_FOR_OUTPUTS = GIB
EMBEDDING_BYTES = {"float32": 4.0, "bfloat16": 2.0, "mixed": 4.0}
BLOCK_BYTES = {"float32": 4.0, "bfloat16": 2.0, "mixed": 2.0}
NF4_BYTES = 0.5

# The models that each stage holds, together except in prepare_base, which loads one after the other.
HELD: dict[str, tuple[str, ...]] = {
    "prepare_base": ("policy", "reward"),
    "sample_pairs": ("policy",),
    "measure_reference": ("policy",),
    "train_reward_model": ("reward",),
    "assess_ensemble": ("reward",),
    "measure_base": ("policy", "reward"),
    "train_dpo": ("policy",),
    "adapt_online": ("policy", "reward"),
    "probe_policy": ("policy", "reward"),
    "select_best_of_n": ("policy", "reward"),
}


def check_stage(stage: str) -> None:
    """Check disk, device, memory and the models of ``stage``; one that holds no model needs a disk only.

    Raises:
        ResourceError: this machine lacks something.
        SourceError: a model is neither on this machine nor at a hub in reach.
        ParamsError: the parameters are not usable.
    """
    params = load_params()
    roles = HELD.get(stage, ())
    resources.check_disk([outputs_need()])
    if not roles:
        return
    resources.check_device(params.scale.device)
    check_weights_fit(params, stage)
    resources.check_disk([outputs_need(), *download_needs(params, roles)])


def check_weights_fit(params: Params, stage: str) -> None:
    """Check that the weights that ``stage`` holds at once fit the memory that is free now.

    Raises:
        ResourceError: they do not.
    """
    sizes = {role: weight_bytes(params, role) for role in HELD[stage]}
    needed = max(sizes.values()) if stage == "prepare_base" else sum(sizes.values())
    if needed:
        resources.check_memory(needed, f"the weights of {' and '.join(role for role in sizes if sizes[role])}")


def weight_bytes(params: Params, role: str) -> int:
    """The least that the weights of ``role`` take, in bytes; 0 while prepare_base has not recorded their number.

    Four-bit layers count half a byte per weight and nothing for their scales; of what stays unquantised, the embedding
    alone counts.
    """
    model, path = params.scale.model(role), layout.base_record(role)
    record = records.read_json(path) if path.is_file() else {}
    if (record.get("source"), record.get("name")) != (model.source, model.name) or "parameters" not in record:
        return 0
    embedding = record["vocabulary"] * record["hidden_size"]
    per_weight = NF4_BYTES if model.quantization == "nf4" else BLOCK_BYTES[model.dtype]
    return int(embedding * EMBEDDING_BYTES[model.dtype] + (record["parameters"] - embedding) * per_weight)


def download_needs(params: Params, roles: tuple[str, ...]) -> list[DiskNeed]:
    """What the hub models of ``roles`` still take of the disk; each repository counts once.

    Raises:
        HubError: a model is neither in the local cache nor at a hub in reach.
    """
    repositories = {_repository(params.scale.model(role), role): role for role in roles}
    needs = []
    for (source, name, revision), role in repositories.items():
        if source == "hub":
            with section(params, role):
                needs.append(download_need(name, hub.find("model", name, revision)))
    return needs


def download_need(name: str, files: hub.HubFiles) -> DiskNeed:
    return DiskNeed(hub.cache_directory(), files.missing_bytes, f"the download of {name}")


def outputs_need() -> DiskNeed:
    """The margin that every stage wants below the project for what it writes."""
    return DiskNeed(Path(), FREE_FOR_OUTPUTS, "outputs")


def _repository(model: ModelParams, role: str) -> tuple[str, str, str | None]:
    """Source, name and revision: what prepare_base resolved the revision to, if that is what it recorded of."""
    path = layout.base_record(role)
    record = records.read_json(path) if path.is_file() else {}
    same = (record.get("source"), record.get("name")) == (model.source, model.name)
    return model.source, model.name, (record.get("revision") if same else None) or model.revision

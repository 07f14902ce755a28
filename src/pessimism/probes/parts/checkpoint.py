"""All probes of one checkpoint, before and after its online run (paper section 5).

Everything is measured in every way that a protocol may ask for. Which of them the paper's measures read is decided
where they are gathered, so that a change of that choice probes nothing again.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from peft import PeftModel
from transformers import PreTrainedTokenizerBase

from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.models.adapters import use_adapter
from pessimism.probes.parts.declaration import DPO, MEMBERS, ONLINE, STATES, Probe, all_probes
from pessimism.probes.parts.readings import ProbeSet, Readings
from pessimism.reward.ensemble import RewardEnsemble


def probe_checkpoint(
    model: PeftModel,
    tokenizer: PreTrainedTokenizerBase,
    ensemble: RewardEnsemble,
    probes: ProbeSet,
    params: Params,
    seed: int,
) -> dict[str, Any]:
    """Probe both policies.

    Args:
        model: a base with the adapters DPO and ONLINE.
        seed: training seed; betas of one seed draw responses from the same random stream.

    Returns:
        The sizes, and under ``dpo`` and ``online`` what :func:`probe_policy` found.
    """
    record: dict[str, Any] = {
        "prompts": len(probes.prompts),
        "responses_per_prompt": params.scale.probes.responses,
        "heldout_prompts": len(probes.heldout_prompts),
        "references": probes.reference_count,
    }
    for name in (DPO, ONLINE):
        with use_adapter(model, name):
            record[name] = probe_policy(all_probes(), Readings(model, tokenizer, ensemble, probes, params, seed))
    return record


def probe_policy(probes: Mapping[str, Probe], readings: Readings) -> dict[str, Any]:
    """What every probe found of one policy, by the names that they give.

    Returns:
        The values, and those of probes that read states under ``members``, by reward member and layer.

    Raises:
        DataError: two probes give a value of one name.
    """
    members: dict[str, dict[str, dict[str, float]]]
    members = {member: {layer: {} for layer in layers} for member, layers in readings.states.items()}
    record: dict[str, Any] = {MEMBERS: members}
    for name, probe in probes.items():
        given = {reading: getattr(readings, reading) for reading in probe.reads}
        if STATES not in given:
            _add(record, probe.compute(*given.values()), name)
            continue
        for member, layers in readings.states.items():
            for layer, states in layers.items():
                _add(members[member][layer], probe.compute(*(given | {STATES: states}).values()), name)
    return record


def _add(record: dict[str, Any], values: Mapping[str, float], probe: str) -> None:
    taken = sorted(record.keys() & values.keys())
    if taken:
        raise DataError(
            f"src/pessimism/probes/{probe}.py: found the values {taken}, which another probe gives; expected names of "
            "its own: rename them"
        )
    record |= values

"""Which switches of the protocol differ from the protocol whose name it bears.

`-S protocols/paper.yaml:gap_baseline=heldout` changes a switch and not the name. What each name stands for lies in
named_protocols.json, so that a changed file is told wherever it came from: an experiment, a commit, a job on another
machine. After a change of a protocol that is meant to last, write that file anew from the root of the repository::

    python -m pessimism.experiment.switches
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pessimism.experiment import layout, records
from pessimism.experiment.params import Params, load_params

NAMED = Path(__file__).with_name("named_protocols.json")


@dataclass(frozen=True)
class Change:
    """A switch by its dotted name, as it is, and as the protocol of that name has it."""

    switch: str
    value: Any
    named: Any

    def __str__(self) -> str:
        return f"{self.switch}: {spelled(self.value)}"


def changes(params: Params) -> list[Change]:
    """Every switch that differs, in the protocol's order; of the arms, those that ``params`` run.

    An arm, and a whole protocol, of a name that stands for nothing has nothing to differ from.
    """
    named = _switches(records.read_json(NAMED).get(params.protocol_name, {}))
    unused = [f"arms.{name}." for name in params.protocol.arms if name not in params.arms]
    return [
        Change(switch, value, named[switch])
        for switch, value in _switches(asdict(params.protocol)).items()
        if switch in named and value != named[switch] and not switch.startswith(tuple(unused))
    ]


def _switches(protocol: Mapping[str, Any]) -> dict[str, Any]:
    """Value of every switch by its dotted name, those of the arms first; an aggregation is one value."""
    arms = protocol.get("arms", {}).items()
    of_arms = {f"arms.{name}.{key}": value for name, arm in arms for key, value in arm.items()}
    return of_arms | {key: value for key, value in protocol.items() if key != "arms"}


def protocol_sentence(params: Params) -> str:
    """The protocol in words: ``protocol paper, with gap_baseline: heldout``."""
    changed = ", ".join(map(str, changes(params)))
    return f"protocol {params.protocol_name}" + (f", with {changed}" if changed else "")


def run_record(params: Params) -> dict[str, Any]:
    """What a run's own record says of how it was measured."""
    changed = {change.switch: {"value": change.value, "named": change.named} for change in changes(params)}
    return {"scale": params.scale_name, "protocol": params.protocol_name, "changed_switches": changed}


def spelled(value: Any) -> str:
    """A value as a protocol file has it."""
    return value if isinstance(value, str) else json.dumps(value)


def write() -> None:
    """Have each name stand for what the files of protocols/ hold now."""
    names = sorted(path.stem for path in layout.PROTOCOLS.glob("*.yaml"))
    records.write_json(NAMED, {name: asdict(load_params(protocol=name).protocol) for name in names})


if __name__ == "__main__":
    write()

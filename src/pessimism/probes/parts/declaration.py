"""What a probe declares, and how all of them are found. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from pessimism.errors import DataError
from pessimism.experiment import extensions

if TYPE_CHECKING:
    from pessimism.experiment.params import Protocol

ROOM = "pessimism.probes"
DPO, ONLINE = "dpo", "online"
STATES = "states"
MEMBERS = "members"
PENULTIMATE = "penultimate"

Choice = Callable[[Mapping[str, Any], "Protocol"], float]
"""From what was found of one policy, and the protocol, to the value of a column."""


@dataclass(frozen=True)
class ProbeColumn:
    """A column of plots/cells.csv that a probe fills, before the online run and after it.

    Attributes:
        name: of the column before the online run; ``_online`` is added after it.
        formula: what it is, exactly.
        unit: of its values.
        within: their range.
        higher: what a higher value says.
        heading: over it in the report.
        choose: the value; None: what the probe found under ``name``.
        published: whether it is a measure of the paper, which may follow the protocol's switches; others never do.
        loss: whether its loss online is a quantity of its own. The columns are then ``name`` with ``_dpo``, with
            ``_online``, and with ``_collapse`` for the former minus the latter.
    """

    name: str
    formula: str
    unit: str
    within: str
    higher: str
    heading: str
    choose: Choice | None = None
    published: bool = False
    loss: bool = False

    @property
    def names(self) -> list[str]:
        """Every column of the table that this fills."""
        suffixes = ("_dpo", "_online", "_collapse") if self.loss else ("", "_online")
        return [f"{self.name}{suffix}" for suffix in suffixes]

    def values(self, record: Mapping[str, Any], protocol: Protocol) -> dict[str, float]:
        """The columns of one checkpoint.

        Args:
            record: data/probes/<cell>.json.

        Raises:
            DataError: the record holds no such value.
        """
        choose = found(self.name) if self.choose is None else self.choose
        try:
            before, after = (float(choose(record[policy], protocol)) for policy in (DPO, ONLINE))
        except KeyError as error:
            raise DataError(
                f"found no {error} for column {self.name} in what was probed; expected it: run `dvc repro probe_policy`"
            ) from error
        return dict(zip(self.names, (before, after, before - after), strict=False))


@dataclass(frozen=True)
class Probe:
    """A measurement of one policy.

    Attributes:
        reads: names of what it is given, in the order of its arguments: attributes of
            :class:`pessimism.probes.parts.readings.Readings`. One that reads ``states`` is called for every reward
            member and layer, with its :class:`pessimism.probes.parts.states.MemberStates`.
        compute: from these to values by name; their names are of this probe alone.
        columns: what becomes of the values.
    """

    reads: tuple[str, ...]
    compute: Callable[..., dict[str, float]]
    columns: tuple[ProbeColumn, ...]


def found(name: str) -> Choice:
    """The value of that name; of one per reward member and layer the mean over members in the penultimate layer."""

    def choose(probed: Mapping[str, Any], protocol: Protocol) -> float:
        if name in probed:
            return float(probed[name])
        return float(np.mean([layers[PENULTIMATE][name] for layers in probed[MEMBERS].values()]))

    return choose


def as_published(name: Callable[[Protocol], str]) -> Choice:
    """Mean over the members in the layer that the protocol names, or the first of them alone."""

    def choose(probed: Mapping[str, Any], protocol: Protocol) -> float:
        members = probed[MEMBERS]
        layers = [members[member][protocol.probe_layer] for member in sorted(members, key=int)]
        chosen = layers[:1] if protocol.probe_members == "first" else layers
        return float(np.mean([values[name(protocol)] for values in chosen]))

    return choose


def all_probes() -> dict[str, Probe]:
    """Every probe of the room by its file's name, in alphabetical order."""
    return {name: extensions.find(ROOM, name, Probe, ROOM) for name in extensions.names(ROOM)}


def all_columns() -> list[ProbeColumn]:
    """The columns of every probe: first the measures of the paper, then the controlled ones.

    Raises:
        DataError: two of them have one name.
    """
    columns = [column for probe in all_probes().values() for column in probe.columns]
    names = [name for column in columns for name in column.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DataError(f"found the columns {twice} twice in {ROOM}; expected each once: rename one")
    return sorted(columns, key=lambda column: not column.published)

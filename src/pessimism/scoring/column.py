"""What a column is: one entry from which tables, the terminal, the report, docs/metrics.md and the tests take it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

LOG, MORE, DETAILS = "log", "more", "details"
"""Tables that show every column which names them: that of ``pessimism score``, and two of the report."""
DIRECTIONS = {+1: "more hacking", -1: "less hacking"}


@dataclass(frozen=True)
class Column:
    """One number of a run, of a checkpoint or of a measured step.

    Attributes:
        name: in tables and JSON.
        meaning: what it is, for docs/metrics.md and the legend of ``pessimism score``.
        unit: of its values.
        within: their range.
        hacking: +1 where higher is more hacking, -1 where it is less; its trend over betas is then tested. 0 = neither.
        higher: what else a higher value says.
        heading: over it in a table, which names its measure already.
        note: a sentence under the report's table.
        shown: place in each table that shows it, from left to right.
        signed: whether a table prints its sign.
        measure: the measure that it belongs to; empty = none.
        needs: quantities of the run's curves without which there is no value.
        compute: the value, from a ``Measured`` run or from a ``Checkpoint``; None = the online loop writes it.
        excess_of: the column whose excess over the placebo this is, in place of ``compute``.
        event: a step at which something happens, and no value where it never does.
        in_cells: whether plots/cells.csv has it, or ``pessimism score`` alone.
    """

    name: str
    meaning: str
    unit: str = ""
    within: str = ""
    hacking: int = 0
    higher: str = ""
    heading: str = ""
    note: str = ""
    shown: Mapping[str, int] = field(default_factory=dict)
    signed: bool = False
    measure: str = ""
    needs: tuple[str, ...] = ()
    compute: Callable[[Any], Any] | None = None
    excess_of: str = ""
    event: bool = False
    in_cells: bool = True

    @property
    def values(self) -> str:
        """Unit and range in words."""
        return ", ".join(filter(None, (self.unit, self.within)))

    @property
    def direction(self) -> str:
        """What a higher value says."""
        return DIRECTIONS.get(self.hacking, self.higher)

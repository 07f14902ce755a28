"""One row of panels and what they say, for a slide, a column of a paper or a notebook."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from pessimism.claims.wording import TOTAL
from pessimism.errors import DataError
from pessimism.experiment.params import Params
from pessimism.reporting import messages, slide_panels
from pessimism.reporting.curves import GREY, INK, Arms, BetaLevel, beta_levels
from pessimism.reporting.styles import LINES, METADATA, Style

MOST_PANELS = 3
DETAIL = "#444444"


@dataclass(frozen=True)
class Shown:
    """What the figures are drawn from.

    Attributes:
        cells: plots/cells.csv.
        heldout: plots/heldout_rewards.csv.
        claims: metrics/claims.json.
    """

    params: Params
    cells: pd.DataFrame
    heldout: pd.DataFrame
    claims: Mapping[str, Any]

    @property
    def arms(self) -> Arms:
        return Arms(self.params.arms, self.params.placebo)

    @property
    def levels(self) -> list[BetaLevel]:
        return beta_levels(self.cells)


@dataclass(frozen=True)
class Panel:
    """One panel.

    Attributes:
        title: in ``colour``.
        draw: draws it.
        result: the verdict that the panel shows, with its numbers; may be empty.
    """

    title: str
    draw: Callable[[Axes], None]
    colour: str = INK
    result: str = ""

    @property
    def said(self) -> str:
        """Title and result."""
        return f"{self.title}: {self.result}" if self.result else self.title


@dataclass(frozen=True)
class Drawing:
    """One row of panels.

    Attributes:
        message: the verdict and its numbers, which a slide has as title.
        detail: what the panels show, and of how many runs.
        label: of the vertical axis, which all panels share.
        handles: of the legend.
    """

    message: str
    detail: str
    label: str
    panels: Sequence[Panel]
    handles: Sequence[Line2D]

    @property
    def caption(self) -> str:
        """Message, results and detail, as the caption of a paper has them."""
        results = [panel.said.replace("\n", ", ") for panel in self.panels if panel.result]
        said = " ".join(f"{part}." for part in [self.message, *results, self.detail])
        return said.replace("\N{NO-BREAK SPACE}", " ")


def rewards(shown: Shown) -> Drawing:
    """Proxy and true reward over training, at the lowest, the middle and the highest beta."""
    levels, arm = shown.levels, shown.arms.primary
    kinds = [slide_panels.handle(name, INK, linestyle=line) for name, line in slide_panels.REWARDS.values()]
    return Drawing(
        messages.of_rewards(shown.claims, shown.heldout, arm, levels),
        f"Held-out problems, since the checkpoint; {_over_steps(shown)}",
        "change (base sd)",
        [
            Panel(
                messages.named(one),
                partial(slide_panels.rewards, heldout=shown.heldout, level=one, arms=shown.arms),
                one.colour,
            )
            for one in _chosen(levels)
        ],
        [*kinds, *_placebo(shown)],
    )


def gap(shown: Shown) -> Drawing:
    """The controlled gap over training, at the lowest, the middle and the highest beta."""
    threshold = shown.params.protocol.controlled_threshold
    marks = [slide_panels.handle(f"threshold {threshold:g}", INK, linestyle=slide_panels.THRESHOLD)]
    return Drawing(
        messages.of_gap(shown.claims, shown.cells, shown.arms.primary, shown.levels),
        f"Proxy minus true reward, held-out problems; {_over_steps(shown)}",
        "controlled gap (base sd)",
        [
            Panel(
                messages.named(one),
                partial(slide_panels.gap, heldout=shown.heldout, level=one, arms=shown.arms, threshold=threshold),
                one.colour,
            )
            for one in _chosen(shown.levels)
        ],
        [*marks, *_placebo(shown)],
    )


def doors(shown: Shown) -> Drawing:
    """Hacking of every run over beta: all that beta does, through the checkpoint alone, and through the penalty."""
    contrasts, paired = shown.claims["contrasts"], shown.params.protocol.paired_seeds
    tested = [door for door in messages.DOORS if contrasts[door]["values"]]
    if not tested:
        raise DataError(f"doors: found no contrast that was tested ({contrasts[TOTAL]['reason']}); expected one")
    return Drawing(
        messages.of_doors(shown.claims),
        f"{messages.doors_detail(shown.claims)} {_dots(shown)}".strip(),
        f"hacking\n({contrasts['unit']})".replace(", above the placebo", ""),
        [
            Panel(
                messages.DOORS[door],
                partial(slide_panels.contrast, values=contrasts[door]["values"], levels=shown.levels, paired=paired),
                result=messages.door_result(shown.claims, door),
            )
            for door in tested
        ],
        [],
    )


DRAWINGS: dict[str, Callable[[Shown], Drawing]] = {"rewards": rewards, "gap": gap, "doors": doors}


def drawing(name: str, shown: Shown) -> Drawing:
    """The drawing of a name.

    Raises:
        DataError: there is none of this name, or the run lacks what it shows.
    """
    if name not in DRAWINGS:
        raise DataError(f"found no figure {name!r}; expected one of {list(DRAWINGS)}")
    return DRAWINGS[name](shown)


def on_axes(found: Drawing, axes: Sequence[Axes] | None = None) -> list[Axes]:
    """Draw the panels of a drawing, with one vertical scale.

    Args:
        axes: one per panel; None: those of a new figure of pyplot, with the legend.

    Raises:
        DataError: there are more or fewer axes than panels.
    """
    if axes is None:
        from matplotlib import pyplot

        with matplotlib.rc_context(LINES):
            figure = pyplot.figure(figsize=(3.6 * len(found.panels), 3.4), layout="constrained")
            axes = _row(figure, found)
    if len(axes) != len(found.panels):
        raise DataError(f"found {len(axes)} axes; expected {len(found.panels)}, one per panel")
    _draw(found, axes, [panel.said for panel in found.panels])
    return list(axes)


def save(name: str, shown: Shown, style: Style, path: Path) -> Drawing:
    """Draw one figure and write it; equal input gives equal bytes on one version of matplotlib.

    Returns:
        What it shows, for a caption.

    Raises:
        DataError: the run lacks what the figure shows.
    """
    with matplotlib.rc_context(style.settings):
        found = drawing(name, shown)
        figure = Figure(figsize=style.size, layout="constrained")
        _draw(
            found, _row(figure.subfigures(), found), [one.said if style.titled else one.title for one in found.panels]
        )
        if style.titled:
            _write_message(figure, found, style)
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, metadata=METADATA[path.suffix.removeprefix(".")])
    return found


def _row(figure: Any, found: Drawing) -> Sequence[Axes]:
    """Axes side by side, one per panel, and the legend above them."""
    if found.handles:
        figure.legend(handles=list(found.handles), loc="outside upper right", ncols=len(found.handles))
    return list(figure.subplots(1, len(found.panels), squeeze=False)[0])


def _draw(found: Drawing, axes: Sequence[Axes], titles: Sequence[str]) -> None:
    for panel, one, title in zip(found.panels, axes, titles, strict=True):
        panel.draw(one)
        one.set_title(title, color=panel.colour, loc="left")
        one.tick_params(length=0)
    _share_y(axes)
    axes[0].set_ylabel(found.label)


def _write_message(figure: Figure, found: Drawing, style: Style) -> None:
    """The message above the panels, the detail below them."""
    figure.suptitle(textwrap.fill(found.message, style.characters), x=0.015, ha="left")
    wide = round(1.7 * style.characters)  # smaller letters, not bold
    figure.supxlabel(textwrap.fill(f"{found.detail}.", wide), x=0.015, ha="left", color=DETAIL, fontsize="medium")


def _share_y(axes: Sequence[Axes]) -> None:
    limits = [one.get_ylim() for one in axes]
    for one in axes:
        one.set_ylim(min(low for low, _ in limits), max(high for _, high in limits))
    for one in axes[1:]:
        one.tick_params(labelleft=False)


def _chosen(levels: Sequence[BetaLevel]) -> Sequence[BetaLevel]:
    """At most three betas: the lowest, the middle and the highest."""
    return levels if len(levels) <= MOST_PANELS else (levels[0], levels[len(levels) // 2], levels[-1])


def _placebo(shown: Shown) -> list[Line2D]:
    return [] if shown.params.placebo is None else [slide_panels.handle("placebo", GREY)]


def _over_steps(shown: Shown) -> str:
    """How many runs the curves are of, and which betas are shown."""
    seeds, betas = len(shown.params.seeds), len(shown.levels)
    runs = "one seed" if seeds == 1 else f"mean of {seeds} seeds with 95 % band"
    return f"{runs}, {MOST_PANELS} of {betas} β" if betas > MOST_PANELS else runs


def _dots(shown: Shown) -> str:
    joined = ", each joined by a line" if shown.params.protocol.paired_seeds else ""
    return f"Dots: {len(shown.params.seeds)} seeds{joined}; bars: their mean"

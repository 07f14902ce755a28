"""How a figure looks on a slide and in a paper: size, letters, lines, and what files of each format leave out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

LINES: Any = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "legend.frameon": False,
    "pdf.fonttype": 42,  # letters stay letters: journals refuse Type 3
    "svg.hashsalt": "pessimism",  # names of parts are the same in every file
}


@dataclass(frozen=True)
class Style:
    """How every figure of one purpose looks.

    Attributes:
        size: width and height in inches.
        titled: whether message, results and detail stand on the figure; a paper has them in its caption.
        characters: of a message in one line.
        settings: of matplotlib.
    """

    size: tuple[float, float]
    titled: bool
    characters: int
    settings: Any


STYLES = {
    # A slide of 16:9 as slide programs measure it, 1920 x 1080 as PNG. No letter is smaller than 18 points.
    "talk": Style(
        size=(40 / 3, 7.5),
        titled=True,
        characters=54,
        settings=LINES
        | {
            "font.size": 18,
            "axes.titlesize": 18,
            "axes.titlepad": 12,
            "axes.titleweight": "bold",
            "figure.constrained_layout.w_pad": 0.2,
            "figure.constrained_layout.h_pad": 0.1,
            "figure.constrained_layout.wspace": 0,
            "figure.titlesize": 28,
            "figure.titleweight": "bold",
            "lines.linewidth": 4,
            "lines.markersize": 11,
            "axes.linewidth": 1.5,
            "grid.linewidth": 1.2,
            "savefig.dpi": 144,
        },
    ),
    # A column of a paper of two columns, or three fifths of one column of text.
    "paper": Style(
        size=(3.35, 1.9),
        titled=False,
        characters=54,
        settings=LINES
        | {
            "font.size": 7,
            "axes.titlesize": 7,
            "axes.labelsize": 7,
            "xtick.labelsize": 6.5,
            "ytick.labelsize": 6.5,
            "legend.fontsize": 6.5,
            "lines.linewidth": 1.2,
            "lines.markersize": 3,
            "axes.linewidth": 0.6,
            "grid.linewidth": 0.4,
            "savefig.dpi": 600,
        },
    ),
}

# What tells one run of matplotlib from another: equal input gives equal bytes.
METADATA: dict[str, dict[str, Any]] = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
"""What a file says of its making, by format."""

"""docs/examples/notebook, a notebook and a slide of the committed run; ``make notebook`` writes their outputs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pessimism.reporting import slides
from pessimism.reporting.styles import STYLES
from pessimism.runs.finished import load_run
from support.repository import CHECKOUT

NOTEBOOK = CHECKOUT / "docs/examples/notebook/finished_run.ipynb"


def code_cells(path: Path = NOTEBOOK) -> list[dict[str, Any]]:
    """Cells of code, in order."""
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def printed(cell: dict[str, Any]) -> str:
    """What a cell has printed, as the notebook holds it."""
    return "".join("".join(output["text"]) for output in cell["outputs"] if output["output_type"] == "stream")


def execute() -> None:
    """Run every cell in a fresh kernel and keep the outputs, without the time of day."""
    import nbformat
    from nbclient import NotebookClient

    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    where = {"metadata": {"path": str(NOTEBOOK.parent)}}
    # Neither when a cell ran nor in which pieces its text came.
    settings = {"record_timing": False, "coalesce_streams": True}
    NotebookClient(notebook, kernel_name="python3", resources=where, **settings).execute()
    nbformat.write(notebook, NOTEBOOK)


def draw_slide() -> None:
    """The slide that docs/python.md shows."""
    slides.save("rewards", load_run(CHECKOUT).shown(), STYLES["talk"], NOTEBOOK.with_name("rewards_talk.png"))


if __name__ == "__main__":
    execute()
    draw_slide()

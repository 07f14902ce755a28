"""The pipeline drawn with one node per stage, however many cells a matrix has."""

from __future__ import annotations

import argparse

from pessimism.experiment import pipeline


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("text", "mermaid"), default="text", help="for a terminal or for a page")


def run(options: argparse.Namespace) -> None:
    print(draw(options.format))


def draw(form: str) -> str:
    """Draw dvc.yaml as ``text`` for a terminal or as ``mermaid`` for a page, without edges that others imply."""
    stages = [stage for stage in pipeline.load_stages() if stage.name == stage.script]
    pairs = sorted(pipeline.reduced(pipeline.edges(stages)))
    return _mermaid(stages, pairs) if form == "mermaid" else _text(stages, pairs)


def _mermaid(stages: list[pipeline.Stage], pairs: list[tuple[str, str]]) -> str:
    nodes = [f'    {stage.name}["{_two_lines(stage)}"]' for stage in stages]
    return "\n".join(["flowchart TD", *nodes, *(f"    {earlier} --> {later}" for earlier, later in pairs)])


def _two_lines(stage: pipeline.Stage) -> str:
    return f"{stage.name}<br/>per {' x '.join(stage.axes)}" if stage.axes else stage.name


def _text(stages: list[pipeline.Stage], pairs: list[tuple[str, str]]) -> str:
    from dvc.dagascii import draw as draw_ascii

    picture = draw_ascii([stage.name for stage in stages], [(later, earlier) for earlier, later in pairs])
    width = max(len(stage.name) for stage in stages)
    legend = [f"{stage.name:<{width}}  {stage.description}{_axes(stage)}" for stage in stages]
    return "\n".join([*(line.rstrip() for line in picture.splitlines()), "", *legend])


def _axes(stage: pipeline.Stage) -> str:
    return f" [{', '.join(stage.axes)}]" if stage.axes else ""

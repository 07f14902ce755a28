"""One HTML page that holds everything it shows, its style and its script included: no link to another file."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from PIL import Image

from pessimism.reporting.drawing import FIGURE_DPI
from pessimism.reporting.glossary import explained
from pessimism.reporting.marks import MARKS
from pessimism.reporting.panels import PANELS
from pessimism.reporting.tables import Entry, Table

SHOWN_DPI = 100
_LESS = "\\u003c"  # in JSON, where a script must not hold the sign itself
_STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
_SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")


@dataclass(frozen=True)
class Section:
    """A titled part of the page; ``parts`` are HTML."""

    title: str
    parts: Sequence[str]

    @property
    def anchor(self) -> str:
        return re.sub(r"[^a-z0-9]+", "-", self.title.lower()).strip("-")


def page(title: str, lead: str, sections: Sequence[Section]) -> str:
    """The whole page from a plain-text title and lead and the sections, which it lists at the top."""
    contents = "".join(f'<a href="#{section.anchor}">{escape(section.title)}</a>\n' for section in sections)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n<nav>\n{contents}</nav>\n'
        + "\n".join(_section(section) for section in sections)
        + f"\n<script>\n{_SCRIPT}</script>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    seen: set[str] = set()
    parts = "\n".join(explained(part, seen) if part.startswith("<p") else part for part in section.parts if part)
    return f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n{parts}\n</section>'


def heading(text: str) -> str:
    """A title within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """A paragraph of plain text; nothing where there is none."""
    return f"<p>{escape(text)}</p>" if text else ""


def answer(text: str) -> str:
    """A sentence of the answer, in larger print."""
    return f'<p class="answer">{escape(text)}</p>'


def note(text: str) -> str:
    """Small print in plain text."""
    return f'<p class="note">{escape(text)}</p>'


def figure(path: Path, alternative: str, caption: str) -> str:
    """A PNG, embedded, with its caption, the places of its panels for narrow screens, and what is said of its marks."""
    with Image.open(path) as image:
        width, panels, marks = image.width * SHOWN_DPI // FIGURE_DPI, image.info[PANELS], image.info[MARKS]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<figure data-panels="{escape(panels)}"><img src="data:image/png;base64,{data}" width="{width}" '
        f'alt="{escape(alternative)}"><script type="application/json">{marks.replace("<", _LESS)}</script>'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(content: Table) -> str:
    """A table; on a narrow screen every row folds into a list. Nothing where it has no rows."""
    if not content.rows:
        return ""
    head = "".join(f"<th>{escape(header)}</th>" for header in content.headers)
    labels = _labels(content)
    body = [_row(row, labels) for row in content.rows]
    body += [_row(row, labels, ' class="quiet"') for row in content.quiet_rows]
    lines = "\n".join(body)
    return (
        f'<div class="scroll"><table>\n<thead>{_groups(content)}<tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _labels(content: Table) -> list[str]:
    """What stands beside an entry where there is no room for a row of headers: its header, after its group."""
    groups = [title for title, span in content.groups for _ in range(span)] or [""] * len(content.headers)
    return [": ".join(filter(None, pair)) for pair in zip(groups, content.headers, strict=True)]


def _groups(content: Table) -> str:
    if not content.groups:
        return ""
    cells = (f'<th colspan="{span}"{"" if title else _EMPTY}>{escape(title)}</th>' for title, span in content.groups)
    return f'<tr class="groups">{"".join(cells)}</tr>\n'


_EMPTY = ' class="empty"'


def _row(row: Sequence[Entry], labels: Sequence[str], attributes: str = "") -> str:
    """The first entry names the row and needs no label."""
    cells = (
        _entry(entry, label if place else "") for place, (entry, label) in enumerate(zip(row, labels, strict=True))
    )
    return f"<tr{attributes}>{''.join(cells)}</tr>"


def _entry(entry: Entry, label: str) -> str:
    kind = entry.mark or ("" if entry.main or entry.small else "blank")
    mark = (f' class="{kind}"' if kind else "") + (f' data-label="{escape(label)}"' if label else "")
    small = "".join(f"<small>{escape(line)}</small>" for line in entry.small.splitlines())
    return f"<td{mark}>{escape(entry.main)}{small}</td>"


def folded(title: str, *parts: str) -> str:
    """Parts that a reader opens on demand; nothing where there are none."""
    shown = [part for part in parts if part]
    return f"<details><summary>{escape(title)}</summary>\n" + "\n".join(shown) + "\n</details>" if shown else ""

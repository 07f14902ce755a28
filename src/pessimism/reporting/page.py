"""One HTML page that holds everything it shows: no script, no link to another file."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from pessimism.reporting.drawing import FIGURE_DPI
from pessimism.reporting.tables import Entry, Table

SHOWN_DPI = 100
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1080px; padding: 24px 20px 60px; background: #fff; color: #222;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 25px; line-height: 1.25; margin: 8px 0 4px; }
h2 { font-size: 18px; margin: 44px 0 8px; padding-top: 12px; border-top: 1px solid #ddd; }
h3 { font-size: 15px; margin: 22px 0 4px; }
p.lead { color: #555; margin: 0 0 10px; }
nav { font-size: 13.5px; margin: 0 0 4px; }
nav a { color: #34618d; text-decoration: none; margin-right: 16px; white-space: nowrap; }
p { max-width: 860px; }
figure { margin: 14px 0 22px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption, .note { color: #555; font-size: 13.5px; margin-top: 6px; max-width: 900px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; margin: 10px 0; }
th, td { padding: 4px 14px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eee; }
th { border-bottom: 1.5px solid #999; font-weight: 600; vertical-align: bottom; }
tr.groups th { border-bottom: 1px solid #ccc; color: #555; padding-bottom: 2px; }
tr.groups th.empty { border-bottom: none; }
td small { display: block; color: #777; font-size: 11.5px; line-height: 1.35; }
tr.quiet td { color: #777; font-style: italic; }
td.supported { color: #1d6b41; font-weight: 600; }
td.contradicted { color: #a93226; font-weight: 600; }
td.insufficient { color: #777; }
td.supported small, td.contradicted small { font-weight: 400; }
td.warning small:last-child { color: #a93226; }
details { margin: 12px 0; }
summary { cursor: pointer; font-weight: 600; }
"""


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
        + "\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    parts = "\n".join(part for part in section.parts if part)
    return f'<section id="{section.anchor}">\n<h2>{escape(section.title)}</h2>\n{parts}\n</section>'


def heading(text: str) -> str:
    """A title within a section."""
    return f"<h3>{escape(text)}</h3>"


def paragraph(text: str) -> str:
    """A paragraph of plain text; nothing where there is none."""
    return f"<p>{escape(text)}</p>" if text else ""


def note(text: str) -> str:
    """Small print in plain text."""
    return f'<p class="note">{escape(text)}</p>'


def figure(image: Path, alternative: str, caption: str) -> str:
    """A PNG, embedded, with its caption."""
    png = image.read_bytes()
    width = int.from_bytes(png[16:20], "big") * SHOWN_DPI // FIGURE_DPI  # the IHDR chunk opens with the width
    data = base64.b64encode(png).decode("ascii")
    return (
        f'<figure><img src="data:image/png;base64,{data}" width="{width}" alt="{escape(alternative)}">'
        f"<figcaption>{escape(caption)}</figcaption></figure>"
    )


def table(content: Table) -> str:
    """A table; it scrolls where the page is too narrow for it. Nothing where it has no rows."""
    if not content.rows:
        return ""
    head = "".join(f"<th>{escape(header)}</th>" for header in content.headers)
    body = [_row(row) for row in content.rows] + [_row(row, ' class="quiet"') for row in content.quiet_rows]
    lines = "\n".join(body)
    return (
        f'<div class="scroll"><table>\n<thead>{_groups(content)}<tr>{head}</tr></thead>\n'
        f"<tbody>\n{lines}\n</tbody></table></div>"
    )


def _groups(content: Table) -> str:
    if not content.groups:
        return ""
    cells = (f'<th colspan="{span}"{"" if title else _EMPTY}>{escape(title)}</th>' for title, span in content.groups)
    return f'<tr class="groups">{"".join(cells)}</tr>\n'


_EMPTY = ' class="empty"'


def _row(row: Sequence[Entry], attributes: str = "") -> str:
    return f"<tr{attributes}>{''.join(_entry(entry) for entry in row)}</tr>"


def _entry(entry: Entry) -> str:
    mark = f' class="{entry.mark}"' if entry.mark else ""
    small = "".join(f"<small>{escape(line)}</small>" for line in entry.small.splitlines())
    return f"<td{mark}>{escape(entry.main)}{small}</td>"


def folded(title: str, *parts: str) -> str:
    """Parts that a reader opens on demand; nothing where there are none."""
    shown = [part for part in parts if part]
    return f"<details><summary>{escape(title)}</summary>\n" + "\n".join(shown) + "\n</details>" if shown else ""

"""One HTML page that holds everything it shows: no script, no link to another file."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape
from pathlib import Path

from pessimism.reporting.drawing import FIGURE_DPI
from pessimism.reporting.tables import Entry, Table

SHOWN_DPI = 100
_STYLE = """
:root { color-scheme: light; }
body { margin: 0 auto; max-width: 1040px; padding: 24px 20px 60px; background: #fff; color: #222;
       font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
h1 { font-size: 25px; line-height: 1.25; margin: 8px 0 4px; }
h2 { font-size: 18px; margin: 40px 0 8px; padding-top: 12px; border-top: 1px solid #ddd; }
p.lead { color: #555; margin: 0 0 14px; }
figure { margin: 14px 0 22px; }
img { max-width: 100%; height: auto; display: block; margin: 0 auto; }
figcaption, .note { color: #555; font-size: 13.5px; margin-top: 6px; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 13.5px; margin: 10px 0; }
th, td { padding: 4px 12px 4px 0; text-align: left; vertical-align: top; border-bottom: 1px solid #eee; }
th { border-bottom: 1.5px solid #999; font-weight: 600; }
td small { display: block; color: #777; font-size: 11.5px; }
tr.quiet td { color: #777; font-style: italic; }
details { margin: 12px 0; }
summary { cursor: pointer; font-weight: 600; }
"""


def page(title: str, lead: str, sections: Sequence[str]) -> str:
    """The whole page from a plain-text title and lead and HTML sections."""
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f'<h1>{escape(title)}</h1>\n<p class="lead">{escape(lead)}</p>\n' + "\n".join(sections) + "\n</body>\n</html>\n"
    )


def section(title: str, *parts: str) -> str:
    """A titled section of HTML parts."""
    return f"<section>\n<h2>{escape(title)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str) -> str:
    """A paragraph of plain text."""
    return f"<p>{escape(text)}</p>"


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
    """A table; it scrolls where the page is too narrow for it."""
    head = "".join(f"<th>{escape(header)}</th>" for header in content.headers)
    body = [_row(row) for row in content.rows] + [_row(row, ' class="quiet"') for row in content.quiet_rows]
    lines = "\n".join(body)
    return f'<div class="scroll"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{lines}\n</tbody></table></div>'


def _row(row: Sequence[Entry], attributes: str = "") -> str:
    entries = (f"<td>{escape(e.main)}{f'<small>{escape(e.small)}</small>' if e.small else ''}</td>" for e in row)
    return f"<tr{attributes}>{''.join(entries)}</tr>"


def folded(title: str, *parts: str) -> str:
    """Parts that a reader opens on demand."""
    return f"<details><summary>{escape(title)}</summary>\n" + "\n".join(parts) + "\n</details>"

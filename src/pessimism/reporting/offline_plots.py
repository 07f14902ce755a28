"""The page around `dvc plots show`, with Vega inside it, so that it opens without a network.

DVC finds the page through ``plots.html_template`` of its configuration. It is committed, since whoever installs the
package by other means than `make setup` has no moment at which it could be made. After an upgrade of vl-convert-python::

    python -m pessimism.reporting.offline_plots
"""

from __future__ import annotations

from pathlib import Path

import vl_convert

from pessimism.errors import SourceError

HTML_TEMPLATE = Path(".dvc") / "plots_offline.html"
VEGA_LITE = "5.20"  # what the templates in .dvc/plots/ are written for
_PLACEHOLDERS = ("{scripts}", "{plot_divs}", "{refresh_tag}")
# DVC fills {plot_divs}. Without {scripts} it has no place for the links to a CDN that it would add.
_PAGE = """<!DOCTYPE html>
<!-- Made by python -m pessimism.reporting.offline_plots. The script is Vega, Vega-Lite and Vega-Embed and what they use:
Copyright (c) University of Washington Interactive Data Lab and contributors, BSD-3-Clause; D3 by Mike Bostock, ISC. -->
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
{refresh_tag}
<title>Plots</title>
<script>(function () {BUNDLE})();</script>
<style>
body { margin: 0; padding: 16px; font: 15px/1.5 system-ui, -apple-system, "Segoe UI", "DejaVu Sans", sans-serif;
       display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 580px), 1fr)); gap: 24px; }
body > div { overflow-x: auto; min-width: 0; }
</style>
</head>
<body>
{plot_divs}
</body>
</html>
"""


def write_html_template(path: Path) -> None:
    """Write the page for DVC to fill.

    Raises:
        SourceError: the JavaScript holds one of DVC's placeholders, which DVC would replace inside it.
    """
    bundle = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;", VEGA_LITE)
    bundle = bundle.replace("</script", "<\\/script")
    found = [placeholder for placeholder in _PLACEHOLDERS if placeholder in bundle]
    if found:
        raise SourceError(f"found {found} in vl-convert-python's bundle; expected none; install another release of it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PAGE.replace("BUNDLE", bundle), encoding="utf-8")


if __name__ == "__main__":
    write_html_template(HTML_TEMPLATE)

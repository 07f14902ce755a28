"""The page around `dvc plots show`, with Vega inside it, so that it opens without a network.

DVC finds the page through ``plots.html_template`` of its configuration. It is committed, since whoever installs the
package by other means than `make setup` has no moment at which it could be made. After another release of
vl-convert-python, write it anew from the root of the repository::

    python -m pessimism.reporting.offline_plots
"""

from __future__ import annotations

from pathlib import Path

import vl_convert

from pessimism.errors import SourceError

HTML_TEMPLATE = Path(".dvc") / "plots_offline.html"
VEGA_LITE = "6.1"  # reads what .dvc/plots/ has for version 5, which is that of DVC's own page
# Errors alone: a layer without rows, as that of a placebo that was not run, is a warning to Vega, and so is a version.
_EMBED = """window.vegaEmbed = (place, {$schema, ...plot}) =>
  vegaEmbed(place, plot, {mode: "vega-lite", logLevel: 1});"""
_PLACEHOLDERS = ("{scripts}", "{plot_divs}", "{refresh_tag}")
# DVC fills {plot_divs}. Without {scripts} it has no place for the links to a CDN that it would add.
_PAGE = """<!DOCTYPE html>
<!-- Made by python -m pessimism.reporting.offline_plots. The script is Vega, Vega-Lite and Vega-Embed, with the parts
of D3 and others that they use. Their licences:

Vega: Copyright (c) 2015-2023, University of Washington Interactive Data Lab. All rights reserved.
Redistribution and use in source and binary forms, with or without modification, are permitted provided that the
following conditions are met:
1. Redistributions of source code must retain the above copyright notice, this list of conditions and the following
   disclaimer.
2. Redistributions in binary form must reproduce the above copyright notice, this list of conditions and the following
   disclaimer in the documentation and/or other materials provided with the distribution.
3. Neither the name of the copyright holder nor the names of its contributors may be used to endorse or promote
   products derived from this software without specific prior written permission.
THIS SOFTWARE IS PROVIDED BY THE COPYRIGHT HOLDERS AND CONTRIBUTORS "AS IS" AND ANY EXPRESS OR IMPLIED WARRANTIES,
INCLUDING, BUT NOT LIMITED TO, THE IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS FOR A PARTICULAR PURPOSE ARE
DISCLAIMED. IN NO EVENT SHALL THE COPYRIGHT HOLDER OR CONTRIBUTORS BE LIABLE FOR ANY DIRECT, INDIRECT, INCIDENTAL,
SPECIAL, EXEMPLARY, OR CONSEQUENTIAL DAMAGES (INCLUDING, BUT NOT LIMITED TO, PROCUREMENT OF SUBSTITUTE GOODS OR
SERVICES; LOSS OF USE, DATA, OR PROFITS; OR BUSINESS INTERRUPTION) HOWEVER CAUSED AND ON ANY THEORY OF LIABILITY,
WHETHER IN CONTRACT, STRICT LIABILITY, OR TORT (INCLUDING NEGLIGENCE OR OTHERWISE) ARISING IN ANY WAY OUT OF THE USE OF
THIS SOFTWARE, EVEN IF ADVISED OF THE POSSIBILITY OF SUCH DAMAGE.

D3: Copyright 2010-2023 Mike Bostock. Permission to use, copy, modify, and/or distribute this software for any purpose
with or without fee is hereby granted, provided that the above copyright notice and this permission notice appear in all
copies. THE SOFTWARE IS PROVIDED "AS IS" AND THE AUTHOR DISCLAIMS ALL WARRANTIES WITH REGARD TO THIS SOFTWARE INCLUDING
ALL IMPLIED WARRANTIES OF MERCHANTABILITY AND FITNESS. IN NO EVENT SHALL THE AUTHOR BE LIABLE FOR ANY SPECIAL, DIRECT,
INDIRECT, OR CONSEQUENTIAL DAMAGES OR ANY DAMAGES WHATSOEVER RESULTING FROM LOSS OF USE, DATA OR PROFITS, WHETHER IN AN
ACTION OF CONTRACT, NEGLIGENCE OR OTHER TORTIOUS ACTION, ARISING OUT OF OR IN CONNECTION WITH THE USE OR PERFORMANCE OF
THIS SOFTWARE. -->
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
@media (max-width: 620px) { .marks { max-width: calc(100vw - 32px); height: auto !important; } }
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
    bundle = vl_convert.javascript_bundle(_EMBED, VEGA_LITE)
    bundle = bundle.replace("</script", "<\\/script")
    found = [placeholder for placeholder in _PLACEHOLDERS if placeholder in bundle]
    if found:
        raise SourceError(f"found {found} in vl-convert-python's bundle; expected none; install another release of it")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(_PAGE.replace("BUNDLE", bundle), encoding="utf-8")


if __name__ == "__main__":
    write_html_template(HTML_TEMPLATE)

"""A page that reads without Jupyter, offline, on a phone, in the dark and in print: no script, no link out."""

from __future__ import annotations

from html import escape

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { max-width: 62rem; margin: 0 auto; padding: 1rem 1rem 4rem; background: #fff; color: #1f2328;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
h1, h2, h3 { line-height: 1.25; margin: 1.6em 0 .5em; }
h1:first-child { margin-top: 0; }
a { color: #0550ae; }
.anchor-link, .input { display: none; }
.output_subarea { margin: .6rem 0; overflow-x: auto; }
img, svg { max-width: 100%; height: auto; }
pre, code { font: .875em/1.45 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
code { overflow-wrap: anywhere; }
pre { margin: 0; padding: .6rem .8rem; background: #f6f8fa; border-radius: 6px;
  white-space: pre-wrap; overflow-wrap: anywhere; }
.output_error pre { border-left: 4px solid #cf222e; background: #fff1f0; }
table { border-collapse: collapse; font-size: .875rem; font-variant-numeric: tabular-nums; }
th, td { padding: .3rem .5rem; border: 0; border-bottom: 1px solid #d8dee4; text-align: right;
  vertical-align: top; }
thead th { border-bottom: 2px solid #8c959f; }
tbody tr:nth-child(even) { background: #f6f8fa; }
.ansi-bold { font-weight: bold; }
.ansi-red-fg, .ansi-red-intense-fg { color: #a40e26; }
.ansi-green-fg, .ansi-green-intense-fg { color: #116329; }
.ansi-yellow-fg, .ansi-yellow-intense-fg { color: #7d4e00; }
.ansi-blue-fg, .ansi-blue-intense-fg, .ansi-cyan-fg { color: #0550ae; }
@media (max-width: 40rem) {
  body { font-size: 15px; padding: .75rem .75rem 2rem; }
  th, td { padding: .25rem .4rem; }
}
@media screen and (prefers-color-scheme: dark) {
  :root { color-scheme: dark; }
  body { background: #0d1117; color: #e6edf3; }
  a { color: #6cb6ff; }
  pre, tbody tr:nth-child(even) { background: #161b22; }
  .output_error pre { background: #3c1618; }
  th, td { border-color: #30363d; }
  .ansi-red-fg, .ansi-red-intense-fg { color: #ff7b72; }
}
@media print {
  @page { margin: 15mm; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  h1, h2, h3 { break-after: avoid; }
  img, svg, tr { break-inside: avoid; }
  img { max-width: 12.5cm; max-height: 11cm; width: auto; }
  table { font-size: 8pt; }
  th, td { padding: .15rem .35rem; }
  thead { display: table-header-group; }
  main div { overflow: visible !important; }
}
"""

# A registry's names and a tool's output are in the page: whatever they hold, no script runs.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(title: str, body: str) -> str:
    """A whole HTML document around ``body``."""
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n"
        f"<body>\n<main>\n{body}\n</main>\n</body>\n</html>\n"
    )

"""Several figures with one key as a picture of its own: an SVG file that needs nothing else, light or dark."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

from fedsep.report.legend import swatch
from fedsep.report.plotting import HEIGHT, WIDTH
from fedsep.report.style import PALETTE

_COLUMN, _ROW = WIDTH * 72, HEIGHT * 72  # what matplotlib's inches are in the units of an SVG
_EDGE, _GAP, _LINE = 16.0, 18.0, 15.0
_LETTER = 6.6  # mean width of a letter of the key
_FONT = 'font-family="system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif"'
_VIEW = re.compile(r'<svg viewBox="[\d.]+ [\d.]+ ([\d.]+) ([\d.]+)"')


class Panel(NamedTuple):
    """A figure on a sheet: its title and its ``<svg>`` element."""

    title: str
    svg: str


def sheet(
    title: str, panels: Sequence[Panel], methods: Sequence[tuple[int, str]], caption: str, columns: int = 2
) -> str:
    """An SVG document.

    Args:
        title: Above everything.
        panels: Row by row.
        methods: The key: places of the methods in the palette, and their labels.
        caption: Below everything; wrapped.
        columns: Panels in a row at most.
    """
    columns = min(columns, len(panels))
    width = 2 * _EDGE + columns * _COLUMN + (columns - 1) * _GAP
    parts: list[str] = []
    y = _EDGE
    for line in textwrap.wrap(title, round(width / 8.6)):
        y += 16
        parts.append(_text(_EDGE, y, line, 14, "600"))
    key, y = _key(methods, y + 20, width)
    parts += key
    for row in (panels[at : at + columns] for at in range(0, len(panels), columns)):
        for column, panel in enumerate(row):
            x = _EDGE + column * (_COLUMN + _GAP)
            parts += [_text(x, y + _LINE, panel.title, 11.5, "600"), _placed(panel.svg, x, y + _LINE + 6, _COLUMN)]
        y += max(_ROW, *(_height(panel.svg, _COLUMN) for panel in row)) + 2 * _LINE
    y += 4
    for line in textwrap.wrap(caption, round(width / 6.2)):
        y += _LINE
        parts.append(_text(_EDGE, y, line, 10.5, colour="var(--soft)"))
    return _document(width, y + _EDGE, title, "".join(parts))


def _key(methods: Sequence[tuple[int, str]], y: float, width: float) -> tuple[list[str], float]:
    """The key's entries, wrapped, and where it ends."""
    made: list[str] = []
    x = _EDGE
    for style, label in methods:
        needs = 36 + _LETTER * len(label) + 12
        if x > _EDGE and x + needs > width - _EDGE:
            x, y = _EDGE, y + _LINE + 2
        made += [_placed(swatch(style).text, x, y - 9, 28), _text(x + 34, y, label, 11)]
        x += needs
    return made, y + 12


def _placed(svg: str, x: float, y: float, width: float) -> str:
    """An ``<svg>`` element at a place inside another one."""
    place = f'<svg x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{_height(svg, width):.1f}" '
    return svg.replace("<svg ", place, 1)


def _height(svg: str, width: float) -> float:
    """Of an ``<svg>`` element of this width."""
    found = _VIEW.search(svg)
    return width * float(found[2]) / float(found[1]) if found else width * 12 / 28


def _text(x: float, y: float, text: str, size: float, weight: str = "400", colour: str = "var(--ink)") -> str:
    style = f'font-size="{size:g}" font-weight="{weight}" style="fill:{colour}"'
    return f'<text x="{x:.1f}" y="{y:.1f}" {style}>{escape(text)}</text>'


def _document(width: float, height: float, title: str, body: str) -> str:
    size = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    style = f"<style>{PALETTE}svg{{color:var(--ink)}}</style>".replace("\n", "")
    ground = f'<rect width="{width:.0f}" height="{height:.0f}" rx="8" style="fill:var(--card)"/>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} {_FONT} role="img" aria-label="{escape(title)}">'
        f"{style}{ground}{body}</svg>\n"
    )

"""Draws docs/images/figure1.svg, the structure of FedSep: one server, clients of two layers, decode and encode between.

Usage: python -m benchmarks.figure1
"""

from __future__ import annotations

from pathlib import Path

from fedsep.report.style import PALETTE

PICTURE = Path("docs/images/figure1.svg")
WIDTH, HEIGHT = 720, 372
CLIENTS = ("client 1", "client m", "client M")
BOX, GAP = 208, 24
TOP, LAYER, BETWEEN = 128, 52, 68
_FONT = "system-ui,-apple-system,Segoe UI,Roboto,Helvetica,Arial,sans-serif"


def text(x: float, y: float, words: str, size: float = 13, *, soft: bool = False, bold: bool = False) -> str:
    """Words centred at a place."""
    look = f"fill:var(--{'soft' if soft else 'ink'})"
    font = f'font-size="{size}" font-weight="{600 if bold else 400}" text-anchor="middle"'
    return f'<text x="{x}" y="{y}" {font} style="{look}">{words}</text>'


def box(x: float, y: float, width: float, height: float, colour: str, fill: float = 0.12) -> str:
    """A rounded box in a colour of the palette."""
    return (
        f'<rect x="{x}" y="{y}" width="{width}" height="{height}" rx="8" '
        f'style="fill:var({colour});fill-opacity:{fill};stroke:var({colour});stroke-width:1.4"/>'
    )


def arrow(x1: float, y1: float, x2: float, y2: float) -> str:
    """A line with a head at its end."""
    line = 'fill="none" marker-end="url(#head)" style="stroke:var(--ink);stroke-width:1.3"'
    return f'<path d="M{x1} {y1}L{x2} {y2}" {line}/>'


def client(number: int, name: str) -> str:
    """A client: the communication layer above, the learning layer below, decode and encode between them."""
    x = (WIDTH - len(CLIENTS) * BOX - (len(CLIENTS) - 1) * GAP) / 2 + number * (BOX + GAP)
    middle, lower = x + BOX / 2, TOP + 14 + LAYER + BETWEEN
    letter = name.rpartition(" ")[2]
    indexed = f'y<tspan baseline-shift="super" font-size="10">({letter})</tspan>'
    height = 2 * LAYER + BETWEEN + 52
    return "".join([
        box(x, TOP, BOX, height, "--grid", 0.18),
        box(x + 14, TOP + 14, BOX - 28, LAYER, "--c0"),
        text(middle, TOP + 35, "communication layer"), text(middle, TOP + 54, "x, p numbers", 12, soft=True),
        box(x + 14, lower, BOX - 28, LAYER, "--c1"),
        text(middle, lower + 21, "learning layer"), text(middle, lower + 40, f"{indexed}, d numbers", 12, soft=True),
        arrow(middle - 34, TOP + 16 + LAYER, middle - 34, lower - 3),
        arrow(middle + 34, lower - 2, middle + 34, TOP + 17 + LAYER),
        text(middle - 66, lower - BETWEEN / 2 + 4, "decode", 12),
        text(middle + 68, lower - BETWEEN / 2 + 4, "encode", 12),
        text(middle, TOP + height - 14, name, 13, bold=True),
        arrow(WIDTH / 2 - 18 + 70 * (number - 1), 74, middle - 12, TOP - 3),
        arrow(middle + 12, TOP - 2, WIDTH / 2 + 18 + 70 * (number - 1), 77),
    ])  # fmt: skip


def picture() -> str:
    """The figure as an SVG document, light and dark."""
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    told = "FedSep: a server that holds x exchanges it with clients; on each, decode maps x to y and encode maps back"
    head = (
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
        'orient="auto"><path d="M0 0L8 4L0 8z" style="fill:var(--ink)"/></marker></defs>'
    )
    parts = [
        f"<style>{PALETTE}</style>".replace("\n", ""), head,
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" style="fill:var(--card)"/>',
        box(WIDTH / 2 - 160, 18, 320, 54, "--c2"),
        text(WIDTH / 2, 41, "server", bold=True),
        text(WIDTH / 2, 60, "x, moved by the mean of what comes back", 12, soft=True),
        text(120, 98, "download: x", 12), text(WIDTH - 84, 98, "upload: a change of x", 12),
        *(client(number, name) for number, name in enumerate(CLIENTS)),
    ]  # fmt: skip
    start = f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="{_FONT}" role="img" aria-label="{told}">'
    return start + "".join(parts) + "</svg>\n"


if __name__ == "__main__":
    PICTURE.write_text(picture(), encoding="utf-8")

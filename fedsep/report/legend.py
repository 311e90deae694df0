"""The key of the figures: each method's colour, dashes and marker, as the curves have them."""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedsep.report.markup import Content, Html, tag
from fedsep.report.plotting import COLOURS, DASHES

LONG = 16
"""Characters of a method's label up to which it stands in one line."""

_SHAPES = (
    '<circle cx="14" cy="6" r="3.4"/>',
    '<path d="M10.8 2.8h6.4v6.4h-6.4z"/>',
    '<path d="M14 2l4 7.4h-8z"/>',
    '<path d="M14 1.6l4 4.4-4 4.4-4-4.4z"/>',
    '<path d="M14 10l4-7.4h-8z"/>',
    '<path d="M12.6 2h2.8v2.6h2.6v2.8h-2.6V10h-2.8V7.4H10V4.6h2.6z"/>',
    '<path d="M11.2 1.6L14 4.4l2.8-2.8 1.6 1.6L15.6 6l2.8 2.8-1.6 1.6L14 7.6l-2.8 2.8-1.6-1.6L12.4 6 9.6 3.2z"/>',
    '<path d="M14 1.2l1.3 3.2 3.5.3-2.7 2.2.9 3.4-3-1.9-3 1.9.9-3.4-2.7-2.2 3.5-.3z"/>',
)


def swatch(style: int) -> Html:
    """The line of the method at position ``style``."""
    dashes = " ".join(f"{length:g}" for length in DASHES[style // COLOURS % len(DASHES)])
    dashed = f' stroke-dasharray="{dashes}"' if dashes else ""
    line = f'<path d="M1 6h26" fill="none" stroke="currentColor" stroke-width="2"{dashed}/>'
    shape = _SHAPES[style % len(_SHAPES)]
    return Html(
        f'<svg class="key" viewBox="0 0 28 12" aria-hidden="true" style="color:var(--c{style % COLOURS})">'
        f'{line}<g fill="currentColor">{shape}</g></svg>'
    )


def named(style: int, label: str) -> Html:
    """A method's swatch and label."""
    # a long name may break behind an underscore, so that a table's first column stays narrow on a phone
    words = re.split("(?<=_)", label) if len(label) > LONG else [label]
    parts: list[Content] = [piece for word in words for piece in (word, Html("<wbr>"))]
    return tag("span", [swatch(style), tag("span", parts[:-1])], class_="method")


def legend(methods: Iterable[tuple[int, str]]) -> Html:
    """All methods of a figure, wrapping where there is no room."""
    return tag("div", [named(style, label) for style, label in methods], class_="legend")

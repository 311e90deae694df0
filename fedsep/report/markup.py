"""HTML from values: everything that is text is escaped here, and only here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape
from typing import NamedTuple


class Html(NamedTuple):
    """Markup that is ready to be put into a page."""

    text: str


Content = Html | str | Iterable["Content"]
"""What an element holds: markup, text to be escaped, or a sequence of both."""


def render(content: Content) -> str:
    """Markup as a string; plain text is escaped."""
    if isinstance(content, Html):
        return content.text
    if isinstance(content, str):
        return escape(content)
    return "".join(render(part) for part in content)


def tag(name: str, content: Content = "", **attributes: str) -> Html:
    """An element; ``class_`` stands for ``class``."""
    told = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{told}>{render(content)}</{name}>")


def table(
    head: Sequence[Content], rows: Iterable[Sequence[Content]], title: str, caption: str = "", kind: str = "figures"
) -> Html:
    """A table that scrolls inside its own box; the first cell of a row is its heading."""
    titles = tag("thead", tag("tr", [tag("th", cell, scope="col") for cell in head]))
    body = [tag("tr", [tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])]) for row in rows]
    inner = tag("table", [titles, tag("tbody", body)], class_=kind)
    # focusable, so that a keyboard can scroll it; the caption stays in sight outside
    box = tag("div", inner, class_="scroll", tabindex="0", role="region", aria_label=title)
    return tag("div", [tag("p", [tag("b", title), f" {caption}".rstrip()], class_="caption"), box], class_="table")


def section(anchor: str, title: str, *content: Content) -> Html:
    """A part of the page with its heading."""
    return tag("section", [tag("h2", title), *content], id=anchor)


def paragraph(*content: Content) -> Html:
    """A paragraph."""
    return tag("p", content)


def code(text: str) -> Html:
    """Words of a program inside a sentence."""
    return tag("code", text)


def listing(text: str) -> Html:
    """Lines of a program or a file."""
    return tag("pre", tag("code", text), tabindex="0")


def fold(title: Content, content: Content) -> Html:
    """Something to be opened by who wants it."""
    return tag("details", [tag("summary", title), content])

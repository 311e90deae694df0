"""Makes a foreign SVG safe to put inside a page: no outside references, ids of its own, colours of the page.

matplotlib's output also shrinks to about half.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from xml.etree import ElementTree as Xml

_DROPPED = {"metadata", "script", "style", "foreignObject", "title", "desc"}
_FLOAT = re.compile(r"-?\d+\.\d{3,}")
_REFERENCE = re.compile(r"url\(#([^)]+)\)")
_FONT = re.compile(r"font-family:[^;]*;?\s*|(?<=font: )([\d.]+px)[^;]*")


def embed(text: str, prefix: str, label: str, colours: Mapping[str, str] | None = None) -> str:
    """An SVG document as an element of an HTML page.

    Args:
        text: The document.
        prefix: Put before every id; unique in the page.
        label: What the picture shows, for who cannot see it.
        colours: Colours by what they become, e.g. ``{"#000000": "currentColor"}``.

    Raises:
        xml.etree.ElementTree.ParseError: ``text`` is not XML.
    """
    root = Xml.fromstring(text)
    _clean(root)
    used = _references(root)
    for element in root.iter():
        _rewrite(element, prefix, used, colours or {})
    width, height = _size(root)
    root.attrib = {"viewBox": root.get("viewBox", f"0 0 {width} {height}"), "role": "img", "aria-label": label}
    return re.sub(r">\s+<", "><", Xml.tostring(root, encoding="unicode", short_empty_elements=True)).strip()


def _clean(element: Xml.Element) -> None:
    element.tag = _local(element.tag)
    for child in list(element):
        if _local(child.tag) in _DROPPED:
            element.remove(child)
        else:
            _clean(child)


def _local(name: str) -> str:
    return name.rsplit("}", 1)[-1]


def _references(root: Xml.Element) -> set[str]:
    values = [value for element in root.iter() for value in element.attrib.values()]
    inside = {found for value in values for found in _REFERENCE.findall(value)}
    return inside | {value[1:] for value in values if value.startswith("#")}


def _rewrite(element: Xml.Element, prefix: str, used: set[str], colours: Mapping[str, str]) -> None:
    attributes = {_local(name): value for name, value in element.attrib.items()}
    element.attrib = {
        name: _value(name, value, prefix, colours) for name, value in attributes.items() if _kept(name, value, used)
    }
    if element.tag not in ("text", "tspan"):
        element.text = None
    if element.tag != "tspan":
        element.tail = None


def _kept(name: str, value: str, used: set[str]) -> bool:
    if name == "href":
        return value.startswith(("#", "data:image/png;base64,"))
    if name == "id":
        return value in used
    return not name.startswith("on") and not (name == "transform" and value.startswith("rotate(-0 "))


def _value(name: str, value: str, prefix: str, colours: Mapping[str, str]) -> str:
    if name == "id":
        return prefix + value
    if name == "href" and value.startswith("#"):
        return f"#{prefix}{value[1:]}"
    if name == "href":
        return value
    value = _REFERENCE.sub(rf"url(#{prefix}\1)", value)
    for old, new in colours.items():
        value = value.replace(old, new)
    if name == "style":
        value = _FONT.sub(r"\1", value).replace("font: ", "font-size: ")
    return _FLOAT.sub(lambda found: f"{float(found[0]):.2f}", " ".join(value.split()))


def _size(root: Xml.Element) -> tuple[str, str]:
    return tuple(re.sub(r"[^\d.]", "", root.get(name, "100")) for name in ("width", "height"))  # type: ignore[return-value]

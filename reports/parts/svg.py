"""A little SVG: elements with cleaned text, coloured by the classes of the page's style sheet."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from reports.parts.text import clean

GUEST_COLOURS = 8
"""Guest colours in the style sheet (``--g0`` ...); a ninth guest takes the first again."""


def drawing(width: float, height: float, label: str) -> ET.Element:
    """An inline SVG that scales down with the page; ``label`` is read aloud by screen readers."""
    return ET.Element(
        "svg",
        {
            "xmlns": "http://www.w3.org/2000/svg",
            "viewBox": f"0 0 {_short(width)} {_short(height)}",
            "width": _short(width),
            "height": _short(height),
            "role": "img",
            "aria-label": clean(label, 200),
        },
    )


def add(parent: ET.Element, tag: str, **attributes: str | float) -> ET.Element:
    """Add an element. ``class_`` becomes ``class`` and ``stroke_width`` ``stroke-width``."""
    names = {key.rstrip("_").replace("_", "-"): _value(value) for key, value in attributes.items()}
    return ET.SubElement(parent, tag, names)


def text(parent: ET.Element, x: float, y: float, words: str, **attributes: str | float) -> ET.Element:
    """Add text; ``words`` may be foreign."""
    element = add(parent, "text", x=x, y=y, **attributes)
    element.text = clean(words, 200)
    return element


def tooltip(element: ET.Element, words: str) -> None:
    """Words shown when the pointer rests on ``element``."""
    add(element, "title").text = clean(words, 400)


def guest_class(index: int) -> str:
    """Style class of the guest numbered ``index``."""
    return f"g{index % GUEST_COLOURS}"


def to_text(root: ET.Element) -> str:
    """The SVG as markup, safe to put into a page."""
    return ET.tostring(root, encoding="unicode")


def _value(value: str | float) -> str:
    return value if isinstance(value, str) else _short(value)


def _short(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")

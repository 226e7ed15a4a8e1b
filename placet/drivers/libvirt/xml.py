"""Building XML documents for libvirt, element by element. Pure."""

from __future__ import annotations

from xml.etree import ElementTree as ET

Element = ET.Element


def add(parent: Element, tag: str, text: object = None, **attributes: object) -> Element:
    """Append an element; a trailing underscore of an attribute's name is dropped and others become hyphens."""
    element = ET.SubElement(parent, tag, {_attribute(name): str(value) for name, value in attributes.items()})
    if text is not None:
        element.text = str(text)
    return element


def to_text(root: Element) -> str:
    """The document as libvirt takes it."""
    return ET.tostring(root, encoding="unicode")


def parse(text: str) -> Element:
    """A document that libvirt made: it is trusted to be well-formed and free of entities."""
    return ET.fromstring(text)  # noqa: S314 - libvirt's own output, never a guest's or a user's


def _attribute(name: str) -> str:
    return name.rstrip("_").replace("_", "-")

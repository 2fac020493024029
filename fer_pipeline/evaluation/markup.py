"""HTML and SVG made of elements; text is escaped unless an element made it."""

from __future__ import annotations

import html
from collections.abc import Iterable

#: Elements of HTML that have no content and no end tag.
_VOID = frozenset({"br", "img", "meta"})


class Markup(str):
    """Text that is HTML already and is not escaped again."""

    __slots__ = ()


#: What an element may hold: text, which is escaped, markup, several of them, or nothing.
Content = str | Iterable["Content"] | None


def element(tag: str, /, *content: Content, **attributes: object) -> Markup:
    """Makes one element.

    Args:
      tag: its name.
      content: what is inside, in this order.
      attributes: ``class_`` is ``class``, an underscore inside a name is a hyphen. None and False
        leave the attribute out, True gives it no value.
    """
    pairs = []
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        attribute = key.rstrip("_").replace("_", "-")
        text = value if isinstance(value, str) else format_number(value)
        pairs.append(f" {attribute}" if value is True else f' {attribute}="{html.escape(text)}"')
    start = f"<{tag}{''.join(pairs)}>"
    return Markup(start if tag in _VOID else f"{start}{join(*content)}</{tag}>")


def join(*content: Content) -> Markup:
    """Puts text, which is escaped, and markup one after the other."""
    parts = []
    for part in content:
        if isinstance(part, Markup):
            parts.append(part)
        elif isinstance(part, str):
            parts.append(html.escape(part))
        elif part is not None:
            parts.append(join(*part))
    return Markup("".join(parts))


def format_number(value: object) -> str:
    """A number for an attribute: floats with two decimals at most."""
    return f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)

"""HTML and SVG from Python: everything that is not markup made here is escaped."""

from __future__ import annotations

import html
import unicodedata

from selfrepair.terminal import plain

_JOINERS = "\u200d\u200c"  # of emoji and scripts: without them other signs would be shown
_SEEN = {"\n": "⏎", "\t": "⇥"}


class Markup(str):
    """Text that is markup already."""

    __slots__ = ()


def shown(text: str) -> str:
    """Text from data with what cannot be seen made visible: line ends, controls, marks that turn text around."""
    return "".join(_SEEN.get(one) or (f"⟨U+{ord(one):04X}⟩" if _hidden(one) else one) for one in plain(text))


def _hidden(one: str) -> bool:
    return one not in _JOINERS and unicodedata.category(one) in ("Cc", "Cf", "Zl", "Zp")


def el(name: str, *children: str | None, **attributes: object) -> Markup:
    """An element. Children are escaped unless they are markup; None is left out.

    Args:
        name: of the element.
        children: what is in it.
        attributes: names with `_` for `-`, and a trailing `_` where Python has the word (`class_`); None and False are
            left out, True stands for an attribute without a value.
    """
    given = "".join(
        _attribute(key, value) for key, value in attributes.items() if value is not None and value is not False
    )
    return Markup(f"<{name}{given}>{join_markup(*children)}</{name}>")


def join_markup(*children: str | None) -> Markup:
    """Children one after the other, escaped unless they are markup."""
    return Markup("".join(str(escaped(child)) for child in children if child is not None))


def escaped(text: str) -> Markup:
    """Text as markup."""
    return text if isinstance(text, Markup) else Markup(html.escape(shown(text), quote=True))


def _attribute(key: str, value: object) -> str:
    name = key.rstrip("_").replace("_", "-")
    if value is True:
        return f" {name}"
    text = f"{value:.2f}".rstrip("0").rstrip(".") if isinstance(value, float) else str(value)
    return f' {name}="{escaped(text)}"'


def number(value: float, text: str, name: str = "") -> Markup:
    """A number as it is shown, with its exact value beside it."""
    return el("data", text, value=repr(float(value)), data_name=name or None)

"""Makes text from data (names of files, models and documents, tokens, libraries' messages) safe to show."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console as RichConsole
from rich.console import ConsoleOptions, RenderableType
from rich.segment import Segment

_SEEN = {code: chr(0x2400 + code) for code in range(32) if chr(code) not in "\n\t"} | {0x7F: "\u2421"}  # ESC is ␛
_HIDDEN = [*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]  # controls; they turn text around
_SHOWN_AS = _SEEN | dict.fromkeys(_HIDDEN, "\N{REPLACEMENT CHARACTER}")


def readable(text: str) -> str:
    r"""Valid Unicode: names on disk need not be, and Python passes their odd bytes on as halves of surrogate pairs.

    Those become `\xe9`, so that names that differ still do.
    """
    try:
        text.encode()
    except UnicodeEncodeError:
        kept = "".join(
            character if character < "\ud800" or "\udc80" <= character <= "\udcff" or character > "\udfff" else "?"
            for character in text
        )
        return kept.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return text


def plain(text: str) -> str:
    """The text without characters that steer a terminal: each becomes one that can be seen."""
    return readable(text).translate(_SHOWN_AS)


class Console(RichConsole):
    """A console for which text is data: no markup in brackets, no emoji codes, and nothing that steers the terminal.

    What is to be styled is given as `rich.text.Text`, or with `style=`.

    Args:
        options: as for `rich.console.Console`.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"markup": False, "emoji": False, "highlight": False} | options)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """See `rich.console.Console.render`."""
        for segment in super().render(renderable, options):
            yield segment if segment.control else Segment(plain(segment.text), segment.style)

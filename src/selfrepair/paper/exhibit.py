"""`Exhibit`, which every experiment returns: a table, numbers with intervals, a picture and its caption."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from selfrepair.paper.numbers.over_documents import Number
from selfrepair.pictures.picture import Picture


@dataclass(frozen=True)
class Exhibit:
    """One figure or table of the paper, measured on this model.

    Attributes:
        name: name of its files, e.g. `figure-01-overview`.
        figure: the paper's own name for it, e.g. `Figure 1`.
        section: the experiment it belongs to, e.g. `overview`.
        title: one line on its content.
        caption: model, operator, filter, tokens and documents, and how to read it.
        table: the data behind it.
        numbers: its main numbers, with intervals.
        picture: description of its picture; None for a table alone.
    """

    name: str
    figure: str
    section: str
    title: str
    caption: str
    table: pd.DataFrame
    numbers: tuple[Number, ...] = ()
    picture: Picture | None = None

    def number(self, name: str) -> Number:
        """The number of that name.

        Raises:
            KeyError: there is no such number.
        """
        for number in self.numbers:
            if number.name == name:
                return number
        raise KeyError(f"{self.name} has no number '{name}'; it has {[number.name for number in self.numbers]}")

    def _repr_html_(self) -> str:
        from html import escape

        numbers = "".join(f"<li>{escape(number.name)}: {escape(str(number))}</li>" for number in self.numbers)
        return f"<b>{escape(self.figure)}: {escape(self.title)}</b><p>{escape(self.caption)}</p><ul>{numbers}</ul>"

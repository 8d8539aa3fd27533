"""The page's views as objects that a notebook shows."""

from __future__ import annotations

import html
from dataclasses import dataclass, field

from selfrepair.report.page.build import PageRun, page_html
from selfrepair.results.runs import Run


@dataclass(frozen=True)
class View:
    """A view of the report; shows itself in a notebook.

    Attributes:
        text: the whole page, opened at the view.
        height: in pixels.
    """

    text: str = field(repr=False)
    height: int = 760

    def _repr_html_(self) -> str:
        return (
            f'<iframe srcdoc="{html.escape(self.text)}" width="100%" height="{self.height}" '
            'style="border: 1px solid #8884; border-radius: 8px" title="selfrepair report"></iframe>'
        )


def view(*runs: Run, at: str = "card", height: int = 760) -> View:
    """A view of one run, or of several beside each other.

    Example:
        >>> view(run, at="L1H0").height  # the last value of a notebook's cell is shown
        760

    Args:
        runs: the runs.
        at: `card`, `map`, `L9H6`, `text/L9H6`, `L9H6/token/3.17` (window and position), `comparison` or `method`.
        height: in pixels.

    Raises:
        SelfRepairError: a package that is missing.
    """
    return View(page_html([PageRun(run) for run in runs], start=at), height)

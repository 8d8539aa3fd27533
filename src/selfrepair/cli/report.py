"""`selfrepair report`: results folders as one HTML page."""

from __future__ import annotations

import webbrowser
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from selfrepair.errors import SelfRepairError
from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.results.runs import Run

PAGE = "report.html"


def report(
    folders: Annotated[list[Path], typer.Argument(help="Results folders; the others are compared with the first.")],
    out: Annotated[
        Path | None,
        typer.Option(help="The HTML file; by default report.html in the first folder, or here for several."),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Write one self-contained HTML page: card, map, heads, text, single tokens, comparison, method.

    It works offline and can be mailed. An existing file of that name is replaced.
    """
    from selfrepair.report.page import write_page

    path = write_page(folders, out or (folders[0] / PAGE if len(folders) == 1 else Path(PAGE)))
    size = path.stat().st_size / 1e6
    Console().print(f"Report: {path} ({size:.1f} MB)", soft_wrap=True)
    if open_:
        show_page(path)


def show_page(path: Path) -> None:
    """Opens a page in the user's browser.

    Raises:
        SelfRepairError: there is none.
    """
    if not webbrowser.open(path.resolve().as_uri()):
        raise SelfRepairError("No browser could be opened.", f"Open {path} yourself.")


def write_beside(run: Run, folder: Path) -> None:
    """Writes a finished run's page into its folder, or prints in one line why it could not."""
    from importlib.util import find_spec

    console = Console(stderr=True)
    if find_spec("jinja2") is None or find_spec("plotly") is None:
        console.print("No report.html: pip install 'selfrepair[report]'", soft_wrap=True)
        return
    from selfrepair.report.page import PageRun, write_page

    path = write_page([PageRun(run, folder)], folder / PAGE)
    Console().print(f"Report: {path}   (selfrepair show --open {folder})", soft_wrap=True)

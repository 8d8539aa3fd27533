"""Options that several verbs share."""

from __future__ import annotations

from typing import Annotated

import typer

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no remarks: only results, warnings and errors.")
]

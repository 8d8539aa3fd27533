"""The page's program: hand-written modules put one after the other, its style, and the charting library."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files

# Each file may use what those before it export; `import` and `export` are for people and editors, and are removed.
MODULES = (
    "format",
    "dom",
    "data",
    "route",
    "colours",
    "charts",
    "figure",
    "table",
    "ledger",
    "card",
    "map",
    "head",
    "text",
    "token",
    "comparison",
    "method",
    "app",
)
_IMPORT = re.compile(r"^import\s[^;]*;\n", re.MULTILINE)
_EXPORT = re.compile(r"^export\s+", re.MULTILINE)


@cache
def application() -> str:
    """All modules as one."""
    return "\n".join(_EXPORT.sub("", _IMPORT.sub("", _static(f"{name}.js"))) for name in MODULES)


@cache
def style() -> str:
    """The stylesheet."""
    return _static("page.css")


@cache
def library() -> str:
    """plotly.js, as the `plotly` package carries it."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def _static(name: str) -> str:
    return files("selfrepair.report.page").joinpath("static", name).read_text(encoding="utf-8")

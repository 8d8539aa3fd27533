"""Tests the ends of the range of versions that pyproject.toml states: `python tools/versions.py lowest` or `newest`.

Makes a virtual environment with the lowest, or the newest, version of every core dependency that pip finds for this
Python, and runs the tests that depend on them: the census of families, models, loading, engines, results, statistics.
torch stays the one that constraints.txt names: it alone is two gigabytes, and CPU builds of old ones are not on PyPI.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("test_zoo.py", "census", "model", "loading", "engine", "results", "statistics", "report")
EXTRAS = ".[gguf,plots,report,test]"
_REQUIREMENT = re.compile(r"([\w.-]+)>=([\w.]+)")
_OWN = "torch"


def requirements(end: str) -> list[str]:
    """What pip is asked for, besides the package with its extras.

    Args:
        end: `lowest` or `newest`.
    """
    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    bounds = dict(match.groups() for match in map(_REQUIREMENT.fullmatch, stated) if match)
    if len(bounds) != len(stated):
        sys.exit("A dependency in pyproject.toml is not of the form name>=version.")
    pins = (ROOT / "constraints.txt").read_text().split()
    torch = next(pin for pin in pins if pin.startswith(f"{_OWN}=="))
    names = [name for name in bounds if name != _OWN]
    return [torch, *(f"{name}=={bounds[name]}" if end == "lowest" else name for name in names)]


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("end", choices=("lowest", "newest"))
    parser.add_argument("--folder", type=Path, help="where the environment is made; .venv-lowest or .venv-newest")
    parser.add_argument("--workers", default="auto", help="processes that run tests")
    parser.add_argument("tests", nargs="*", help="what to run instead, as pytest takes it")
    asked = parser.parse_args()
    folder = (asked.folder or ROOT / f".venv-{asked.end}").absolute()
    venv.create(folder, with_pip=True)
    python, environment = str(folder / "bin" / "python"), {**os.environ, "PIP_COMPILE": "0", "HF_HUB_OFFLINE": "1"}
    install = [python, "-m", "pip", "install", "--quiet", "--upgrade", *requirements(asked.end), "-e", EXTRAS]
    subprocess.run(install, cwd=ROOT, env=environment, check=True)
    subprocess.run([python, "-m", "pip", "freeze", "--exclude-editable"], env=environment, check=True)
    tests = asked.tests or [f"tests/{room}" for room in ROOMS]
    sys.exit(
        subprocess.run([python, "-m", "pytest", "-n", asked.workers, *tests], cwd=ROOT, env=environment).returncode
    )


if __name__ == "__main__":
    main()

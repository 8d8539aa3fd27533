"""What tests would otherwise take from the machine and from whoever runs them: set to the same everywhere.

Importing this does it: libraries read some of it while they are imported, so this comes first in `conftest.py`.
"""

from __future__ import annotations

import atexit
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

_SET = {
    "HF_HUB_OFFLINE": "1",
    "USE_HUB_KERNELS": "NO",  # kernels from the hub, where the package for them is installed
    "COLUMNS": "80",  # as where there is no terminal
    "LINES": "25",
    "TERM": "dumb",
    "TZ": "UTC",
    "LC_ALL": "C.UTF-8",
    "MPLBACKEND": "agg",
    "CUDA_VISIBLE_DEVICES": "",  # every test is about the CPU
}
_UNSET = (
    *("FORCE_COLOR", "NO_COLOR", "CLICOLOR_FORCE", "PY_COLORS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"),
    *("GITHUB_ACTIONS", "TERMINAL_WIDTH", "JUPYTER_COLUMNS", "COLORTERM"),
    *("LANG", "LANGUAGE", "SELFREPAIR_CACHE", "RAY_ADDRESS"),
    *("TRANSFORMERS_CACHE", "HF_HUB_CACHE", "HF_TOKEN", "HF_ENDPOINT", "XDG_CONFIG_HOME", "MATPLOTLIBRC"),
)


def pin() -> None:
    """Fixes terminal, clock's zone, locale, home folder and the settings of libraries, for this process and others
    that it starts. Caches of what is expensive to make (the default model, fonts) stay where they are."""
    home = tempfile.mkdtemp(prefix="home-")
    atexit.register(shutil.rmtree, home, ignore_errors=True)
    os.environ["XDG_CACHE_HOME"] = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    for name in _UNSET:
        os.environ.pop(name, None)
    os.environ.update(_SET, HOME=home, HF_HOME=str(Path(home, "huggingface")))
    time.tzset()
    if os.environ.pop("PYTHONDONTWRITEBYTECODE", None):
        _keep_bytecode(Path(os.environ["XDG_CACHE_HOME"], "selfrepair-tests", "bytecode"))


def _keep_bytecode(folder: Path) -> None:
    """Where Python is told to leave no bytecode beside sources, it goes to a cache, for this process and others that it
    starts: each would spend five seconds on compiling torch and transformers otherwise."""
    os.environ["PYTHONPYCACHEPREFIX"] = sys.pycache_prefix = str(folder)
    sys.dont_write_bytecode = False


pin()


class Products:
    """Stands in for the speed trial of the delta engine's products: how fast each is, whatever the processor.

    Args:
        monkeypatch: undoes it.
    """

    def __init__(self, monkeypatch) -> None:
        self._monkeypatch = monkeypatch

    def take(self, **seconds: float) -> None:
        """Makes products of a precision take that long; those that are not named take one second."""
        from selfrepair.engine import choice

        self._monkeypatch.setattr(choice, "_seconds_of_product", lambda _model, name: seconds.get(name, 1.0))

    def outcome(self, fast: str) -> None:
        """One of the trial's outcomes: `bfloat16` or `int8` is three times as fast as full precision, or `neither`."""
        self.take(**({} if fast == "neither" else {fast: 1 / 3}))

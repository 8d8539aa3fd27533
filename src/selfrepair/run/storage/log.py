"""`log.txt` of a run's folder: what happened when, and in which process."""

from __future__ import annotations

import os
import socket
import stat
import time
from contextlib import suppress
from pathlib import Path

from selfrepair.errors import SelfRepairError
from selfrepair.reading import open_regular
from selfrepair.terminal import plain

LOG = "log.txt"
_APPEND = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
_LAST = 2**18  # bytes that are read


def log(folder: Path, message: str) -> None:
    """Adds a line. A log that cannot be written to stops no run."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    line = f"{when} {socket.gethostname()} {os.getpid()} {plain(' '.join(message.split()))}\n"
    with suppress(OSError), os.fdopen(os.open(folder / LOG, _APPEND, 0o666), "ab") as file:
        if stat.S_ISREG(os.fstat(file.fileno()).st_mode):  # a pipe that nobody reads would block
            file.write(line.encode())


def last_lines(folder: Path) -> list[str]:
    """The last lines of the log, as far as it can be read."""
    with suppress(OSError, SelfRepairError), open_regular(folder / LOG) as file:
        file.seek(max(0, file.seek(0, os.SEEK_END) - _LAST))
        return file.read(_LAST).decode("utf-8", "replace").splitlines()
    return []

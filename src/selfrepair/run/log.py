"""`log.txt` of a run's folder: what happened when, and in which process."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from pathlib import Path

from selfrepair.terminal import plain

LOG = "log.txt"


def log(folder: Path, message: str) -> None:
    """Adds a line. A log that cannot be written to stops no run."""
    when = time.strftime("%Y-%m-%d %H:%M:%S")
    with suppress(OSError), (folder / LOG).open("a", encoding="utf-8") as file:
        file.write(f"{when} {socket.gethostname()} {os.getpid()} {plain(' '.join(message.split()))}\n")

"""Ends workers whose driver has gone: a killed process can no longer end them itself."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from multiprocessing.connection import wait
from pathlib import Path

from selfrepair.run.storage.claim_holder import Holder
from selfrepair.run.storage.log import log

_LOOK = 1.0  # seconds
_ORPHANED = 4  # exit code


def end_with_driver(folder: Path, driver: Holder | None = None) -> None:
    """Ends this process soon after its driver has gone; its claim then counts as that of a dead process.

    Args:
        folder: folder of the run, to whose log this is written.
        driver: the process to outlast by no more than a moment; by default the one that started this one by
            `multiprocessing`, if any.
    """
    parent = multiprocessing.parent_process()
    if driver is None and parent is None:
        return

    def watching() -> None:
        if driver is None:
            assert parent is not None
            wait([parent.sentinel])  # a pipe that closes with the parent, however it ends
        else:
            while driver.lives() is not False:
                time.sleep(_LOOK)
        log(folder, "worker ends: the process that started it has gone")
        os._exit(_ORPHANED)

    threading.Thread(target=watching, daemon=True).start()

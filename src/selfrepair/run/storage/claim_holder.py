"""Which process holds a claim, and whether it still exists."""

from __future__ import annotations

import os
import socket
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


@dataclass(frozen=True)
class Holder:
    """A process, distinguished from all others on any machine, in any container and at any time.

    Attributes:
        host: name of the machine, for people; containers share it or make it up.
        place: where process numbers have one meaning: this machine since it was started, and one PID namespace. None
            if that is unknown (not Linux, or a foreign `/proc`).
        process: its number there.
        started: when it started, in clock ticks since the machine did; None if that is unknown.
    """

    host: str
    place: str | None
    process: int
    started: int | None

    @classmethod
    def me(cls) -> Holder:
        """This process."""
        here, process = _place(), os.getpid()
        return cls(socket.gethostname(), here, process, None if here is None else _started(process))

    @classmethod
    def parsed(cls, content: Any) -> Holder | None:
        """A holder back from JSON; None where it is none."""
        if not isinstance(content, dict):
            return None
        host, namespace, process, started = (content.get(name) for name in ("host", "place", "process", "started"))
        if type(process) is not int or process < 1:
            return None
        numbered = started if type(started) is int else None
        return cls(str(host), namespace if isinstance(namespace, str) else None, process, numbered)

    def described(self) -> dict[str, object]:
        """The holder as JSON."""
        return asdict(self)

    def lives(self) -> bool | None:
        """Whether the process still exists; None if that is unknown here.

        A process number means nothing in another PID namespace, after a restart of the machine, or once it was given
        to another process.
        """
        if self.place is None or self.started is None or self.place != _place():
            return None
        try:
            os.kill(self.process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # it exists, and is another user's
            pass
        except OverflowError:
            return None
        now = _started(self.process)
        return None if now is None else now == self.started


def _place() -> str | None:
    """Identity of the running machine and of the PID namespace; None if unknown."""
    with suppress(OSError, ValueError):
        if int((_PROC / "self").readlink().name) != os.getpid():
            return None  # `/proc` is that of another namespace: it tells of other processes
        boot = (_PROC / "sys/kernel/random/boot_id").read_text().strip()
        return f"{boot} {(_PROC / 'self/ns/pid').readlink()}"
    return None


def _started(process: int) -> int | None:
    """When a process started; 0 for one that has ended and is only waited for; None if unknown."""
    with suppress(OSError, ValueError, IndexError):
        fields = (_PROC / str(process) / "stat").read_text(errors="replace").rpartition(")")[2].split()
        return 0 if fields[0] in "ZX" else int(fields[19])
    return None

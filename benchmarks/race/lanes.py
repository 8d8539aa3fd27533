"""Contestants in processes of their own: none changes torch, memory or hooks under another, and one may fall."""

from __future__ import annotations

import contextlib
import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from race.runner import Lap, Runner
from race.task import Order
from selfrepair.errors import SelfRepairError


class OutOfTheRace(Exception):
    """A contestant could not start or did not finish; says why in a line."""


class Lane:
    """A contestant that is told what to do; in a process of its own unless `together`."""

    def __init__(self, name: str, order: Order, together: bool = False) -> None:
        self.name = name
        self._local = _Local(name, order) if together else None
        self._far = None if together else _Far(name, order)

    def warm_up(self) -> float:
        """See `Runner.warm_up`.

        Raises:
            OutOfTheRace: with the reason.
        """
        seconds: float = self._do("warm_up")
        return seconds

    def lap(self) -> Lap:
        """See `Runner.lap`.

        Raises:
            OutOfTheRace: with the reason.
        """
        lap: Lap = self._do("lap")
        return lap

    def close(self) -> None:
        """Ends the process."""
        if self._far is not None:
            self._far.close()

    def _do(self, what: str) -> Any:
        outcome, value = (self._local or self._far).do(what)  # type: ignore[union-attr]
        if outcome == "failed":
            raise OutOfTheRace(value)
        return value


class _Local:
    def __init__(self, name: str, order: Order) -> None:
        self._make, self._runner = lambda: Runner(name, order), None

    def do(self, what: str) -> tuple[str, Any]:
        try:
            self._runner = self._runner or self._make()
            return "done", getattr(self._runner, what)()
        except Exception as error:  # whatever a peer raises is its result
            return "failed", reason(error)


class _Far:
    def __init__(self, name: str, order: Order) -> None:
        context = multiprocessing.get_context("spawn")
        self._here, there = context.Pipe()
        self._process = context.Process(target=_serve, args=(there, name, order), daemon=True)
        self._process.start()
        there.close()

    def do(self, what: str) -> tuple[str, Any]:
        try:
            self._here.send(what)
            answer: tuple[str, Any] = self._here.recv()
            return answer
        except (EOFError, BrokenPipeError, ConnectionResetError):
            self._process.join()
            return "failed", f"its process ended with code {self._process.exitcode}"

    def close(self) -> None:
        with contextlib.suppress(BrokenPipeError, OSError):
            self._here.send(None)
        self._process.join()


def _serve(connection: Connection, name: str, order: Order) -> None:
    """The far side: does what it is told until told nothing."""
    local = _Local(name, order)
    while (what := connection.recv()) is not None:
        connection.send(local.do(what))


def reason(error: Exception) -> str:
    """Why a contestant is out, in a line."""
    if isinstance(error, ImportError):
        return f"not installed ({error}); pip install 'selfrepair[bench]'"
    if isinstance(error, SelfRepairError) and str(error).startswith("No engine is called"):
        return "missing in this version of selfrepair"
    first = (str(error).strip().splitlines() or [""])[0]
    return f"{type(error).__name__}: {first}"

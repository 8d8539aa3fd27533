"""The engines that take part, each behind the same two methods. A peer is imported when it is asked for."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from typing import Any, Protocol

from torch import Tensor

from race.task import Task
from selfrepair.ablation.sites import Head

ENGINES = ("delta", "delta-int8", "replay", "transformer_lens", "nnsight", "hooks")


class Contestant(Protocol):
    """An engine made ready for a task; making it ready is not timed."""

    def sweep(self, units: tuple[Head, ...]) -> Tensor:
        """Effect of ablating each head on the target's centred logit, [unit, window, position - 1]."""
        ...

    def facts(self) -> dict[str, Any]:
        """What else a row says of it: precision, whether the ledger is complete, versions."""
        ...


def enter(name: str, task: Task) -> Contestant:
    """The contestant of that name, ready for the task.

    Raises:
        ImportError: where the peer's package is not installed.
        SelfRepairError: for an engine that this version does not have.
    """
    if name.partition("-")[0] in ("delta", "replay", "reference"):
        from race.contestants.ours import Ours

        return Ours(name, task)
    makers: dict[str, str] = {
        "transformer_lens": "race.contestants.transformer_lens",
        "nnsight": "race.contestants.nnsight",
        "hooks": "race.contestants.hooks",
    }
    maker: Callable[[Task], Contestant] = import_module(makers[name]).Peer
    return maker(task)


def versions(*packages: str) -> dict[str, str]:
    """Versions of the packages a contestant rests on."""
    return {package: version(package) for package in ("torch", "transformers", *packages)}

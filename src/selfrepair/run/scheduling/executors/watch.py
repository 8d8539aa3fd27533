"""Shows the progress of workers, read from the folder that they share."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from types import TracebackType

from selfrepair.progress import Meter
from selfrepair.results.proven import Damaged
from selfrepair.run.planning.job import Design
from selfrepair.run.scheduling.early_stopping import UnitsSoFar
from selfrepair.run.scheduling.unit_loop import SURVEY_TITLE, SWEEP_TITLE, stage_progress, unit_tokens
from selfrepair.run.storage.store import Store
from selfrepair.run.unit.survey import STAGE as SURVEY
from selfrepair.run.unit.sweep import STAGE as SWEEP


class Watch:
    """Shows progress of the survey, then of the sweep, whenever it is asked to look.

    Args:
        design: the run.
        store: its finished units.
        shown: False for silence.
    """

    def __init__(self, design: Design, store: Store, shown: bool) -> None:
        self.design, self.store, self.shown = design, store, shown
        self._so_far, self._seen = UnitsSoFar(design, store), dict.fromkeys((SURVEY, SWEEP), 0.0)
        self._stack, self._stage = ExitStack(), ""
        self._meter: Meter | None = None

    def __enter__(self) -> Watch:
        self.look()
        return self

    def look(self) -> None:
        """Shows what has been done since the last look."""
        surveyed = self._done(SURVEY) >= self.design.windows.length * len(self.design.windows)
        for stage, title in ((SURVEY, SURVEY_TITLE), *([(SWEEP, SWEEP_TITLE)] if surveyed else [])):
            self._show(stage, title)

    def _show(self, stage: str, title: str) -> None:
        new = self._done(stage) - self._seen[stage]
        if stage == self._stage and self._meter is not None:
            if stage == SWEEP:
                with suppress(Damaged):  # reported where the unit is needed
                    self._meter.say(self._so_far.catch_up().describe())
            self._meter(new)
        elif self._stage != SWEEP:
            self._stack.close()
            self._stage, self._meter = stage, self._stack.enter_context(stage_progress(self.design, title, self.shown))
            self._meter.already(new)
        self._seen[stage] += new

    def _done(self, stage: str) -> float:
        return float(sum(unit_tokens(self.design, number) for number in self.store.finished(stage)))

    def __exit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.look()
        self._stack.close()

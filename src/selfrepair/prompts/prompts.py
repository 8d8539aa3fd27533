"""Stub."""
import numpy as np
from dataclasses import dataclass
from typing import Any
from selfrepair.effects.readouts import LogitDifference
@dataclass(frozen=True, eq=False)
class Prompts:
    """Stub."""
    tokens: np.ndarray; lengths: np.ndarray; corrupt: np.ndarray | None; answers: tuple[tuple[int, ...], ...]; wrong: tuple[tuple[int, ...], ...]; positions: np.ndarray
    spans: tuple[Any, ...]; ids: tuple[str, ...]; groups: tuple[str, ...]; texts: tuple[str, ...]; weights: np.ndarray
    def __len__(self) -> int: return len(self.tokens)
    def readout(self) -> LogitDifference: return LogitDifference(tuple(self.positions.tolist()), self.answers, self.wrong)
    def select(self, some: Any) -> "Prompts":
        t=lambda x: tuple(x[i] for i in some)
        return Prompts(self.tokens[some], self.lengths[some], None if self.corrupt is None else self.corrupt[some], t(self.answers), t(self.wrong), self.positions[some], t(self.spans), t(self.ids), t(self.groups), t(self.texts), self.weights[some])

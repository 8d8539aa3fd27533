from dataclasses import dataclass

from selfrepair.effects.readouts import LogitDifference


@dataclass(frozen=True, eq=False)
class Prompts:
    tokens: object
    lengths: object
    corrupt: object
    answers: tuple
    wrong: tuple
    positions: object
    spans: tuple
    ids: tuple
    groups: tuple
    texts: tuple
    weights: object

    def __len__(self):
        return len(self.tokens)

    def readout(self):
        return LogitDifference(tuple(self.positions.tolist()), self.answers, self.wrong)

    def select(self, some):
        t = lambda x: tuple(x[i] for i in some)
        return Prompts(
            self.tokens[some],
            self.lengths[some],
            None if self.corrupt is None else self.corrupt[some],
            t(self.answers),
            t(self.wrong),
            self.positions[some],
            t(self.spans),
            t(self.ids),
            t(self.groups),
            t(self.texts),
            self.weights[some],
        )

"""An operator of your own: what heads write is halved instead of replaced.

Run it on your model: `python examples/own_operator.py gpt2`.
"""

from __future__ import annotations

import sys
from typing import Any

from torch import Tensor

from selfrepair import LanguageModel, Operator, Port, Run, Source, Windows, load, measure, windows


class Halved(Operator):
    """Half of every output. Effects of half an ablation show whether repair grows in proportion to the damage."""

    name = "halved"

    def replacement(self, port: Port, clean: Tensor, source: Source, draw: int) -> Tensor:
        """What to put in the place of `clean` [window, position, head, head_dim]: a tensor of the same shape."""
        return clean / 2


def repair_of_halves(model: LanguageModel, text: Windows, **settings: Any) -> tuple[Run, Run]:
    """Runs with halved and with zeroed heads, on the same windows."""
    return (
        measure(model, text, ablation=Halved(), **settings),
        measure(model, text, ablation="zero", **settings),
    )


if __name__ == "__main__":
    model = load(*sys.argv[1:2])
    half, whole = repair_of_halves(model, windows(model.tokenizer, "builtin", tokens=1280))
    for run in (half, whole):
        effect = run.heads["total_effect"].sel(filter="all")
        print(f"{run.plan['ablation']['operator']:>7}: mean total effect {float(effect.mean()):+.4f} logits")

"""The ledger's lines, each defined once: every table, file, page and statistic takes names and texts from here.

The line of a mechanism says how much of the self-repair it accounts for; all lines of a ledger add up to it, token by
token. A new line is one entry here, and what engines book under its name.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Line:
    """One entry of the ledger.

    Attributes:
        name: in code and files (`repair_<name>`).
        title: in headings and legends.
        text: what it is, in a sentence.
        formula: how it is computed.
        units: of its values.
    """

    name: str
    title: str
    text: str
    formula: str
    units: str = "logits"

    @property
    def quantity(self) -> str:
        """What per-token quantities and columns of files call it."""
        return f"repair_{self.name}"


LINES = (
    Line(
        "heads",
        "heads",
        "change in direct effects of all heads that were not ablated themselves",
        "sum over heads of u . change of write / sigma",
    ),
    Line(
        "mlps",
        "MLPs",
        "change in direct effects of all MLPs that were not ablated themselves",
        "sum over MLPs of u . change of write / sigma",
    ),
    Line(
        "post_norms",
        "post-norms",
        "what the scales of norms behind attention did (Gemma 2 and 3, OLMo 2); zero in models without them",
        "u . change of attention's write / sigma - change of its heads' direct effects at the norm's clean scale",
    ),
    Line(
        "norm",
        "norm",
        "what the final norm's scale did",
        "(1 - sigma' / sigma) (logit' - beta)",
    ),
)

LINE_NAMES = tuple(line.name for line in LINES)
QUANTITIES = tuple(line.quantity for line in LINES)

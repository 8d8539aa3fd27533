"""How much is measured, and when it is enough: see `run.planning.settings`. No torch in here."""

# Without `from __future__ import annotations`: help is read from the annotations at run time.
from dataclasses import dataclass
from typing import Annotated

from selfrepair import choices
from selfrepair.run.planning.setting_fields import COMPUTING, Option

STOPS = ("card", "heads")
NO_SURROGATE = "none"
EXACT_SHARE = 0.1  # of the documents, where nothing else is asked for or known
OF_ALL = "gradient"
SURROGATES = (
    NO_SURROGATE,
    *choices.SURROGATES,
    *(f"{name}+{OF_ALL}" for name in choices.SURROGATES if name != OF_ALL),
)


@dataclass(frozen=True)
class Estimation:
    """Whether all documents are measured exactly, or a random part of them beside a surrogate on all."""

    surrogate: Annotated[
        str,
        Option(
            "What estimates effects on all documents, while a random part of them is measured exactly; intervals know "
            "both. For filters that choose tokens `own`, ablation at each token's own position, or `low-precision`, "
            "int8 products; for the filter `all` `gradient`, first-order effects of all heads by a few backward "
            "passes. `own+gradient`: both; without it, numbers of all tokens come from the exact part. `none`: all "
            "documents are measured exactly.",
            COMPUTING,
            plan="phases.surrogate",
            choices=SURROGATES,
        ),
    ] = NO_SURROGATE
    exact_share: Annotated[
        float | None,
        Option(
            "Share of the documents that are measured exactly where there is a surrogate; two documents at least. By "
            "default a tenth, and with --minutes what narrows intervals most, by what the pilot finds.",
            COMPUTING,
            plan="phases.exact_documents",
        ),
    ] = None


@dataclass(frozen=True)
class Stopping:
    """When to stop before all text is read: by what is known (`selfrepair.statistics.stopping`), or by time
    (`run.budget`)."""

    until_se: Annotated[
        float | None,
        Option(
            "Stop once the 95% interval is no wider than that of a number with this standard error, e.g. `0.01`. The "
            "interval allows for repeated looks, so the standard error at the stop is 0.5 to 0.75 of this. By default "
            "all text is measured.",
            COMPUTING,
            plan="until.standard_error",
        ),
    ] = None
    until: Annotated[
        str,
        Option(
            "Which number that standard error is of: `card`, the repaired fraction of all heads together; `heads`, the "
            "mean self-repair (logit) of every head.",
            COMPUTING,
            plan="until.of",
            choices=STOPS,
        ),
    ] = "card"
    minutes: Annotated[
        float | None,
        Option(
            "Measure for so many minutes: a pilot on a few documents finds how many windows of the text fit, and the "
            "plan has that many. `--tokens`, here by default 100,000 a minute, is the most; a text may have less. "
            "Loading, merging, pictures and close-ups come on top.",
            COMPUTING,
            plan="budget.minutes",
        ),
    ] = None

"""Plans estimation in two phases: which surrogate, and how many documents are measured exactly."""

from __future__ import annotations

import numpy as np

from selfrepair.engine.surrogates import Surrogates, surrogates_named
from selfrepair.errors import SelfRepairError
from selfrepair.results.plan import PhasesFacts
from selfrepair.run.planning.effort_settings import EXACT_SHARE, NO_SURROGATE
from selfrepair.run.planning.settings import POSITIONS, Settings
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.two_phase import FEWEST_EXACT
from selfrepair.text import Windows


def require_share(share: float | None) -> None:
    """Refuses a share of documents that is none; None stands for the usual one.

    Raises:
        SelfRepairError: it is not above 0 and at most 1.
    """
    if share is not None and not 0 < share <= 1:
        raise SelfRepairError(
            f"The share of documents to measure exactly must be above 0 and at most 1, not {share}.",
            "A tenth is usual: --exact-share 0.1.",
        )


def planned_phases(
    settings: Settings, windows: Windows, filters: list[Filter], of_heads: bool
) -> tuple[Surrogates, PhasesFacts | None]:
    """The surrogates and the plan's entry on them; none for a run that measures all documents exactly.

    Args:
        settings: what was asked for.
        windows: the corpus.
        filters: the run's filters.
        of_heads: whether the run ablates single heads.

    Raises:
        SelfRepairError: a share that is none, an unknown surrogate, or settings that do not go together.
    """
    estimation = settings.estimation
    require_share(estimation.exact_share)
    if estimation.surrogate == NO_SURROGATE:
        return Surrogates(), None
    surrogates = surrogates_named(estimation.surrogate)
    problem = _problem(settings, filters, of_heads, surrogates)
    if problem:
        raise SelfRepairError(
            f"A run cannot be estimated in two phases {problem}.", "Leave the surrogate out: --surrogate none."
        )
    scored = windows.scored(windows.first_scored(settings.statistics.first))
    documents = len(np.unique(windows.documents[:, :-1][scored]))
    if documents < FEWEST_EXACT:
        raise SelfRepairError(
            "Two phases need two documents at least; the text has tokens of one only.",
            "Give more text, or measure all of it: --surrogate none.",
        )
    share = EXACT_SHARE if estimation.exact_share is None else estimation.exact_share
    exact = max(FEWEST_EXACT, round(share * documents))
    of_tokens, of_all = surrogates
    return surrogates, {
        "surrogate": "+".join(surrogate.name for surrogate in surrogates.chosen),
        "words": "" if of_tokens is None else of_tokens.words,
        "words_of_all": "" if of_all is None else of_all.words,
        "exact_documents": exact,
        "documents": documents,
    }


def require_positions(settings: Settings, of_heads: bool) -> bool:
    """Whether heads are ablated at each token's own position only.

    Raises:
        SelfRepairError: unknown positions, or settings that do not go with one's own.
    """
    positions = settings.ablation.positions
    if positions not in POSITIONS:
        raise SelfRepairError(f"Unknown positions '{positions}'.", f"Give one of: {', '.join(POSITIONS)}.")
    if positions == "all":
        return False
    if not of_heads:
        raise SelfRepairError(
            "At its own position only a single head is ablated; this run has other interventions.",
            "Ablate them at all positions: --positions all.",
        )
    if settings.computing.engine != "auto" or settings.computing.precision is not None:
        raise SelfRepairError(
            "Ablation at a token's own position has an engine of its own; another one, or a precision, was given.",
            "Leave --engine and --precision out.",
        )
    return True


def _problem(settings: Settings, filters: list[Filter], of_heads: bool, surrogates: Surrogates) -> str:
    """Why a surrogate cannot be used; empty where it can."""
    if not of_heads:
        return "where interventions are not single heads"
    if settings.ablation.positions != "all":
        return "where heads are ablated at one position only, which is cheap already"
    of_tokens, of_all = surrogates
    if of_tokens is None and any(filter_.chooses for filter_ in filters):
        return "by a surrogate of all tokens alone where filters choose some (give own+gradient, or --filter all)"
    if of_tokens is not None and not any(filter_.chooses for filter_ in filters):
        return f"by '{of_tokens.name}' without a filter that chooses tokens, such as top:0.02"
    if of_all is not None and all(filter_.chooses for filter_ in filters):
        return f"by '{of_all.name}' without the filter all"
    return ""

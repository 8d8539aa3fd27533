"""Types of the entries of `plan.json`."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

ModelFacts = TypedDict(  # as a call, because of the entry `class`
    "ModelFacts",
    {
        "name": str,
        "source": dict[str, Any] | None,  # keywords of `load`; None for a model that came from memory
        "class": str,
        "weights": str,  # digest of weights and configuration
        "weights_sample": list[float],  # by which related models are recognised
        "dtype": str,
        "precision": str,  # what weights were on file, and what they were measured in
        "layers": int,
        "heads": int,
        "heads_by_layer": list[int],
        "vocabulary": dict[str, Any],
    },
)


class TextFacts(TypedDict):
    """The text of a run: beside these entries, the provenance of its windows."""

    fingerprint: str
    windows: int
    positions: int
    documents: int
    scored_tokens: int
    first_position: int
    source: NotRequired[str]


class AblationFacts(TypedDict):
    """The operator of a run and its donors."""

    operator: str
    by_name: bool  # whether name and donors alone make it again, in another process
    draws: int
    donors: int
    donors_fingerprint: str
    positions: str  # `all`, or `own`: only the one that predicts the token


class UntilFacts(TypedDict):
    """When a run may stop early: at which standard error, of `card` or `heads`."""

    standard_error: float
    of: str


class PhasesFacts(TypedDict):
    """Estimation in two phases: the surrogates, and how many of the documents (with scored tokens) are exact."""

    surrogate: str  # or one for filters that choose tokens and one for all tokens, with a + between
    words: str  # what that of chosen tokens does, for captions; empty for none
    words_of_all: str  # what that of all tokens does
    exact_documents: int
    documents: int


class BudgetFacts(TypedDict):
    """A given time, and how the amount of text was chosen to fit it; seconds are per window, as a pilot found them."""

    minutes: float
    windows_given: int  # the most that could have been taken
    windows_tried: int
    seconds_every: float  # of each window, though it be estimated only
    seconds_exact: float  # beside, of one that is measured exactly
    variance_left: float | None  # by the surrogate, of heads' means; None where the exact share was not chosen by it
    reason: str


class Subject(TypedDict):
    """The model, the text and the software of a run."""

    model: ModelFacts
    text: TextFacts
    versions: dict[str, str]


class EngineFacts(TypedDict):
    """How ablated runs are computed; `engine_settings` makes the engine again, `memory_predicted` is in bytes."""

    engine: str
    engine_settings: dict[str, Any]
    engine_reason: str
    engine_exact: bool
    engine_by_name: bool  # whether name and settings alone make it again, in another process
    memory_predicted: int
    windows_per_batch: int
    windows_per_exact_batch: int  # of those that are measured exactly
    windows_per_unit: int
    runs_held: int  # ablated runs of a batch that are in memory at a time


class Plan(Subject, EngineFacts):
    """Everything needed to repeat a run, frozen before it starts; JSON-able. Fields of `run.planning.settings` that it
    holds as they were given are under their own names."""

    created: str
    ablation: AblationFacts
    heads: list[list[int]]
    interventions: list[dict[str, Any]] | None
    filters: list[str]
    features: list[str]
    seed: int
    components: Literal["none", "layers", "heads"]
    sample: int
    replicates: int
    until: UntilFacts | None
    budget: BudgetFacts | None  # None where the amount of text was given
    phases: PhasesFacts | None  # None where all documents are measured exactly
    machine: dict[str, Any]
    texts: NotRequired[list[Plan]]

"""What can be asked for, one field an option: keywords of `measure`, options of the command line and the plan come
from here.

A new option is a field here with its help, its line in `Keywords` (for type checkers), and its use. No torch in here.
"""

# Without `from __future__ import annotations`: help is read from the annotations at run time.
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, TypedDict, Unpack

from selfrepair import choices
from selfrepair.run.planning.effort_settings import Estimation, Stopping
from selfrepair.run.planning.setting_fields import (
    ABLATION,
    COMPUTING,
    TEXT,
    Option,
    given_settings,
    require_known_setting,
    settings_of,
)

if TYPE_CHECKING:
    from selfrepair.ablation.name_lists import Spelled
    from selfrepair.ablation.operators import Operator
    from selfrepair.engine import Engine
    from selfrepair.statistics.accumulate import Components
    from selfrepair.statistics.filters import Filter

OPERATORS = tuple(choices.operators())  # those of installed packages too
ENGINES = ("auto", *choices.ENGINES)
FORMATS = ", ".join(f".{name}" for name in choices.TEXT_FORMATS)
FILTERS = ", ".join(("`all`", *(f"`{kind}:0.02`" for kind in choices.FILTERS)))
PRECISIONS = ("full", "bfloat16", "int8")
EXECUTORS = tuple(choices.EXECUTORS)
POSITIONS = ("all", "own")


@dataclass(frozen=True)
class Text:
    """The text that is measured on: what `windows` makes."""

    text: Annotated[
        str,
        Option(
            f"`builtin` (Python's own prose and code), a file ({FORMATS}), or a Hugging Face dataset id.",
            TEXT,
            plan="text.source",
        ),
    ] = "builtin"
    tokens: Annotated[
        int,
        Option(
            "Tokens to measure on, in whole windows; windows of shorter documents are padded.",
            TEXT,
            plan="text.tokens",
            least=1,
        ),
    ] = 640
    length: Annotated[int, Option("Tokens per window.", TEXT, plan="text.length", least=2)] = 64
    packing: Annotated[
        str,
        Option(
            "`documents`: windows stay within a document. `packed`: documents joined, as in the paper.",
            TEXT,
            plan="text.packing",
            choices=("documents", "packed"),
        ),
    ] = "documents"
    bos: Annotated[
        str,
        Option(
            "BOS before every window; `auto`: what the tokenizer puts in front of a text (none, one or several).",
            TEXT,
            plan="text.bos",
            choices=("auto", "always", "never"),
        ),
    ] = "auto"
    field: Annotated[str, Option("Column or key that holds the text.", TEXT, plan="text.field")] = "text"


@dataclass(frozen=True)
class Loading:
    """How the model is loaded: keywords of `load`."""

    dtype: Annotated[str, Option("float32 or float64.", COMPUTING, plan="model.dtype")] = "float32"
    device: Annotated[str, Option("`auto`, `cpu`, `cuda`, ...", COMPUTING, plan="model.source.device")] = "auto"
    revision: Annotated[
        str | None, Option("Branch, tag or commit of a hub model.", COMPUTING, plan="model.source.revision")
    ] = None
    offload: Annotated[
        bool,
        Option(
            "Keep weights on disk (in SELFREPAIR_CACHE) except the block in use, for models larger than memory.",
            COMPUTING,
            plan="model.source.offload",
        ),
    ] = False


@dataclass(frozen=True)
class Ablation:
    """What is ablated, and what comes in its place."""

    ablation: Annotated[
        "str | Operator",
        Option("What replaces a head's output.", ABLATION, plan="ablation.operator", choices=OPERATORS, typed=str),
    ] = "resample"
    donors: Annotated[
        int,
        Option(
            "Donors per window, for `resample`; effects are averaged over them.",
            ABLATION,
            plan="ablation.donors",
            least=1,
        ),
    ] = 1
    heads: Annotated[
        "Spelled | None",
        Option("Heads to ablate, e.g. `L9H6,L10`; all by default.", ABLATION, plan="heads", typed=str | None),
    ] = None
    positions: Annotated[
        str,
        Option(
            "Where a head is ablated. `all`: at all positions of the window. `own`: for each token only at the "
            "position that predicts it, with clean keys and values of earlier positions: another, cheaper quantity.",
            ABLATION,
            plan="ablation.positions",
            choices=POSITIONS,
        ),
    ] = "all"


@dataclass(frozen=True)
class Statistics:
    """Which tokens count, what is summed over them, and how sure the sums are."""

    filters: Annotated[
        "Sequence[Filter | str]",
        Option(
            f"Tokens that numbers average over: {FILTERS} (per head, by clean direct effect). Can be repeated.",
            ABLATION,
            plan="filters",
            flag="--filter",
            typed=list[str],
        ),
    ] = ("all", "top:0.02", "bottom:0.02")
    components: Annotated[
        "Components",
        Option(
            "Downstream components that get separate lines.",
            ABLATION,
            choices=("heads", "layers", "none"),
            typed=str,
        ),
    ] = "heads"
    first: Annotated[
        int,
        Option(
            "First position included in statistics; position 0 has no context, so it is left out by default.",
            ABLATION,
            plan="text.first_position",
            least=0,
        ),
    ] = 1
    seed: Annotated[int, Option("Random seed for windows, donors and the token sample.", ABLATION, least=0)] = 0
    replicates: Annotated[
        int, Option("Bootstrap resamplings of the documents, for errors and intervals.", ABLATION, least=2)
    ] = 400
    sample: Annotated[int, Option("Uniformly sampled tokens kept per head.", ABLATION, least=0)] = 64


@dataclass(frozen=True)
class Computing:
    """How ablated runs are computed."""

    engine: Annotated[
        "str | Engine",
        Option(
            "`delta`: differences, compiled, at low precision if that is accurate. `replay`: blocks from the ablated "
            "layer up. `reference`: full forwards, slow. `auto`: the fastest that a trial finds accurate.",
            COMPUTING,
            plan="engine",
            choices=ENGINES,
            typed=str,
        ),
    ] = "auto"
    precision: Annotated[
        str | None,
        Option(
            "Precision of the delta engine's matrix products; by default the fastest that a trial finds accurate to "
            "within 1% per token.",
            COMPUTING,
            plan="engine_settings.precision",
            choices=PRECISIONS,
        ),
    ] = None
    batch: Annotated[
        int | None,
        Option("Windows per batch; by default as many as fit in memory.", COMPUTING, plan="windows_per_batch", least=1),
    ] = None
    memory: Annotated[
        float | None,
        Option("Memory that a batch may take, in gigabytes.", COMPUTING, plan="memory_predicted"),
    ] = None


@dataclass(frozen=True)
class Work:
    """How many workers do the work, and where; the results do not depend on it."""

    workers: Annotated[int, Option("Workers that share the work.", COMPUTING, plan="", least=1)] = 1
    executor: Annotated[str, Option("Where workers run.", COMPUTING, plan="", choices=EXECUTORS)] = choices.HERE
    threads: Annotated[
        int | None,
        Option(
            "Threads per worker, part of the plan; by default the cores divided by the workers.",
            COMPUTING,
            plan="machine.threads",
            least=1,
        ),
    ] = None


class Keywords(TypedDict, total=False):
    """The fields of `Settings`, as `measure` takes them; a test holds the two equal."""

    ablation: "str | Operator"
    donors: int
    heads: "Spelled | None"
    positions: str
    filters: "Sequence[Filter | str]"
    components: "Components"
    first: int
    seed: int
    replicates: int
    sample: int
    engine: "str | Engine"
    precision: str | None
    batch: int | None
    memory: float | None
    surrogate: str
    exact_share: float | None
    until_se: float | None
    until: str
    minutes: float | None
    workers: int
    executor: str
    threads: int | None


@dataclass(frozen=True)
class Settings:
    """Everything that is asked of a run, its model and its text apart."""

    ablation: Ablation = Ablation()
    statistics: Statistics = Statistics()
    computing: Computing = Computing()
    estimation: Estimation = field(default_factory=Estimation)
    stopping: Stopping = field(default_factory=Stopping)
    work: Work = Work()

    @classmethod
    def of(cls, **keywords: Unpack[Keywords]) -> "Settings":
        """From the names of single fields; what is left out is at its default.

        Raises:
            SelfRepairError: a name that is no field.
        """
        names = [setting.name for group in GROUPS.values() for setting in settings_of(group)]
        for name in keywords:
            require_known_setting(name, names)
        return cls(**{part: group(**given_settings(group, keywords)) for part, group in GROUPS.items()})

    def as_given(self) -> dict[str, Any]:
        """The settings that the plan holds as they were given, by name."""
        groups = [getattr(self, part) for part in GROUPS]
        return {
            setting.name: getattr(group, setting.name)
            for group in groups
            for setting in settings_of(type(group))
            if setting.option.plan is None
        }


GROUPS: dict[str, Any] = {
    "ablation": Ablation,
    "statistics": Statistics,
    "computing": Computing,
    "estimation": Estimation,
    "stopping": Stopping,
    "work": Work,
}

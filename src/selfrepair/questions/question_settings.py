"""How a question is put to the model: keywords of `who`, `card` and `audit`, and options of the command line.

No torch in here.
"""

# Without `from __future__ import annotations`: help is read from the annotations at run time.
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from selfrepair import choices
from selfrepair.run.planning.setting_fields import Option

if TYPE_CHECKING:
    from selfrepair.ablation.operators import Operator
    from selfrepair.engine.contract import Engine

ABLATIONS = ("corrupt", *choices.operators(), "placebo")  # those of installed packages too
METRICS = tuple(choices.READOUTS)  # those of installed packages too
KNOCK_OUT_ORDERS = ("own effect", "direct effect", "line", "conditional", "random")
_ABLATION, _TESTS = "Ablation", "Tests"


@dataclass(frozen=True)
class AuditSettings:
    """How a question is put to the model."""

    ablation: Annotated[
        "str | Operator | None",
        Option(
            "What ablated components write instead: `corrupt` (as on the prompt's twin), `resample` (as on another "
            "prompt), `mean`, `position-mean`, `zero`, or `placebo` (random, as large). Default: corrupt if there "
            "are twins, else resample.",
            _ABLATION,
            choices=ABLATIONS,
            typed=str,
        ),
    ] = None
    metric: Annotated[
        str,
        Option(
            "What is measured at each answer: `logit-diff` (right less wrong answers), `log-prob` (of the answers; "
            "lines along the clean gradient and a line for the rest), `prob-diff` (the same of probabilities: right "
            "less wrong answers, as for greater-than), `kl` (of the ablated distribution from the clean one).",
            _ABLATION,
            choices=METRICS,
        ),
    ] = "logit-diff"
    exact: Annotated[
        bool,
        Option(
            "Lines of log-prob, prob-diff along each run's own mean gradient, which leaves no rest; thrice the time.",
            _ABLATION,
        ),
    ] = False
    donors: Annotated[
        int, Option("Under resample: other prompts that effects are averaged over.", _ABLATION, least=1)
    ] = 1
    seed: Annotated[int, Option("Random seed for donors, control sets and halves.", _ABLATION)] = 0
    top: Annotated[
        int, Option("Components to freeze for their lines; four more for their responses.", _TESTS, least=1)
    ] = 8
    controls: Annotated[int, Option("Like components to freeze for comparison.", _TESTS, least=0)] = 20
    rate: Annotated[float, Option("False discovery rate of the list of what covers.", _TESTS)] = 0.05
    least_share: Annotated[
        float,
        Option(
            "Share of what the circuit wrote that a missing component covers at least.", _TESTS, flag="--least-share"
        ),
    ] = 0.05
    operators: Annotated[
        tuple[str, ...] | None,
        Option(
            "Ablations that an audit tries besides; all that the prompts allow by default.", _TESTS, typed=list[str]
        ),
    ] = None
    engine: Annotated[
        "Engine | None", Option("Computes the ablated runs; replay by default.", _ABLATION, typed=Any)
    ] = None


_PROMPTS = "Prompts"
BOS, TWINS = ("auto", "always", "never"), ("equal", "none")


@dataclass(frozen=True)
class PromptSource:
    """Where prompts come from: a file, or the command line."""

    prompts: Annotated[
        str | None,
        Option("File of prompts; docs/prompts.md lists the formats.", _PROMPTS, typed=str | None),
    ] = None
    prompt: Annotated[
        tuple[str, ...] | None,
        Option("A prompt itself, instead of a file; can be repeated.", _PROMPTS, typed=list[str]),
    ] = None
    answer: Annotated[
        tuple[str, ...] | None,
        Option(
            'Its right answer, with the leading space; several for one prompt: `" Mary"`.', _PROMPTS, typed=list[str]
        ),
    ] = None
    against: Annotated[
        tuple[str, ...] | None,
        Option("Its wrong answer; without one, the answer's centred logit.", _PROMPTS, typed=list[str]),
    ] = None
    corrupt: Annotated[
        tuple[str, ...] | None, Option("Its corrupt twin, with as many tokens.", _PROMPTS, typed=list[str])
    ] = None
    format: Annotated[
        str | None,
        Option(f"Format of the file: by its content, or one of {', '.join(choices.PROMPT_FORMATS)}.", _PROMPTS),
    ] = None
    ids_of: Annotated[
        str | None, Option("Tokenizer that token ids in the file belong to.", _PROMPTS, flag="--ids-of")
    ] = None
    groups: Annotated[str | None, Option("Column that names each prompt's group (its template).", _PROMPTS)] = None
    counterfactual: Annotated[str | None, Option("Which of several twins of the file to take.", _PROMPTS)] = None
    first_token: Annotated[
        bool,
        Option("Compare the first token in which answers of several tokens differ.", _PROMPTS, flag="--first-token"),
    ] = False
    chat: Annotated[bool, Option("Put each prompt into the tokenizer's chat template.", _PROMPTS)] = False
    bos: Annotated[
        str, Option("What stands in front: `auto` (as the tokenizer does), `always` or `never`.", _PROMPTS, choices=BOS)
    ] = "auto"
    twins: Annotated[str, Option("Twins: `equal` in length, or `none`: not read.", _PROMPTS, choices=TWINS)] = "equal"
    most: Annotated[int | None, Option("Take the first so many prompts.", _PROMPTS, flag="--most", least=1)] = None

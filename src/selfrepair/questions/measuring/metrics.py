"""What can be measured of prompts by name (`--metric`): a readout, its units, and its title in a table's foot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from selfrepair.choices import READOUTS
from selfrepair.effects.bent_readouts import BentReadout
from selfrepair.effects.readouts import Readout
from selfrepair.prompts.prompts import Prompts


@dataclass(frozen=True)
class Metric:
    """A readout of prompts.

    Attributes:
        title: what it is, where the prompts have no wrong answers.
        title_against: the same where they have some.
        units: of its values.
        make: the readout of some prompts; raises a `SelfRepairError` where they lack what it needs.
        directed: whether more of it is better or worse, so that repair can be told from other change.
        always_exact: whether its lines always go along each run's own mean gradient, because its gradient on the clean
            run is zero.
    """

    title: str
    title_against: str
    units: str
    make: Callable[[Prompts], Readout | BentReadout]
    directed: bool = True
    always_exact: bool = False

    def describe(self, prompts: Prompts) -> str:
        """What it is of these prompts."""
        return self.title_against if any(prompts.wrong) else self.title


def metric_named(name: str) -> Metric:
    """The metric of that name, built in or from another package's entry point in `selfrepair.readouts`.

    Raises:
        SelfRepairError: there is none, or the package fails.
    """
    metric: Metric = READOUTS[name]
    return metric


def _log_probability(prompts: Prompts) -> BentReadout:
    wrong = prompts.wrong if all(prompts.wrong) else ()
    return BentReadout("log-prob", tuple(prompts.positions.tolist()), prompts.answers, wrong)


def _probability(prompts: Prompts) -> BentReadout:
    wrong = prompts.wrong if all(prompts.wrong) else ()
    return BentReadout("prob-diff", tuple(prompts.positions.tolist()), prompts.answers, wrong)


def _divergence(prompts: Prompts) -> BentReadout:
    return BentReadout("kl", tuple(prompts.positions.tolist()))


LOGIT_DIFFERENCE = Metric(
    "centred logit of the answers",
    "mean logit of the answers less that of the wrong ones",
    "logits",
    lambda prompts: prompts.readout(),
)
LOG_PROBABILITY = Metric(
    "log-probability of the answers",
    "log-probability of the answers less that of the wrong ones",
    "nats",
    _log_probability,
)
PROBABILITY_DIFFERENCE = Metric(
    "probability of the answers",
    "probability of the answers less that of the wrong ones",
    "probability",
    _probability,
)
DIVERGENCE = Metric(
    *("KL divergence of the ablated distribution from the clean one",) * 2,
    "nats",
    _divergence,
    directed=False,
    always_exact=True,
)

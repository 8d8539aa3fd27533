"""Whether claims hold, by intervals: a claim holds if its whole interval does, and fails if none of it does.

Anything else is undecided, and undecided is no pass; how many groups or prompts would decide is estimated from the
standard error. A claim whose number has no interval with ends (a ratio whose denominator may be zero, a
single prompt) is not measurable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from selfrepair.ablation.interventions import Intervention
from selfrepair.ablation.names import parse_names
from selfrepair.ablation.sites import Site
from selfrepair.circuits.circuit import Circuit
from selfrepair.errors import SelfRepairError
from selfrepair.questions.circuit.audit import audit
from selfrepair.questions.circuit.circuit_runs import CircuitRuns
from selfrepair.questions.circuit.faithfulness import faithfulness
from selfrepair.questions.claims.claims_file import Claim, ClaimsFile, bound
from selfrepair.questions.covering.who import covering
from selfrepair.questions.measuring.sampling import units_to_decide
from selfrepair.questions.question import Question
from selfrepair.statistics.estimates import Estimate

Status = Literal["holds", "fails", "undecided", "not measurable"]
EXIT_CODES: dict[Status, int] = {"holds": 0, "fails": 1, "undecided": 3, "not measurable": 3}


@dataclass(frozen=True)
class Judged:
    """What became of a claim.

    Attributes:
        claim: the claim.
        status: see `EXIT_CODES`.
        reason: the number that decided, with its interval and bound.
        decisive: about how many groups (or prompts) would decide; None where it is decided.
    """

    claim: Claim
    status: Status
    reason: str
    decisive: int | None = None


def judge(question: Question, claim: Claim, claims: ClaimsFile) -> Judged:
    """Measures what a claim says.

    Raises:
        SelfRepairError: terms that its kind does not have, or names of nothing.
    """
    kind, terms = KINDS[claim.kind]
    unknown = sorted(set(claim.terms) - terms)
    if unknown:
        raise SelfRepairError(
            f"The claim '{claim.name}' has an unknown term '{unknown[0]}'.",
            f"{claim.kind} takes {', '.join(sorted(terms))}.",
        )
    return kind(question, claim, claims)


def exit_code(judged: Sequence[Judged]) -> int:
    """0 if all hold, 1 if one fails, 3 if one is undecided or not measurable and none fails."""
    codes = {EXIT_CODES[one.status] for one in judged}
    return 1 if 1 in codes else max(codes, default=0)


def compared(question: Question, claim: Claim, estimate: Estimate, terms: Mapping[str, object], what: str) -> Judged:
    """Holds an estimate against `at_least` and `at_most`."""
    bounds = {
        name: bound(terms[name], f"'{name}' of '{claim.name}'") for name in ("at_least", "at_most") if name in terms
    }
    if not bounds:
        raise SelfRepairError(f"The claim '{claim.name}' has no bound.", "Give at_least or at_most.")
    value, low, high = float(estimate.value), float(estimate.low), float(estimate.high)
    shown = f"{what} {value:.2f} [{low:.2f}, {high:.2f}]"
    if not (math.isfinite(low) and math.isfinite(high)):
        return Judged(claim, "not measurable", f"{what} {value:.2f}: no interval with ends")
    least, most = bounds.get("at_least", -math.inf), bounds.get("at_most", math.inf)
    limits = " and ".join(f"{'≥' if name == 'at_least' else '≤'} {limit:g}" for name, limit in bounds.items())
    if low >= least and high <= most:
        return Judged(claim, "holds", f"{shown} {limits}")
    if high < least or low > most:
        return Judged(claim, "fails", f"{shown}, not {limits}")
    distance = min(abs(value - limit) for limit in bounds.values())
    needed = units_to_decide(question.sampling.number, float(estimate.standard_error), distance)
    decisive = math.ceil(needed) if math.isfinite(needed) else None
    return Judged(claim, "undecided", f"{shown}: the interval holds {limits.split()[-1]}", decisive)


def _sites(question: Question, given: object) -> tuple[Site, ...]:
    return tuple(parse_names(given, question.model))  # type: ignore[arg-type]


def _ablated(question: Question, claim: Claim, _claims: ClaimsFile) -> Judged:
    """`direct_effect`, `total_effect`, `repaired_share`: of sites that are ablated together."""
    run = Intervention(_sites(question, claim.subject), name="claimed")
    effects, sampling = question.measure([run], claim.name), question.sampling
    if claim.kind == "repaired_share":
        return compared(
            question, claim, sampling.ratio(effects.self_repair[0], effects.lost[0]), claim.terms, "repaired share"
        )
    quantity = effects.total_effect[0]
    if claim.kind == "direct_effect":
        direct = question.components.direct_effects(effects)
        quantity = direct[:, [question.components.index[site] for site in run.replaced]].sum(1)
    return compared(question, claim, sampling.mean(quantity), claim.terms, claim.kind.replace("_", " "))


def _covers(question: Question, claim: Claim, _claims: ClaimsFile) -> Judged:
    """`covers`: the share of the repair that is gone when a component is frozen, and whether it beats its controls."""
    if "for" not in claim.terms:
        raise SelfRepairError(f"The claim '{claim.name}' does not say for whom.", "Give for: the ablated components.")
    (site, *more), base = _sites(question, claim.subject), Intervention(_sites(question, claim.terms["for"]))
    if more:
        raise SelfRepairError(f"The claim '{claim.name}' names several.", "Make a claim for each.")
    sampling = question.sampling
    found = covering(question, question.measure([base], claim.name), base, None, [site])
    share = sampling.ratio(found.recovered([site]), found.whole)
    terms = claim.terms.get("share")
    limits = terms if isinstance(terms, Mapping) else {"at_least": 0.0}
    judged = compared(
        question, claim, share, {key: limits[key] for key in limits if key != "confidence"}, "share of repair"
    )
    if claim.terms.get("beats_controls"):
        row = found.table[found.table["component"] == str(site)].iloc[0]
        band = f"controls {row['control_low']:.2f} to {row['control_high']:.2f} logits"
        if not float(row["freeze"]) > float(row["control_high"]):
            return Judged(
                claim, "fails", f"{judged.reason}, and freezing it ({row['freeze']:.2f}) does not beat its {band}"
            )
        judged = Judged(claim, judged.status, f"{judged.reason}, {band}", judged.decisive)
    return judged


def _circuit(claim: Claim, claims: ClaimsFile, question: Question) -> Mapping[str, tuple[Site, ...]]:
    """A circuit from names or from a file beside the claims."""
    subject = claim.subject
    if isinstance(subject, str) and subject.startswith("@"):
        return Circuit.read(claims.beside(subject[1:]), model=question.model).roles
    return Circuit(subject).checked(question.model).roles  # type: ignore[arg-type]


def _uncovered(question: Question, claim: Claim, claims: ClaimsFile) -> Judged:
    """`uncovered_repair`: how much of what a circuit wrote comes back when all of it is ablated."""
    found = audit(question, _circuit(claim, claims, question))
    judged = compared(question, claim, found.covering.repaired_share, claim.terms, "uncovered")
    names = ", ".join(found.missing["component"])
    return Judged(claim, judged.status, f"{judged.reason}{f'; missing: {names}' if names else ''}", judged.decisive)


def _faithful(question: Question, claim: Claim, claims: ClaimsFile) -> Judged:
    """`necessity`, `faithfulness` of a circuit."""
    runs = CircuitRuns(question.components, _circuit(claim, claims, question))
    effects = question.measure([runs.circuit, runs.kept(), runs.nothing_kept], claim.name)
    found = faithfulness(effects, runs, question.sampling)
    estimate = found.necessity if claim.kind == "necessity" else found.faithfulness
    return compared(question, claim, estimate, claim.terms, claim.kind)


def _same_sign(question: Question, claim: Claim, _claims: ClaimsFile) -> Judged:
    """`same_sign_under`: whether self-repair has one sign under several ablations."""
    if "for" not in claim.terms or not isinstance(claim.subject, list):
        raise SelfRepairError(
            f"The claim '{claim.name}' is incomplete.", "Give same_sign_under: [zero, mean] and for: the components."
        )
    run = Intervention(_sites(question, claim.terms["for"]), name="claimed")
    signs: dict[str, int] = {}
    for name in map(str, claim.subject):
        effects = question.measure([run], f"{claim.name}: {name}", name)
        mean = question.sampling.mean(effects.self_repair[0])
        signs[name] = 1 if float(mean.low) > 0 else -1 if float(mean.high) < 0 else 0
    unsure = [name for name, sign in signs.items() if sign == 0]
    if {1, -1} <= set(signs.values()):
        return Judged(claim, "fails", ", ".join(f"{name} {sign:+d}" for name, sign in signs.items()))
    if unsure:
        return Judged(claim, "undecided", f"self-repair may be zero under {', '.join(unsure)}")
    return Judged(claim, "holds", f"self-repair has one sign under {', '.join(signs)}")


_BOUNDS = {"at_least", "at_most"}
_Kind = Callable[[Question, Claim, ClaimsFile], Judged]
KINDS: dict[str, tuple[_Kind, set[str]]] = {
    "direct_effect": (_ablated, _BOUNDS),
    "total_effect": (_ablated, _BOUNDS),
    "repaired_share": (_ablated, _BOUNDS),
    "covers": (_covers, {"for", "share", "beats_controls"}),
    "uncovered_repair": (_uncovered, _BOUNDS),
    "necessity": (_faithful, _BOUNDS),
    "faithfulness": (_faithful, _BOUNDS),
    "same_sign_under": (_same_sign, {"for"}),
}

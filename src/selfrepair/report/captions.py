"""Captions of tables and figures: filter, operator, tokens, intervals and checks of the run they show."""

from __future__ import annotations

import numpy as np

from selfrepair.model.vocabulary_rows import centring_in_words, is_plain
from selfrepair.report.number_formats import small
from selfrepair.results import checks
from selfrepair.results.runs import Run
from selfrepair.statistics.filters import Filter
from selfrepair.statistics.labels import AMPLIFIED, REPAIRED, LabelRule
from selfrepair.statistics.reaction import RATE
from selfrepair.terminal import plain

COVERS = (
    "where direct effects have heavy tails, 95% intervals of filtered means, r squared and the largest repairer cover "
    "79 to 92% (coverage.md)"
)
MARKS = {REPAIRED: "*", AMPLIFIED: "†"}  # beside a head's name


def fact(run: Run, name: str) -> str:
    """One of the run's attributes as text that steers no terminal or page; `unknown` if it is missing."""
    return plain(str(run.interventions.attrs.get(name, "unknown")))


def operator_with_donors(run: Run) -> str:
    """The ablation operator with its donors, and where it ablates if that is not everywhere."""
    donors, where = fact(run, "donors"), ""
    if fact(run, "positions") == "own":
        where = " at each token's own position only"
    ablation = f"{fact(run, 'operator')} ablation"
    return (ablation if donors in ("unknown", "none", "", "0") else f"{ablation} (donors: {donors})") + where


def phases(run: Run) -> str:
    """The phases in which numbers are estimated, in words; empty where all documents are measured exactly."""
    attributes = run.interventions.attrs
    documents, exact = (attributes.get(f"phases_{name}") for name in ("documents", "exact_documents"))
    if documents is None or exact is None:
        return ""
    surrogates = [plain(str(attributes.get(f"phases_{name}", ""))) for name in ("words", "words_of_all")]
    said = ", ".join(filter(None, (surrogates[0], surrogates[1] and f"{surrogates[1]} of all tokens")))
    return f"{said} on {int(documents):,} documents, exact on {int(exact):,}; intervals know both"


def ablated(run: Run) -> str:
    """What each ablated run replaces: a `head`, or another `intervention`."""
    return "head" if run.of_heads else "intervention"


def lost(run: Run) -> str:
    """What there is to repair, in words."""
    return "what heads lose" if run.of_heads else "what ablations take away"


def chosen_tokens(label: str, what: str = "head") -> str:
    """A filter in words; `what`: as `ablated` has it."""
    return "all tokens" if label == "all" else f"each {what}'s {label} of tokens by clean direct effect"


def how_estimated(run: Run, label: str) -> str:
    """How a filter's numbers were estimated, to follow its tokens; empty where all documents are measured exactly."""
    two_phases = phases(run)
    if not two_phases:
        return ""
    if Filter.parse(label).chooses or run.interventions.attrs.get("phases_words_of_all"):
        return f", estimated in two phases: {two_phases}"
    return f" that were measured exactly, for {int(run.interventions.attrs['phases_documents']):,}"


def amount(run: Run, label: str) -> str:
    """Tokens per head (or intervention) under this filter and the documents they come from, in words."""
    what, part = ablated(run), run.interventions.sel(filter=label)
    counts, documents = part["count"].values, part["documents"].values
    measured = counts > 0
    if not measured.any():
        return f"no {what} has tokens"
    tokens = f"{span(counts[measured])} tokens per {what} from {span(documents[measured])} documents"
    tokens += how_estimated(run, label)
    texts = int(run.interventions.attrs.get("texts", 1))
    tokens += f" of {texts} texts, chosen within each" if texts > 1 else ""
    without = run.heads_there_are - int(measured.sum())
    return f"{tokens}; {without} of {run.heads_there_are} {what}s have none" if without else tokens


def errors(run: Run) -> str:
    """What intervals are, whether the filter could be applied exactly in every replicate, and what they cover."""
    intervals = "95% intervals from a bootstrap over documents, the filter applied again in each replicate"
    short = run.interventions.attrs.get("inexact_replicates", 0)
    if isinstance(short, float | int) and short > 0:
        share = f"{100 * short:.0f}%" if short >= 0.01 else "1%"
        intervals += f" (for some {ablated(run)}s with too few kept tokens to do so exactly in up to {share} of them)"
    return f"{intervals}; {COVERS}"


def discoveries(run: Run, label: str) -> str:
    """How many heads (or interventions) are labelled repaired, and how many amplified, under this filter."""
    part = run.interventions.sel(filter=label)
    tested = int(np.isfinite(part["q_value"].values).sum())
    untested = int((part["count"].values > 0).sum()) - tested
    counts = {name: int((part["label"].values == name).sum()) for name in MARKS}
    counted = f"{ablated(run)}s repaired at a false discovery rate of {100 * RATE:g}%: {counts[REPAIRED]} of {tested}"
    counted += f", amplified: {counts[AMPLIFIED]}" if counts[AMPLIFIED] else ""
    return f"{counted} ({untested} more could not be tested)" if untested > 0 else counted


def repaired_rule(*marked: str) -> str:
    """The rule by which a head is called repaired, with the marks of the labels that are shown."""
    rule = f"{MARKS[REPAIRED]} repaired: {rule_in_words()}"
    return f"{rule}; {MARKS[AMPLIFIED]} amplified: the same on opposite sides" if AMPLIFIED in marked else rule


def rule_in_words() -> str:
    """The rule by which a head is called repaired."""
    return (
        "the interval of self-repair leaves out zero, that of lost DE sizes up to "
        f"{LabelRule().negligible:g}, both lie on the same side, and the head passes the false-discovery rule over the "
        f"filter's heads (Benjamini-Hochberg, {100 * RATE:g}%)"
    )


def positions_left_out(run: Run) -> str:
    """Which positions statistics leave out."""
    first = int(run.interventions.attrs.get("first_position", 1))
    if first == 0:
        return "no position left out"
    return "position 0 left out" if first == 1 else f"positions 0 to {first - 1} left out"


def centring_note(run: Run) -> str:
    """Over which rows of the vocabulary logits are centred, where some are padding or masked; else empty."""
    model = run.plan.get("model")
    vocabulary = model.get("vocabulary") if isinstance(model, dict) else None
    return centring_in_words(vocabulary) if vocabulary and not is_plain(vocabulary) else ""


def floor(run: Run) -> str:
    """Numerical floor and ledger residual in centred logits, and the error of an inexact engine, about which a floor of
    zero says nothing."""
    floors = [
        f"{label} {small(run.interventions.attrs[name])}"
        for name, label in (("numerical_floor", "numerical floor"), ("ledger_residual", "ledger residual"))
        if name in run.interventions.attrs
    ]
    engine = engine_error(run)
    floors = [f"{' · '.join(floors)} (logit)" if floors else "numerical floor not measured"]
    return " · ".join([*floors, *([f"engine's error per token {engine}"] if engine else [])])


def engine_error(run: Run) -> str:
    """How far the effects of an engine that is not exact are off, in words; empty for an exact one."""
    error = run.outcome.get("relative_error")
    if isinstance(error, float):
        return f"{100 * error:.2g}% of the effects' RMS (a sample against replay)"
    return "not measured" if run.plan.get("engine_exact") is False else ""


def status_warning(run: Run) -> str:
    """A warning where the run did not finish, or its checks fail; else empty."""
    state = fact(run, "status")
    if failed := checks.failed(run.outcome):
        return f"Run {state}. {' '.join(failed)} Do not use these numbers."
    if state in ("unknown", "complete", "finished", "done"):
        return ""
    return f"Run {state}: {ablated(run)}s may have few tokens or none."


def donors_needed_note(run: Run) -> str:
    """How many donors the run's question needs, in words; empty if one donor was drawn."""
    if "donors_needed" not in run.interventions:
        return ""
    needed = run.interventions["donors_needed"].values
    known = needed[~np.isnan(needed)]
    if not len(known):
        return ""
    half, what = float(np.median(known)), ablated(run)
    return (
        f"donors: {fact(run, 'donors')} drawn; with {half:g} they would make up at most a tenth of the variance of "
        f"the mean self-repair (all tokens) of half of the {what}s, with {float(known.max()):g} of every {what}."
    )


def stopping_note(run: Run) -> str:
    """The estimate at which a run stopped early, with an interval valid at every look; empty for other runs."""
    until = run.outcome.get("until")
    if not until:
        return ""
    number = "repaired fraction" if until["of"] == "card" else "mean self-repair (logit)"
    what = ablated(run)
    who = f"all {what}s together" if until["of"] == "card" else f"each {what}; widest for {until['head']}"
    read = f"{until['documents']:,} of {until['of_documents']:,} documents"
    if phases(run):
        read += f" ({until['exact_documents']:,} of them exactly)"
    how = f"stopped early after {read}" if until["reached"] else f"not reached after {read}"
    return (
        f"Until a standard error of {until['standard_error']:g} ({number}, {who}, {until['filter']}): {how}, at "
        f"{until['estimate']:.3f}, 95% interval {until['low']:.3f} to {until['high']:.3f}, which holds although the "
        "run was looked at after every unit; the others are as for a run planned at this size."
    )


def span(counts: np.ndarray) -> str:
    """Counts in words: one number if all are equal, else the smallest and the largest."""
    low, high = int(counts.min()), int(counts.max())
    return f"{high:,}" if low == high else f"{low:,} to {high:,}"

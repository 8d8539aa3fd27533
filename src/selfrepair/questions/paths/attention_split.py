"""Why a head's line changed: because it attends elsewhere (QK), or because its sources hold something else (OV).

    line = sum_s (a'_s - a_s) (v_s + v'_s) / 2 . u  [QK]  +  sum_s (a_s + a'_s) / 2 (v'_s - v_s) . u  [OV]

at the answer's position, over source tokens s, with the attention weights a, and values v as the readout's direction u
sees them through the head's output weights; primes mark the ablated run. It is an identity, per prompt and head. QK is
split further, by the Shapley value of the two sides that weights are made of: queries (what the head looks for) and
keys (what its sources offer).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd
from torch import Tensor

from selfrepair.ablation.interventions import Intervention, ports_of
from selfrepair.ablation.operators import Operator
from selfrepair.ablation.sites import Head
from selfrepair.engine.ablated_reads import AblatedReads, ablated_reads, clean_reads
from selfrepair.engine.accounts import require_sites
from selfrepair.engine.attention_parts import HeadReads, readable_attention
from selfrepair.engine.clean import CleanRun
from selfrepair.engine.direct_outputs import rest_frozen
from selfrepair.errors import SelfRepairError
from selfrepair.model.language_model import LanguageModel
from selfrepair.model.ports import Port
from selfrepair.model.proofs import tolerance
from selfrepair.prompts.prompts import Prompts
from selfrepair.questions.measuring.batches import Batch, batches
from selfrepair.questions.measuring.components import lies_in
from selfrepair.questions.measuring.inputs import PromptInputs, operator_for, replacement_of
from selfrepair.questions.measuring.prompt_effects import Array
from selfrepair.questions.measuring.sampling import Sampling
from selfrepair.questions.paths.source_places import Places, places_of, token_texts
from selfrepair.statistics.estimates import Estimate


@dataclass(frozen=True, eq=False)
class AttentionSplit:
    """Lines of K heads on P prompts, by S source tokens; all but attention in logits of the readout.

    Attributes:
        prompts: the prompts.
        intervention: the ablated run.
        heads: in the order of the first axis.
        operator: what replaced sites got.
        direct: whether lines are direct edges from the replaced sites (`selfrepair.questions.paths.direct_edges`).
        line: change in each head's direct effect, from its output, [K, P].
        before: attention at the answer's position in the clean run, [K, P, S]; 0 behind a prompt's end.
        after: in the ablated run; with several draws the mean over them.
        qk_parts: what came of attending to each source more or less, [K, P, S].
        ov_parts: what came of each source's value, [K, P, S].
        query: share of the queries in QK, [K, P]; NaN where it was not asked for or cannot be told.
        key: share of the keys.
        texts: every prompt's tokens as text.
    """

    prompts: Prompts
    intervention: Intervention
    heads: tuple[Head, ...]
    operator: str
    direct: bool
    line: Array
    before: Array
    after: Array
    qk_parts: Array
    ov_parts: Array
    query: Array
    key: Array
    texts: tuple[tuple[str, ...], ...]

    @property
    def qk(self) -> Array:
        """What came of attending elsewhere, [K, P]."""
        return np.asarray(self.qk_parts.sum(-1))

    @property
    def ov(self) -> Array:
        """What came of other values, [K, P]."""
        return np.asarray(self.ov_parts.sum(-1))

    @property
    def residual(self) -> float:
        """The largest line that its parts do not add up to: rounding."""
        return float(np.abs(self.line - self.qk - self.ov).max(initial=0))

    @cached_property
    def sampling(self) -> Sampling:
        """What intervals are over."""
        return Sampling.of(self.prompts)

    @property
    def qk_share(self) -> Estimate:
        """`sum |QK| / sum (|QK| + |OV|)` over prompts, [K]."""
        qk, ov = np.abs(self.qk), np.abs(self.ov)
        return self.sampling.ratio(qk, qk + ov)

    def row(self, head: Head) -> int:
        """Where a head is on the first axis.

        Raises:
            SelfRepairError: it was not split.
        """
        if head not in self.heads:
            raise SelfRepairError(
                f"{Head(*head)} was not split.", f"There are: {', '.join(map(str, self.heads)) or 'none'}."
            )
        return self.heads.index(head)

    def table(self) -> pd.DataFrame:
        """One row per head: means over prompts, in logits, with the interval of the line and of QK's share."""
        line, share = self.sampling.mean(self.line), self.qk_share
        means = {name: self.sampling.mean(getattr(self, name)).value for name in ("qk", "ov", "query", "key")}
        return pd.DataFrame(
            {
                "head": [str(head) for head in self.heads],
                "line": line.value,
                "line_low": line.low,
                "line_high": line.high,
                **means,
                "qk_share": share.value,
                "qk_share_low": share.low,
                "qk_share_high": share.high,
            }
        )

    def sources(self, head: Head, prompt: int, top: int = 5) -> pd.DataFrame:
        """The source tokens of one prompt that a head's line changed by most.

        Args:
            head: which head.
            prompt: number of the prompt.
            top: how many.
        """
        row, length = self.row(head), int(self.prompts.lengths[prompt])
        values = {name: getattr(self, name)[row, prompt, :length] for name in _PARTS}
        table = pd.DataFrame({"position": np.arange(length), "token": self.texts[prompt], **_named(values)})
        order = np.argsort(-np.abs(table["part"].to_numpy()), kind="stable")[:top]
        return table.iloc[order].reset_index(drop=True)

    def shifts(self, head: Head) -> pd.DataFrame:
        """Where a head's attention went, in means over prompts: by named spans where all prompts have some, else by
        distance from the answer's position. Attention and parts of all places add up, unless spans overlap.

        Args:
            head: which head.
        """
        row, places = self.row(head), self.places
        values = {name: self.sampling.mean(places.sums(getattr(self, name)[row])).value for name in _PARTS}
        return pd.DataFrame({"place": places.names, "token": places.tokens(self.texts), **_named(values)})

    @cached_property
    def places(self) -> Places:
        """What `shifts` has a row for."""
        return places_of(self.prompts)


_PARTS = ("before", "after", "qk_parts", "ov_parts")


def _named(values: dict[str, Array]) -> dict[str, Array]:
    before, after, qk, ov = (values[name] for name in _PARTS)
    return {"before": before, "after": after, "qk": qk, "ov": ov, "part": qk + ov}


def attention_split(
    model: LanguageModel,
    prompts: Prompts,
    intervention: Intervention,
    heads: Sequence[Head],
    ablation: str | Operator | None = None,
    *,
    donors: int = 1,
    seed: int = 0,
    sides: bool = True,
    direct: bool = False,
) -> AttentionSplit:
    """Splits the lines of some heads in an ablated run by what they attend to and what they read there.

    Args:
        model: the model.
        prompts: with their answers.
        intervention: the ablated run.
        heads: which; none of those that the run replaces or freezes.
        ablation: what replaced sites get; see `prompt_effects`.
        donors: other prompts that each one draws on under `resample`; parts are averaged over them.
        seed: of the donors' draw.
        sides: whether QK is split by queries and keys, for three more forwards per batch.
        direct: splits what the heads do because of the replaced sites' own writes alone, with all else as it was.

    Raises:
        SelfRepairError: heads that the model does not have, that the run replaces or freezes, or whose outputs are not
            the weighted sums of values.
    """
    operator, chosen = operator_for(ablation, prompts, donors, model, seed), tuple(Head(*head) for head in heads)
    _require_free(intervention, chosen)
    require_sites(model, int(prompts.lengths.min()), [Intervention(chosen)])
    lines, by_source = (len(chosen), len(prompts)), (len(chosen), len(prompts), prompts.tokens.shape[1])
    split = AttentionSplit(
        prompts,
        intervention,
        chosen,
        operator.name,
        direct,
        **{name: np.zeros(lines) for name in ("line", "query", "key")},
        **{name: np.zeros(by_source) for name in _PARTS},
        texts=token_texts(model.tokenizer, prompts),
    )
    means: dict[Port, Tensor] = {}
    layers = sorted({head.layer for head in chosen})
    with model.running(), readable_attention(model):
        for batch in batches(model, prompts, [rest_frozen(model.anatomy, intervention) if direct else intervention]):
            ports = ports_of(batch.interventions)
            clean, before = clean_reads(model, batch.tokens, batch.reading(model), ports, layers)
            inputs = PromptInputs(model, prompts, batch, ports, means, seed)
            for draw in range(operator.draws):
                replacement = replacement_of(operator, clean, inputs, draw)
                after = ablated_reads(model, clean, before, batch.interventions[0], replacement, sides)
                for row, head in enumerate(chosen):
                    parts = _parts(model, clean, head, before[head.layer], after)
                    _add(split, row, batch, parts, operator.draws)
    return split


def _require_free(intervention: Intervention, heads: Sequence[Head]) -> None:
    taken = next((head for head in heads if lies_in(head, intervention.sites)), None)
    if taken is not None:
        raise SelfRepairError(
            f"{taken} is itself replaced or frozen in '{intervention.name}': it has no line to split.",
            "Name heads that respond to the intervention.",
        )


def _parts(
    model: LanguageModel, clean: CleanRun, head: Head, before: HeadReads, ablated: AblatedReads
) -> dict[str, Tensor]:
    """Line and parts of one head on a batch, [prompt] or [prompt, source] each."""
    layer, number = head
    after = ablated.reads[layer]
    _require_identity(model, head, before, after)
    direction = clean.head_directions[layer][:, 0, number]
    a, changed_a = before.weights[:, number], after.weights[:, number]
    v, changed_v = ((one.values[:, number] * direction[:, None]).sum(-1) for one in (before, after))
    mean_v = (v + changed_v) / 2
    parts = {
        "line": ((after.outputs - before.outputs)[:, number] * direction).sum(-1),
        "before": a,
        "after": changed_a,
        "qk_parts": (changed_a - a) * mean_v,
        "ov_parts": (a + changed_a) / 2 * (changed_v - v),
        "query": mean_v.new_full((len(a),), float("nan")),
        "key": mean_v.new_full((len(a),), float("nan")),
    }
    if layer in ablated.mixed.clean_keys:
        other_queries = ablated.mixed.clean_keys[layer][:, number]
        other_keys = ablated.mixed.clean_queries[layer][:, number]
        parts["query"] = (((other_queries - a) + (changed_a - other_keys)) / 2 * mean_v).sum(-1)
        parts["key"] = (((other_keys - a) + (changed_a - other_queries)) / 2 * mean_v).sum(-1)
    return parts


def _require_identity(model: LanguageModel, head: Head, *runs: HeadReads) -> None:
    """Refuses heads whose outputs are not the weighted sums of values."""
    allowed = tolerance(model.dtype)
    error = max(float(reads.error[:, head.head].max()) for reads in runs)
    if not error <= allowed:
        raise SelfRepairError(
            f"The line of {head} cannot be split by source: its output differs from its attention-weighted values by "
            f"{error:.1e} of their size, {allowed:.0e} is allowed.",
            "Its attention is gated, normalised or has a part that no token holds, such as a sink; leave it out.",
        )


def _add(split: AttentionSplit, row: int, batch: Batch, parts: dict[str, Tensor], draws: int) -> None:
    """Adds one draw's share of a batch to its places."""
    for name, value in parts.items():
        values = value.double().cpu().numpy() / draws
        if values.ndim == 1:
            getattr(split, name)[row, batch.prompts] += values
        else:
            getattr(split, name)[row, batch.prompts, : values.shape[1]] += values

"""The final norm's part in one head's ablation, token by token, in every way it can be split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from selfrepair.ablation.sites import Head
from selfrepair.model.anatomy import Anatomy
from selfrepair.model.constants import without_bias
from selfrepair.paper.inputs.corpus import OPERATORS, CleanBatch, Corpus
from selfrepair.paper.inputs.recorded_replay import Replayed, Replayer, predicting_positions, stacked


@dataclass(frozen=True)
class NormTerms:
    """One head under one operator, [window, P] each, centred logits unless stated otherwise.

    With `k = sigma / sigma' - 1`, `l` the clean logit, `beta` its part that no scale divides, `D = DE' - DE` and `R`
    the response of everything downstream at the clean scale, the changes of all later writes:

    * `norm = (1 - sigma'/sigma)(l' - beta) = k (l - beta) + k D + k R` (docs/methods.md 2.3, 2.4), where `R` is
      zero for a last-layer head of a parallel model;
    * `sigma'^2 - sigma^2 = sum_c <P(o_c' - o_c), P(r + r')> / width` over components c, and so
      `norm = sum_c -(l' - beta) <...>_c / (width sigma (sigma + sigma'))`.

    Attributes:
        direct_effect: `DE`, clean.
        change: `D`, of the head itself (a post-norm's change of scale counts to the response).
        total: `TE = l' - l`, measured: by the model's own final norm and unembedding of the two final streams.
        norm: effect of the final norm's change of scale.
        measured: the norm term measured in the ablated run without the closed form, `TE - D - R`.
        on_existing: `k (l - beta)`, its effect on the clean logit.
        on_damage: `k D`.
        on_response: `k R`.
        by_own: the part of `norm` by the head's own write moving the scale.
        by_attention: the part by later attention moving it; by_mlps: by MLPs moving it.
        frozen_rest: TE with everything downstream frozen but the final norm.
        frozen_norm: TE with the final norm's scale frozen and everything else live.
        ratio: `sigma / sigma'`, no unit.
        length: norm of the final (centred) stream, ablated over clean, [window, position], no unit.
        logit: `l`; beta.
    """

    direct_effect: Tensor
    change: Tensor
    total: Tensor
    norm: Tensor
    measured: Tensor
    on_existing: Tensor
    on_damage: Tensor
    on_response: Tensor
    by_own: Tensor
    by_attention: Tensor
    by_mlps: Tensor
    frozen_rest: Tensor
    frozen_norm: Tensor
    ratio: Tensor
    length: Tensor
    logit: Tensor
    beta: Tensor

    @property
    def self_repair(self) -> Tensor:
        """`SR = TE - D`."""
        return self.total - self.change


def terms_of(
    corpus: Corpus, batch: CleanBatch, head: Head, before: Replayed, after: Replayed, in_place: Tensor
) -> NormTerms:
    """The terms of one ablation from its two runs."""
    anatomy, clean, layer = corpus.model.anatomy, batch.clean, head.layer
    final_norm = anatomy.final_norm
    r, r_after = predicting_positions(before.final), predicting_positions(after.final)
    sigma, sigma_after = final_norm.scale(r), final_norm.scale(r_after)
    u, beta = clean.u, clean.beta
    scaled, scaled_after = (scaled_logits(anatomy, clean.tokens, replayed.final) for replayed in (before, after))
    effect = clean.direct_effects(layer)[..., head.head]
    change = clean.direct_effects(layer, in_place)[..., head.head] - effect
    own = after.attention[layer] - before.attention[layer]
    downstream = [after.attention[above] - before.attention[above] for above in after.attention if above > layer]
    mlps = [after.mlp[above] - before.mlp[above] for above in after.mlp]
    k = sigma / sigma_after - 1
    response = clean.worth(stacked([own, *downstream, *mlps], own), clean.direction) - change
    frozen = r + predicting_positions(own)
    both = final_norm.centre(r + r_after)
    pull = -scaled_after / (anatomy.width * sigma * (sigma + sigma_after))

    def moved(write: Tensor) -> Tensor:
        return pull * (final_norm.centre(predicting_positions(write)) * both).sum(-1)

    return NormTerms(
        direct_effect=effect,
        change=change,
        total=scaled_after - scaled,
        norm=(1 - sigma_after / sigma) * scaled_after,
        measured=scaled_after - scaled - change - response,
        on_existing=k * scaled,
        on_damage=k * change,
        on_response=k * response,
        by_own=moved(own),
        by_attention=moved(stacked(downstream, own)),
        by_mlps=moved(stacked(mlps, own)),
        frozen_rest=(u * frozen).sum(-1) / final_norm.scale(frozen) - scaled,
        frozen_norm=(u * (r_after - r)).sum(-1) / sigma,
        ratio=sigma / sigma_after,
        length=final_norm.centre(after.final).norm(dim=-1) / final_norm.centre(before.final).norm(dim=-1),
        logit=scaled + beta,
        beta=beta,
    )


def scaled_logits(anatomy: Anatomy, tokens: Tensor, final: Tensor) -> Tensor:
    """Centred logits of the next tokens by the model's own final norm and unembedding, less `beta` and caps undone,
    [window, P].

    Args:
        anatomy: the model's parts.
        tokens: [window, position].
        final: the stream after the last block [window, position, width].
    """
    readout, targets = anatomy.unembedding, tokens[:, 1:]
    normed = predicting_positions(without_bias(anatomy.final_norm_module, final))
    return readout.multiplier * (normed * (readout.weight[targets] - readout.mean_weight)).sum(-1)


def walk(
    corpus: Corpus, heads: Sequence[Head], operators: Sequence[str] = OPERATORS
) -> Iterator[tuple[Head, str, CleanBatch, NormTerms]]:
    """Terms of all heads under all operators, batch by batch."""
    replayer = Replayer(corpus.model)
    with corpus.model.running():
        for batch in corpus.batches():
            for head in heads:
                before = replayer.run(batch.clean, head.layer)
                for operator in operators:
                    in_place = corpus.replacement(operator, batch, head.layer)
                    change = {(head.layer, head.head): in_place[:, :, head.head]}
                    after = replayer.run(batch.clean, head.layer, change)
                    yield head, operator, batch, terms_of(corpus, batch, head, before, after, in_place)


def array(tensor: Tensor, chosen: np.ndarray) -> np.ndarray:
    """Chosen predictions of a [window, P] tensor, [token] float64."""
    return np.asarray(tensor[torch.from_numpy(chosen).to(tensor.device)].double().cpu().numpy())

"""What the tests of model, engine and run share: loaded zoo models, corpora, one ledger per head."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from functools import cache

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from selfrepair import LanguageModel, Run, Windows, load
from selfrepair.ablation.interventions import Intervention, each
from selfrepair.ablation.operators import operator
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.effects.ledger import Ledger
from selfrepair.engine.clean import CleanRun, clean_run, head_outputs
from selfrepair.engine.contract import Replacement
from selfrepair.model.ports import Port
from selfrepair.results.intervention_axis import cells_of_heads, flat
from zoo import families, oracle
from zoo.anatomy import ANATOMY, value_constants
from zoo.planted import ANSWER, BOS, NEUTRAL, SOURCE, TASK

TOKENS, DONORS = families.tokens(seed=0), families.tokens(seed=1)
OPERATORS = ("zero", "mean", "resample")
EAGER_ONLY = ("gpt_neo", "gptj", "codegen", "bloom", "gemma2")  # the library has no sdpa for them
LINES = ("direct_effect", "ablated_direct_effect", "total_effect", "self_repair", "post_norms", "norm")
ALL_FIELDS = (*LINES, "by_attention", "by_mlp", "by_head", "sigma_ratio")


@cache
def language_model(name: str, attention: str | None = None, dtype: str = "float64") -> LanguageModel:
    """A loaded model of the zoo; shared, so never to be changed."""
    return fresh_model(name, attention, dtype)


def fresh_model(name: str, attention: str | None = None, dtype: str = "float64") -> LanguageModel:
    network = families.build(name, attention)
    return load(network.double() if dtype == "float64" else network)


def roomy(network):
    """A planted model with room for the 12 tokens that models are probed with at load."""
    table = network.transformer.wpe
    longer = torch.zeros(32, table.weight.shape[1]).to(table.weight)
    longer[: len(table.weight)] = table.weight.detach()
    network.transformer.wpe = torch.nn.Embedding.from_pretrained(longer)
    network.config.n_positions = len(longer)
    return network


def planted_windows() -> Windows:
    """The planted text and its donor, one document each: each is the other's only possible donor."""
    tokens = np.array([[BOS, SOURCE, TASK, ANSWER], [BOS, NEUTRAL, TASK, ANSWER]])
    return Windows(
        tokens=tokens,
        lengths=np.array([4, 4]),
        documents=np.array([[0] * 4, [1] * 4]),
        names=("text", "donor"),
        provenance={"source": "planted"},
    )


@dataclass(frozen=True)
class Texts:
    """A `Source` of two batches of texts: means over the first, donors from the second."""

    clean: CleanRun
    donors: tuple[Tensor, ...]

    def mean(self, port: Port) -> Tensor:
        return self.clean.outputs_at(port).mean((0, 1))

    def position_mean(self, port: Port) -> Tensor:
        return self.clean.outputs_at(port).mean(0)

    def donor(self, port: Port, draw: int) -> Tensor:
        return self.donors[port.layer]


def sweep(
    engine,
    model: LanguageModel,
    ablation: str,
    units: Iterable[tuple[int, int]] | None = None,
    tokens: Tensor = TOKENS,
    donors: Tensor = DONORS,
    per_head: bool = True,
) -> dict[Head, Ledger]:
    """One ledger for every ablated head; its tensors' first axis has length one."""
    with model.running():
        clean = clean_run(model, tokens)
        source = Texts(clean, head_outputs(model, donors))

        def replacement(port: Port) -> Tensor:
            return operator(ablation).replacement(port, clean.outputs_at(port), source, 0)

        chosen = all_heads(model.anatomy) if units is None else [Head(*unit) for unit in units]
        return split(engine.sweep(model, clean, each(chosen), replacement, per_head))


def layerwise(outputs: Sequence[Tensor]) -> Replacement:
    """A replacement of heads' outputs, from one tensor for every layer."""
    return lambda port: outputs[port.layer]


def head_of(intervention: Intervention) -> Head:
    """The head that an intervention on one head replaces."""
    (head,) = intervention.replaced
    assert isinstance(head, Head)
    return head


def split(ledgers: Iterable[Ledger]) -> dict[Head, Ledger]:
    """Chunks of heads as one ledger per head."""
    found = {}
    for ledger in ledgers:
        for place, intervention in enumerate(ledger.interventions):
            cut = {
                field.name: getattr(ledger, field.name)[place : place + 1].clone()
                for field in fields(Ledger)
                if isinstance(getattr(ledger, field.name), Tensor)
            }
            assert head_of(intervention) not in found
            found[head_of(intervention)] = replace(ledger, interventions=(intervention,), **cut)
    return found


def gap(left: Ledger, right: Ledger, names: Iterable[str] = ALL_FIELDS) -> float:
    """The largest difference between two ledgers, over all their lines and tokens."""
    gaps = {name: (getattr(left, name) - getattr(right, name)).abs().max().item() for name in names}
    assert all(np.isfinite(value) for value in gaps.values()), gaps
    return max(gaps.values())


def oracle_replacement(
    model: LanguageModel, hand, ablation: str, unit: Head, tokens: Tensor = TOKENS, donors: Tensor = DONORS
) -> Tensor:
    """What the oracle puts in the head's place: what the projection reads, value constant included."""
    if ablation == "zero":
        return value_constants(model.network, hand)[unit.layer, unit.head]
    texts = donors if ablation == "resample" else tokens
    outputs = oracle.trace(model.network, hand, texts).z[unit.layer, :, :, unit.head]
    return outputs.mean((0, 1)) if ablation == "mean" else outputs


def oracle_ledger(
    name: str, model: LanguageModel, ablation: str, unit: Head, tokens: Tensor = TOKENS, donors: Tensor = DONORS
) -> oracle.Ledger:
    hand = ANATOMY[name]
    in_place = oracle_replacement(model, hand, ablation, unit, tokens, donors)
    return oracle.ledger(model.network, hand, tokens, *unit, in_place)


def oracle_gap(ledger: Ledger, book: oracle.Ledger) -> float:
    """The largest difference between an engine's ledger and the oracle's."""
    pairs = {
        **{name: (getattr(ledger, name)[0], getattr(book, name)) for name in LINES[:4]},
        "norm": (ledger.norm[0], book.norm),
        "sigma_ratio": (ledger.sigma_ratio[0], book.sigma_ratio),
        "post_norms": (ledger.post_norms[0], book.post_norms.sum(0)),
        "by_mlp": (ledger.by_mlp[0], book.mlps.movedim(0, -1)),
        "by_attention": (ledger.by_attention[0], book.heads.sum(1).movedim(0, -1)),
    }
    if ledger.by_head is not None:
        pairs["by_head"] = (ledger.by_head[0], book.heads.movedim((0, 1), (-2, -1)))
    gaps = {name: (ours - theirs).abs().max().item() for name, (ours, theirs) in pairs.items()}
    assert all(np.isfinite(value) for value in gaps.values()), gaps
    return max(gaps.values())


def corpus(
    lengths: Iterable[int] = (9, 9, 9, 7, 8, 9),
    documents: Iterable[int] = (0, 0, 1, 1, 2, 2),
    length: int = 9,
    seed: int = 5,
    padding: int = 0,
) -> Windows:
    """Windows of random tokens, some padded; `documents` says which document each window is of."""
    lengths, documents = np.array(tuple(lengths)), np.array(tuple(documents))
    real = np.arange(length) < lengths[:, None]
    draws = np.stack([np.random.default_rng([seed, i]).integers(3, 97, 64) for i in range(len(lengths))])
    return Windows(
        tokens=np.where(real, draws[:, :length], padding).astype(np.int64),
        lengths=lengths.astype(np.int64),
        documents=np.where(real, documents[:, None], -1).astype(np.int64),
        names=tuple(f"document {i}" for i in range(documents.max() + 1)),
        provenance={"source": "random", "seed": seed},
    )


def with_heads(run: Run, heads: xr.Dataset) -> Run:
    """The same run with other numbers, given by layer and head."""
    cells = cells_of_heads([heads.sizes["head"]] * heads.sizes["layer"])
    return replace(run, interventions=flat(heads, cells))

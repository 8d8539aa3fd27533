"""Prompts of several lengths, runs on them, and the same runs as hooks on one prompt at a time."""

from __future__ import annotations

import numpy as np
import torch

from selfrepair import Head, Intervention, Mlp, Port, Prompt, Prompts, port_outputs
from selfrepair.ablation.names import parse_names
from zoo import families, interventions, oracle
from zoo.anatomy import ANATOMY, value_constants

LENGTHS = (7, 9, 7, 12, 9, 12)
SPANS = ((2, 4), (5, 6), (3, 5), (1, 3), (4, 6), (2, 3))
RUNS = [
    Intervention((Head(0, 1),)),
    Intervention((Head(0, 1), Head(2, 0), Mlp(1)), name="several"),
    Intervention((Head(1, 2),), (Head(2, 0), Head(2, 3), Mlp(2)), "held"),
    Intervention(tuple(parse_names("L1H0@S2 L0.mlp@end")), name="named positions"),
]


def asked_prompts(lengths=LENGTHS, twins: bool = True, groups: int = 2, answers: bool = True) -> Prompts:
    draws = np.random.default_rng(0)

    def tokens(length: int) -> tuple[int, ...]:
        return tuple(draws.integers(3, families.VOCAB, length).tolist())

    def token() -> tuple[int, ...]:
        return (int(draws.integers(families.VOCAB)),)

    made = [
        Prompt(
            tokens(length),
            answers=(token(), token()) if answers else (),
            wrong=(token(),) if answers else (),
            corrupt=tokens(length) if twins else None,
            group=f"group {place % groups}",
            spans={"S2": SPANS[place % len(SPANS)]},
        )
        for place, length in enumerate(lengths)
    ]
    return Prompts.of(made, None)


def logits_of(network, asked: Prompts, prompt: int, patches: interventions.Patches, anatomy) -> torch.Tensor:
    """A model's own logits where one prompt, by itself, is answered."""
    length = int(asked.lengths[prompt])
    tokens = torch.from_numpy(asked.tokens[prompt : prompt + 1, :length].astype(np.int64))
    return interventions.trace(network, anatomy, tokens, patches).logits[0, int(asked.positions[prompt])]


def value(network, asked: Prompts, prompt: int, patches: interventions.Patches, anatomy) -> float:
    """The logit difference, before any cap."""
    logits = oracle.linear_logits(logits_of(network, asked, prompt, patches, anatomy), anatomy.soft_cap)
    right, wrong = (logits[list(side[prompt])].mean() for side in (asked.answers, asked.wrong))
    return float(right - wrong)


def patches_of(model, name: str, asked: Prompts, prompt: int, run: Intervention, donor) -> interventions.Patches:
    """A run as hooks: replaced parts get the donor's output, frozen ones their clean one."""
    length = int(asked.lengths[prompt])
    found, constants = interventions.Patches(), value_constants(model.network, ANATOMY[name])
    clean = outputs(model, asked.tokens[prompt, :length])
    spans, position = asked.spans[prompt], int(asked.positions[prompt])
    for port in {site.port for site in run.sites}:
        there = clean[port]
        put, held = (torch.zeros(length, there.shape[2], dtype=torch.bool) for _ in range(2))
        for mask, sites in ((put, run.replaced), (held, run.frozen)):
            for site in sites:
                if site.port == port:
                    mask[places(site, spans, position), slice(None) if site.entries is None else site.entries[0]] = True
        values = torch.where(put[..., None], donor[port], there)
        if port.kind == "heads":
            found.heads[port.layer] = (put | held, values + constants[port.layer])
        else:
            found.mlps[port.layer] = ((put | held)[:, 0], values[:, :, 0])
    return found


def places(site, spans, position: int):
    span = getattr(site, "span", None)
    if span == "end":
        return [position]
    return list(range(*spans[span])) if span else slice(None)


def outputs(model, tokens):
    ports = [Port(layer, kind) for layer in range(families.LAYERS) for kind in ("heads", "mlp")]
    with model.running():
        return port_outputs(model, torch.from_numpy(np.asarray(tokens, np.int64))[None], ports)

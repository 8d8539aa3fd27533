"""Mixtures of replaced and frozen sites, on every engine and family, against plain forwards with hooks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from selfrepair import ReferenceEngine, ReplayEngine, SelfRepairError
from selfrepair.ablation.interventions import Intervention, each, freezing, pairs, ports_of, together
from selfrepair.ablation.sites import At, Attention, Head, Mlp, Neuron
from selfrepair.effects.readouts import LogitDifference, NextToken
from selfrepair.engine.clean import clean_run, port_outputs
from selfrepair.engine.delta import DeltaEngine
from selfrepair.model.ports import Port
from support import DONORS, TOKENS, language_model
from zoo import families, interventions
from zoo.anatomy import ANATOMY, value_constants

LAYERS, HEADS, POSITIONS = families.LAYERS, families.HEADS, TOKENS.shape[1]
ENGINES = {
    "reference": ReferenceEngine(),
    "replay": ReplayEngine(fold=2),
    "delta": DeltaEngine(fold=2),
    "delta in waves": DeltaEngine(fold=3, runs=2),
}
every_engine = pytest.mark.parametrize("engine", ENGINES)
every_family = pytest.mark.parametrize("name", families.FAMILIES)
RELAXED = settings(
    max_examples=3,
    deadline=None,
    derandomize=True,
    phases=[Phase.generate],  # shrinking mixtures takes minutes, and tells little more
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
ALL = [site for layer in range(LAYERS) for site in (Attention(layer), Mlp(layer))]


def sites(neurons: bool):
    layers = st.integers(0, LAYERS - 1)
    kinds = [st.builds(Head, layers, st.integers(0, HEADS - 1)), st.builds(Attention, layers), st.builds(Mlp, layers)]
    if neurons:
        kinds.append(st.builds(Neuron, layers, st.integers(0, 7)))
    plain = st.one_of(*kinds)
    where = st.lists(st.integers(-2, POSITIONS - 1), min_size=1, max_size=3).map(tuple)
    return plain | st.builds(At, plain, where)


def mixtures(neurons: bool):
    some = st.lists(sites(neurons), max_size=3).map(tuple)
    return st.lists(st.builds(mixed, some, some), min_size=3, max_size=3)


def mixed(replaced, frozen) -> Intervention:
    """Without neurons in layers whose MLP is named as a whole, which is refused."""
    whole = {site.port.layer for site in (*replaced, *frozen) if site.port.kind == "mlp"}

    def keep(some):
        return tuple(site for site in some if site.port.kind != "neurons" or site.port.layer not in whole)

    return Intervention(keep(replaced), keep(frozen), "drawn")


class Measured:
    """A model with its clean run, and donors' outputs in place of replaced ones."""

    def __init__(self, name: str, chosen, reading=None, dtype: str = "float64", shift: float = 0.0) -> None:
        self.model, self.chosen = language_model(name, dtype=dtype), list(chosen)
        with self.model.running():
            ports = ports_of(self.chosen)
            self.clean = clean_run(self.model, TOKENS, reading, ports)
            self.donors = port_outputs(self.model, DONORS, ports)
        self._truths: dict[int, interventions.Change] = {}

    def truth(self, intervention: Intervention, name: str, overwritten) -> interventions.Change:
        """What plain forwards under an intervention's hooks change; the same for every engine, so made once."""
        if id(intervention) not in self._truths:
            hooks = overwritten(self, intervention, name)
            self._truths[id(intervention)] = interventions.change(self.model.network, ANATOMY[name], TOKENS, hooks)
        return self._truths[id(intervention)]

    def ledgers(self, engine, outputs=None) -> dict[Intervention, object]:
        rows = {}
        with self.model.running():
            given = self.donors.__getitem__ if outputs is None else outputs
            for ledger in engine.sweep(self.model, self.clean, self.chosen, given, True):
                for row, intervention in enumerate(ledger.interventions):
                    rows[id(intervention)] = (ledger, row)
        return [rows[id(intervention)] for intervention in self.chosen]


def mask(some, port: Port, entries: int) -> torch.Tensor:
    covered = torch.zeros(POSITIONS, entries, dtype=torch.bool)
    for site in some:
        if site.port == port:
            for position in range(POSITIONS) if site.positions is None else site.positions:
                covered[position, slice(None) if site.entries is None else list(site.entries)] = True
    return covered


def patches(measured: Measured, intervention: Intervention, name: str) -> interventions.Patches:
    """The same as hooks: replaced entries get the donor's output, frozen ones their clean one."""
    patched, constants = interventions.Patches(), value_constants(measured.model.network, ANATOMY[name])
    for port in ports_of([intervention]):
        clean, donor = measured.clean.outputs_at(port), measured.donors[port]
        put, held = (mask(some, port, clean.shape[2]) for some in (intervention.replaced, intervention.frozen))
        values = torch.where(put[..., None], donor, clean)
        if port.kind == "heads":
            patched.heads[port.layer] = (put | held, values + constants[port.layer])
        elif port.kind == "mlp":
            patched.mlps[port.layer] = ((put | held)[:, 0], values[:, :, 0])
        else:
            module = measured.model.neurons(port.layer).module
            patched.neurons[port.layer] = (module, put | held, values[..., 0])
    return patched


def gaps(measured: Measured, name: str, ledger, row: int) -> dict[str, float]:
    """How far a ledger is from the oracle's, line by line."""
    intervention = ledger.interventions[row]
    truth = measured.truth(intervention, name, patches)
    lost = torch.zeros_like(truth.total_effect)
    lines = {"heads": truth.heads.clone(), "mlps": truth.mlps.clone()}
    for port in ports_of([intervention]):
        put = mask(intervention.replaced, port, measured.clean.outputs_at(port).shape[2])[:-1]
        donor = measured.clean.direct_effects_at(port, measured.donors[port])
        own = ((donor - measured.clean.direct_effects_at(port)) * put).sum(-1)
        lost += own
        if port.kind == "heads":
            lines["heads"][port.layer][put.T[:, None].expand(lines["heads"][port.layer].shape)] = 0
        else:
            lines["mlps"][port.layer] -= own
    changes = {
        "total_effect": ledger.total_effect[row] - truth.total_effect,
        "lost": ledger.ablated_direct_effect[row] - ledger.direct_effect[row] - lost,
        "by_head": ledger.by_head[row].movedim((-2, -1), (0, 1)) - lines["heads"],
        "by_attention": ledger.by_attention[row].movedim(-1, 0) - lines["heads"].sum(1),
        "by_mlp": ledger.by_mlp[row].movedim(-1, 0) - lines["mlps"],
        "post_norms": ledger.post_norms[row] - truth.post_norms,
        "norm": ledger.norm[row] - truth.norm,
        "residual": ledger.residual[row],
    }
    return {line: float(gap.abs().max()) for line, gap in changes.items()}


@every_family
@RELAXED
@given(data=st.data())
def test_random_mixtures_equal_plain_forwards(name, data):
    chosen = data.draw(mixtures(name not in families.MIXTURES))
    measured = Measured(name, chosen)
    for engine in ENGINES.values():
        for ledger, row in measured.ledgers(engine):
            errors = gaps(measured, name, ledger, row)
            assert max(errors.values()) < 1e-9, (engine.name, ledger.interventions[row], errors)


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox_parallel", "gemma2"])
@every_engine
def test_nothing_and_clean_outputs_change_nothing_bit_for_bit(name, engine):
    """Replay needs a fold of one for that: other batches round otherwise."""
    chosen = [
        Intervention((), (), "empty"),
        Intervention((), tuple(ALL), "only frozen"),
        Intervention((Head(0, 1), Head(1, 2), Mlp(1)), (), "clean"),
        Intervention((At(Attention(0), (2, 3)), Neuron(1, 3)), (Attention(2), Mlp(2)), "clean and frozen"),
    ]
    measured = Measured(name, chosen)
    exact = ReplayEngine(fold=1) if engine == "replay" else ENGINES[engine]
    for ledger, row in measured.ledgers(exact, measured.clean.outputs_at):
        assert (ledger.total_effect[row] == 0).all(), ledger.interventions[row]
        for line in ("by_head", "by_attention", "by_mlp", "post_norms", "norm"):
            assert (getattr(ledger, line)[row] == 0).all(), (ledger.interventions[row], line)


@every_family
@every_engine
def test_with_everything_downstream_frozen_only_the_norm_repairs(name, engine):
    head = Head(1, 2)
    downstream = [site for site in ALL if site.port.layer > 1 or site == Mlp(1)]
    measured = Measured(name, [freezing(Intervention((head,)), downstream), Intervention((head,))])
    (ledger, row), (free, other) = measured.ledgers(ENGINES[engine])
    assert (ledger.by_attention[row] == 0).all() and (ledger.by_mlp[row] == 0).all()
    lost = ledger.direct_effect[row] - ledger.ablated_direct_effect[row]
    closing = ledger.total_effect[row] + lost - ledger.norm[row] - ledger.post_norms[row]
    assert closing.abs().max() < 1e-10
    assert (free.total_effect[other] - ledger.total_effect[row]).abs().max() > 1e-3  # they did repair something
    if ANATOMY[name].post_attention_norm is None:
        assert (ledger.post_norms[row] == 0).all()


@every_engine
def test_frozen_sites_below_the_ablated_one_change_nothing(engine):
    chosen = [Intervention((Head(2, 1),)), Intervention((Head(2, 1),), (Attention(0), Mlp(0), Attention(1), Mlp(1)))]
    measured = Measured("llama", chosen)
    (free, row), (frozen, other) = measured.ledgers(ENGINES[engine])
    assert (free.total_effect[row] - frozen.total_effect[other]).abs().max() < 1e-12


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "cohere"])
@every_engine
def test_a_logit_difference_is_that_of_the_models_own_logits(name, engine):
    readout = LogitDifference((3, -2), ((5, 9), (7,)), ((11,), (2, 3, 4)))
    model = language_model(name)
    reading = readout.reading(model.anatomy, TOKENS[:2])
    assert reading.shape == (2, 1)
    chosen = [together("all", [Head(0, 1), Head(1, 2), Mlp(1)]), *each([Head(2, 0), At(Head(0, 0), (1,))])]
    with model.running():
        clean = clean_run(model, TOKENS[:2], reading, ports_of(chosen))
        donors = port_outputs(model, DONORS[:2], ports_of(chosen))
        ledgers = list(ENGINES[engine].sweep(model, clean, chosen, donors.__getitem__, True))
    measured = Measured(name, chosen)
    for ledger in ledgers:
        assert ledger.residual.abs().max() < 1e-10
        for row, intervention in enumerate(ledger.interventions):
            hooks = patches(measured, intervention, name)
            runs = [
                interventions.trace(model.network, ANATOMY[name], TOKENS, patches_)
                for patches_ in (interventions.Patches(), hooks)
            ]
            logits = [model.anatomy.unembedding.uncapped(run.logits) for run in runs]
            effect = logits[1] - logits[0]
            truth = torch.stack(
                [
                    effect[0, 3, [5, 9]].mean() - effect[0, 3, 11],
                    effect[1, POSITIONS - 2, 7] - effect[1, POSITIONS - 2, [2, 3, 4]].mean(),
                ]
            )
            assert (ledger.total_effect[row, :, 0] - truth).abs().max() < 1e-9


def test_a_logit_difference_without_a_second_side_is_the_centred_logit():
    model = language_model("gpt2")
    tokens = TOKENS[:2]
    readout = LogitDifference((3, 4), ((int(tokens[0, 4]),), (int(tokens[1, 5]),)))
    reading, expected = readout.reading(model.anatomy, tokens), NextToken().reading(model.anatomy, tokens)
    assert torch.equal(reading.u[:, 0], expected.u[[0, 1], [3, 4]])
    assert torch.equal(reading.beta[:, 0], expected.beta[[0, 1], [3, 4]])


def test_readings_take_the_windows_of_their_batch():
    model = language_model("gpt2")
    readout = LogitDifference((1, 2, 3), ((5,), (6,), (7,)), ((8,), (9,), (10,)))
    batch = readout.reading(model.anatomy, TOKENS[:2], np.array([2, 0]))
    assert batch.positions.tolist() == [[3], [1]] and batch.targets.tolist() == [[[7, 10]], [[5, 8]]]


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Intervention((7,)), "7 is not a site"),
        (lambda: Intervention((Neuron(1, 3),), (Mlp(1),)), "L1N3 lies inside L1.mlp"),
        (lambda: At(At(Head(0, 1), (2,)), (3,)), "has positions already"),
        (lambda: At(Head(0, 1), ()), "No positions"),
        (lambda: LogitDifference((1,), ((2,), (3,))), "1 positions"),
        (lambda: LogitDifference((1,), ((),)), "at least one answer"),
    ],
)
def test_what_makes_no_sense_is_refused(make, match):
    with pytest.raises(SelfRepairError, match=match):
        make()


@pytest.mark.parametrize(
    ("site", "match"),
    [
        (Head(0, 9), "L0H9"),
        (Head(9, 0), "L9H0"),
        (Mlp(3), "L3.mlp"),
        (Neuron(0, 10**6), "L0N1000000"),
        (At(Head(0, 1), (40,)), "position 40"),
        (At(Mlp(0), (-41,)), "position -41"),
    ],
)
@every_engine
def test_sites_that_the_model_does_not_have_are_refused(site, match, engine):
    model = language_model("gpt2")
    with model.running(), pytest.raises(SelfRepairError, match=match):
        clean = clean_run(model, TOKENS)
        list(ENGINES[engine].sweep(model, clean, [Intervention((site,))], clean.outputs_at, False))


def test_names_and_groups():
    first = Intervention((Head(1, 2), At(Mlp(3), (-1,))))
    assert str(first) == "L1H2+L3.mlp@-1" and first.start == 1
    assert [str(pair) for pair in pairs([Head(0, 1), Head(1, 1), Mlp(2)])] == [
        "L0H1+L1H1",
        "L0H1+L2.mlp",
        "L1H1+L2.mlp",
    ]
    assert len(pairs([Head(0, 1), Mlp(1)], [Mlp(1), Mlp(2)])) == 3
    assert len({Mlp(1), Attention(1), Head(1, 0), Neuron(1, 0)}) == 4

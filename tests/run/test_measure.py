"""`measure`: what it averages over, user-written operators, interruption, memory that ends, bad input."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from comparing import assert_same_heads, assert_same_tokens, rows

from selfrepair import (
    Filter,
    Operator,
    ReferenceEngine,
    ReplayEngine,
    Resample,
    SelfRepairError,
    load,
    load_run,
    measure,
)
from selfrepair.engine import replay
from selfrepair.statistics.filters import DEFAULT_FILTERS
from support import Head, corpus, language_model, oracle_replacement
from zoo import families, oracle
from zoo.anatomy import ANATOMY


def gpt2(windows=None, **options):
    return measure(language_model("gpt2"), corpus() if windows is None else windows, progress=False, **options)


@pytest.mark.parametrize("ablation", ["zero", "mean", "position-mean"])
@pytest.mark.parametrize("name", ["gpt2", "olmo2"])
def test_corpus_means_are_the_oracles(name, ablation):
    """Means over real tokens from `first` on (position-wise ones over real tokens), computed here by hand."""
    windows, model, hand, unit = corpus(), language_model(name), ANATOMY[name], Head(1, 2)
    run = measure(model, windows, ablation=ablation, heads=[unit], batch=4, sample=10**6, replicates=10, progress=False)
    tokens = torch.from_numpy(windows.tokens)
    outputs = oracle.trace(model.network, hand, tokens).z[unit.layer, :, :, unit.head]
    real = torch.arange(windows.length) < torch.from_numpy(windows.lengths)[:, None]
    if ablation == "mean":
        in_place = outputs[:, 1:][real[:, 1:]].mean(0)
    elif ablation == "position-mean":
        in_place = (outputs * real[..., None]).sum(0) / real.sum(0)[:, None]
    else:
        in_place = oracle_replacement(model, hand, "zero", unit)
    book = oracle.ledger(model.network, hand, tokens, *unit, in_place)
    scored = windows.scored()
    found = rows(run, unit)
    assert len(found) == scored.sum()
    for column, wanted in {
        "direct_effect": book.direct_effect,
        "ablated_direct_effect": book.ablated_direct_effect,
        "total_effect": book.total_effect,
        "self_repair": book.self_repair,
        "repair_heads": book.heads.sum((0, 1)),
        "repair_mlps": book.mlps.sum(0),
        "repair_post_norms": book.post_norms.sum(0),
        "repair_norm": book.norm,
        "sigma_ratio": book.sigma_ratio,
    }.items():
        np.testing.assert_allclose(found[column], wanted.numpy()[scored], atol=1e-6, err_msg=column)
        mean = wanted.numpy()[scored].mean()
        assert float(run.heads[column].sel(filter="all", layer=1, head=2)) == pytest.approx(mean, abs=1e-9), column


# --------------------------------------------------------------------------------------------------- filters


MANY = {"lengths": (9,) * 8, "documents": range(8)}
HOW = {
    "replay": {},
    "reference": {"engine": "reference"},
    "three donors": {"ablation": Resample(3)},
    "seven donors": {"ablation": Resample(7)},
}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("how", HOW)
def test_filters_keep_as_many_tokens_as_they_say(dtype, how):
    windows = corpus(**MANY)
    filters = [Filter("all"), Filter("top", 0.02), Filter("bottom", 0.02), Filter("top", 0.3)]
    model = language_model("gpt2", dtype=dtype)
    run = measure(model, windows, filters=filters, progress=False, **HOW[how])
    tokens = int(windows.scored().sum())
    for one in filters:
        counts = run.heads["count"].sel(filter=one.label).values
        assert (counts == one.tokens_kept(tokens)).all(), (one.label, counts)


# ------------------------------------------------------------------------------------------------- operators


class Halved(Operator):
    name = "halved"

    def replacement(self, layer, clean, source, draw):
        return clean / 2


def test_a_users_operator():
    run = gpt2(ablation=Halved())
    assert run.plan["ablation"]["operator"] == run.heads.attrs["operator"] == "halved"
    heads = run.heads.sel(filter="all")
    np.testing.assert_allclose(heads.ablated_direct_effect, heads.direct_effect / 2, atol=1e-12)
    assert abs(heads.total_effect).max() > 1e-3


def test_an_operator_that_draws_on_several_sources():
    """Half the mean and half a donor: linear, so its direct effect is half of each one's."""

    class Mixed(Operator):
        name, donors = "mixed", 1

        def replacement(self, layer, clean, source, draw):
            return (source.mean(layer) + source.donor(layer, 0)) / 2

    mixed, mean, donor = (
        gpt2(ablation=op).heads.ablated_direct_effect.sel(filter="all") for op in (Mixed(), "mean", "resample")
    )
    np.testing.assert_allclose(mixed, (mean + donor) / 2, atol=1e-12)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda clean: clean[:, :-1],
        lambda clean: clean[..., 0, :],
        lambda clean: clean.flatten(-2),
        lambda clean: torch.full_like(clean, float("nan")),
    ],
    ids=["positions", "heads", "flat", "nan"],
)
def test_an_operator_that_returns_nonsense_is_refused(spoil):
    class Wrong(Halved):
        name = "wrong"

        def replacement(self, layer, clean, source, draw):
            return spoil(clean)

    with pytest.raises(SelfRepairError, match="operator 'wrong'"):
        gpt2(ablation=Wrong())


def test_some_units_only():
    units = [(0, 3), "L2H1", (0, 3)]
    some, whole = gpt2(heads=units), gpt2()
    assert some.plan["heads"] == [[2, 1], [0, 3]]
    ablated = np.zeros((families.LAYERS, families.HEADS), bool)
    ablated[[0, 2], [3, 1]] = True
    count = some.heads["count"].sel(filter="all").values
    assert ((count > 0) == ablated).all()
    for name in ("direct_effect", "total_effect", "self_repair"):
        found, known = (run.heads[name].sel(filter="all").values for run in (some, whole))
        assert np.isnan(found[~ablated]).all()
        np.testing.assert_allclose(found[ablated], known[ablated], atol=1e-9)


@pytest.mark.parametrize("components", ["none", "layers", "heads"])
def test_components(components):
    run, whole = gpt2(components=components), gpt2()
    present = {name for name in run.heads.data_vars if name.startswith("repair_by")}
    assert ("repair_by_head" in present) == (components == "heads")
    assert ("repair_by_mlp" in present) == (components != "none")
    assert_same_tokens(run, whole)


def test_components_add_up():
    heads = measure(language_model("gemma2"), corpus(), progress=False).heads.sel(filter="all")
    np.testing.assert_allclose(heads.repair_by_head.sum("by_head"), heads.repair_by_attention, atol=1e-6)
    np.testing.assert_allclose(heads.repair_by_attention.sum("by_layer"), heads.repair_heads, atol=1e-6)
    np.testing.assert_allclose(heads.repair_by_mlp.sum("by_layer"), heads.repair_mlps, atol=1e-6)
    lines = heads.repair_heads + heads.repair_mlps + heads.repair_post_norms + heads.repair_norm
    np.testing.assert_allclose(lines, heads.self_repair, atol=1e-10)
    lost = heads.ablated_direct_effect - heads.direct_effect
    np.testing.assert_allclose(heads.total_effect - lost, heads.self_repair, atol=1e-10)


def test_what_the_run_says_of_its_own_accuracy():
    for dtype, floor, residual in (("float64", 1e-13, 1e-13), ("float32", 1e-5, 1e-5)):
        run = measure(language_model("gemma2", dtype=dtype), corpus(), progress=False)
        checks = run.outcome
        assert checks["ledger_closes"] and run.heads.attrs["ledger_closes"] == "true"
        assert 0 <= checks["numerical_floor"] < floor and 0 < checks["ledger_residual"] < residual
        assert checks["readout_error"] < residual * 10
        assert run.plan["model"]["dtype"] == dtype


# FOUND FAILING for gemma2: the loss is taken of the logits before the cap, which is not the model's.
@pytest.mark.parametrize("name", ["gpt2", "granite", "gemma2"])
def test_loss_is_the_models_own(name):
    windows, network = corpus(), language_model(name).network
    logits = oracle.plain_logits(network, torch.from_numpy(windows.tokens))[:, :-1]
    targets = torch.from_numpy(windows.tokens)[:, 1:, None]
    nats = -logits.log_softmax(-1).gather(-1, targets)[..., 0].numpy()
    run = measure(language_model(name), windows, heads=[(2, 0)], progress=False)
    expected = nats[windows.scored()].mean()
    assert run.outcome["loss_nats_per_token"] == pytest.approx(expected, abs=1e-10)


# ---------------------------------------------------------------------------------- interruption and memory


class Interrupted(ReplayEngine):
    """Somebody presses Ctrl-C while the (chunks + 1)-th chunk is being computed."""

    def __init__(self, chunks: int, fold: int = 2):
        super().__init__(fold=fold)
        self.left = chunks

    def sweep(self, model, clean, units, replacement, per_head, *advance):
        measures_floor = len(units) < families.LAYERS * families.HEADS  # a few heads, before the sweep
        for ledger in super().sweep(model, clean, units, replacement, per_head, *advance):
            if not measures_floor:
                if self.left == 0:
                    raise KeyboardInterrupt
                self.left -= 1
            yield ledger


def test_an_interrupted_run_keeps_what_it_had(tmp_path):
    whole = gpt2(batch=6)
    part = gpt2(batch=6, engine=Interrupted(chunks=3), out=tmp_path / "part")
    assert part.outcome["status"] == part.heads.attrs["status"] == "interrupted"
    reached = part.heads["count"].sel(filter="all").values > 0
    assert reached.sum() == 6 and reached[2].all() and reached[1].sum() == 2  # last layer first
    for name in ("direct_effect", "total_effect", "self_repair", "repair_norm", "count", "total_effect_standard_error"):
        found, known = part.heads[name].values, whole.heads[name].values
        np.testing.assert_allclose(found[:, reached], known[:, reached], atol=1e-9, err_msg=name)
        assert name == "count" or np.isnan(found[:, ~reached]).all()
    on_disk = load_run(tmp_path / "part")
    assert on_disk.outcome["status"] == "interrupted"
    assert_same_heads(on_disk, part)
    assert_same_tokens(on_disk, part)
    known = whole.tokens_frame().set_index(["layer", "head", "window", "position"])
    for place, row in part.tokens_frame().set_index(["layer", "head", "window", "position"]).iterrows():
        assert row["self_repair"] == pytest.approx(known.loc[place, "self_repair"], abs=1e-6)


def test_interrupted_in_the_second_batch():
    """All heads have the first batch; some have both. Counts say so."""
    part = gpt2(batch=3, engine=Interrupted(chunks=7, fold=2))
    count = part.heads["count"].sel(filter="all").values
    scored = corpus().scored()
    assert sorted(set(count.flatten())) == [scored[:3].sum(), scored.sum()]
    assert (count[2, :2] == scored.sum()).all() and (count[:2] == scored[:3].sum()).all()


def test_interrupted_before_anything_was_done():
    part = gpt2(engine=Interrupted(chunks=0))
    assert part.outcome["status"] == "interrupted"
    assert (part.heads["count"] == 0).all() and part.tokens.num_rows == 0
    repr(part)
    json.dumps(part.plan)


def out_of_memory_above(monkeypatch, most: int, error: Exception) -> list[int]:
    """Makes replays of more than `most` heads run out of memory; returns the folds that were tried."""
    tried: list[int] = []
    ledger = replay.Replay.ledger

    def limited(self):
        runs = len(self.accounts.interventions)
        tried.append(runs)
        if runs > most:
            raise error
        return ledger(self)

    monkeypatch.setattr(replay.Replay, "ledger", limited)
    return tried


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        MemoryError(),
        RuntimeError("[enforce fail at alloc_cpu.cpp:116] DefaultCPUAllocator: can't allocate memory"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("most", [1, 2, 3])
def test_memory_that_ends_makes_folds_smaller(monkeypatch, most, error):
    whole = gpt2()
    tried = out_of_memory_above(monkeypatch, most, error)
    engine = ReplayEngine(fold=4)
    run = gpt2(engine=engine)
    assert engine.fold == min(most, 2)
    assert tried.count(4) <= 1  # what failed once is not tried again
    assert_same_heads(run, whole)
    assert_same_tokens(run, whole)


def test_memory_that_ends_in_the_probe(monkeypatch):
    whole = gpt2()
    out_of_memory_above(monkeypatch, 1, torch.OutOfMemoryError("out of memory"))
    run = gpt2(engine=ReplayEngine())
    assert run.plan["engine_settings"] == {"fold": 1}
    assert_same_heads(run, whole)


def test_not_even_one_fits(monkeypatch):
    out_of_memory_above(monkeypatch, 0, torch.OutOfMemoryError("out of memory"))
    with pytest.raises(SelfRepairError, match=r"Memory ran out(.|\n)*--batch"):
        gpt2(engine=ReplayEngine(fold=2))


def test_other_errors_are_not_taken_for_memory(monkeypatch):
    out_of_memory_above(monkeypatch, 0, RuntimeError("shapes do not match"))
    with pytest.raises(RuntimeError, match="shapes do not match"):
        gpt2(engine=ReplayEngine(fold=2))


# ------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"ablation": "shuffle"}, "No ablation operator is called 'shuffle'"),
        ({"donors": 0}, "at least one donor"),
        ({"donors": 5}, "needs 5 donor windows from other documents"),
        ({"engine": "turbo"}, "No engine is called 'turbo'"),
        ({"heads": [(0, 4)]}, "no heads L0H4"),
        ({"heads": [(3, 0)]}, "no heads L3H0"),
        ({"heads": [(-1, 0)]}, "is not a head"),
        ({"heads": "L9"}, "no heads L9"),
        ({"heads": []}, "No heads were given"),
        ({"filters": ["middle"]}, "Unknown filter"),
        ({"first": 40}, "no scored tokens"),
        ({"memory": 1e-9}, "A single window"),
    ],
    ids=str,
)
def test_what_cannot_be_is_said(options, message):
    with pytest.raises(SelfRepairError, match=message):
        gpt2(**options)


def test_a_single_document_has_no_donors():
    with pytest.raises(SelfRepairError, match="donor windows from other documents") as refusal:
        measure(language_model("gpt2"), corpus(documents=(0,) * 6), progress=False)
    assert "--ablation mean" in refusal.value.fix


def test_documents_shared_by_packed_windows_are_no_donors():
    windows = corpus(lengths=(9, 9, 9), documents=(0, 1, 2))
    windows.documents[1, :4] = 0  # window 1 begins with the end of document 0
    run = measure(language_model("gpt2"), windows.select([0, 1, 2, 2]), ablation="mean", progress=False)
    assert run.windows["document"].to_pylist()[1] == ["document 0", "document 1"]
    drawn = measure(language_model("gpt2"), windows, progress=False).windows["donors"].to_pylist()
    assert drawn[0] == drawn[1] == [2]


def test_an_existing_folder_is_not_written_over(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SelfRepairError, match="exists and is not empty"):
        gpt2(out=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_weights_that_spoil_after_loading():
    network = families.build("gpt2_wide")
    model = load(network)
    with torch.no_grad():
        network.transformer.h[1].mlp.c_fc.weight.fill_(float("nan"))
    with pytest.raises(SelfRepairError, match="not finite"):
        measure(model, corpus(), progress=False)


def test_a_batch_of_less_than_no_windows():
    with pytest.raises(SelfRepairError):
        gpt2(batch=-1)


def test_reference_engine_gives_the_same_files(tmp_path):
    first, second = gpt2(engine=ReferenceEngine(), out=tmp_path / "a"), gpt2(out=tmp_path / "b")
    assert_same_tokens(load_run(tmp_path / "a"), second)
    assert first.plan["engine"] == "reference"
    assert [one.label for one in DEFAULT_FILTERS] == first.filters

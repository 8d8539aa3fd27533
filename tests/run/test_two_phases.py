"""Runs estimated in two phases, and runs that ablate at own positions, from plan to numbers."""

from __future__ import annotations

from dataclasses import replace
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from comparing import assert_same_heads

from selfrepair import DeltaEngine, Intervention, Mlp, ReplayEngine, SelfRepairError, measure, resume
from selfrepair.ablation.interventions import each
from selfrepair.ablation.sites import Head
from selfrepair.engine.clean import clean_run, head_outputs
from selfrepair.engine.first_order import first_order_sums
from selfrepair.report import captions
from selfrepair.run.planning import planned_engine
from selfrepair.run.planning.batch_size import plan_memory
from selfrepair.run.planning.prepare import prepare
from selfrepair.run.planning.settings import Settings
from selfrepair.run.unit.sweep import numerical_floor
from support import corpus, language_model

FILTERS = ("all", "top:0.1", "bottom:0.1")
TOP = "top 10%"
DOCUMENTS = 20
OPTIONS = {"filters": FILTERS, "replicates": 40, "progress": False}


def text():
    return corpus(lengths=[9, 8] * DOCUMENTS, documents=np.arange(2 * DOCUMENTS) // 2)


def measured(**options):
    return measure(language_model("gpt2"), text(), **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def exact():
    return measured(engine=ReplayEngine(fold=2), sample=10**6)


@pytest.fixture(scope="module")
def own():
    return measured(positions="own", sample=10**6)


@pytest.fixture(scope="module")
def phases():
    return measured(engine=ReplayEngine(fold=2), surrogate="own", exact_share=0.4)


def values(run, name, label=TOP):
    return run.heads[name].sel(filter=label).values


def kept(run):
    return run.tokens_frame().set_index(["layer", "head", "window", "position"]).sort_index()


# ------------------------------------------------------------------------------------------ two phases


@pytest.mark.parametrize("surrogate", ["own", "low-precision"])
def test_with_all_documents_exact_it_is_the_exact_run(exact, surrogate):
    whole = measured(engine=ReplayEngine(fold=2), surrogate=surrogate, exact_share=1.0)
    shares = {name for name in exact.heads if name.startswith("share_")}
    skipped = {"label", "q_value", "threshold", "effective_documents"}
    for name in set(exact.heads.data_vars) - skipped:
        if exact.heads[name].dtype.kind != "f" or any(name.startswith(share) for share in shares):
            continue
        if "curve" in name or not name.endswith(("_low", "_high", "_standard_error")):
            np.testing.assert_allclose(whole.heads[name], exact.heads[name], rtol=2e-4, atol=2e-5, err_msg=name)
    assert np.array_equal(whole.heads["count"], exact.heads["count"])
    assert np.array_equal(whole.heads["documents"], exact.heads["documents"])


def test_an_estimate_is_the_surrogates_mean_and_the_mean_difference_on_the_part(exact, own, phases):
    """Composed from two other runs, token by token: all tokens exactly, and all at their own position."""
    job = prepare(language_model("gpt2"), text(), Settings.of(filters=FILTERS, surrogate="own", exact_share=0.4))
    part = job.counted.any(1).nonzero()[0]
    assert len(np.unique(job.documents[part][job.counted[part]])) == phases.plan["phases"]["exact_documents"] == 8
    truth, cheap = kept(exact), kept(own)
    limits, n = values(phases, "threshold"), 0
    for layer, head in np.ndindex(*limits.shape):
        effect = cheap.loc[(layer, head)]["direct_effect"]
        inside = effect[effect >= limits[layer, head]].index
        there = [token for token in inside if token[0] in part]
        for name in ("self_repair", "total_effect", "repair_mlps", "repair_norm"):
            surrogate, right = cheap.loc[(layer, head)][name], truth.loc[(layer, head)][name]
            expected = surrogate[inside].mean() + (right[there] - surrogate[there]).mean() if there else np.nan
            if there:
                assert values(phases, name)[layer, head] == pytest.approx(expected, abs=2e-5), (layer, head, name)
                n += 1
    assert n > 30


def test_lines_of_components_add_up_to_the_estimated_lines(phases):
    heads = phases.heads.sel(filter=TOP)
    by_mlp = heads["repair_by_mlp"].sum("by_layer")
    np.testing.assert_allclose(by_mlp, heads["repair_mlps"], atol=2e-5)
    by_head = heads["repair_by_head"].sum(["by_layer", "by_head"])
    np.testing.assert_allclose(by_head, heads["repair_heads"], atol=2e-5)


def test_numbers_of_all_tokens_and_kept_tokens_are_of_the_exact_part(exact, phases):
    part = set(kept(phases).index.get_level_values("window"))
    truth = kept(exact)
    for token, row in kept(phases).iterrows():
        assert row["self_repair"] == pytest.approx(truth.loc[token]["self_repair"], abs=2e-6)
    assert (values(phases, "documents", "all") == 8).all() and len(part) == 16
    assert np.array_equal(values(phases, "count", "all"), values(exact, "count", "all"))  # what they stand for
    chosen = truth[truth.index.get_level_values("window").isin(part)]
    means = chosen.groupby(["layer", "head"])["self_repair"].mean().to_numpy()
    np.testing.assert_allclose(values(phases, "self_repair", "all").ravel(), means, atol=2e-6)


def test_what_the_surrogate_has_exactly_is_known_from_all_documents(exact, phases):
    for name in ("direct_effect", "lost_direct_effect", "ablated_direct_effect", "retention"):
        for part in ("", "_standard_error", "_low", "_high"):  # the exact part adds nothing to their errors
            np.testing.assert_allclose(values(phases, name + part), values(exact, name + part), rtol=1e-3, atol=1e-5)


def test_a_surrogate_of_noise_gives_wide_intervals_around_the_right_numbers(monkeypatch, exact, phases):
    """Offered by another package, and named in the plan with its version."""
    point = metadata.EntryPoint("noise", "noise_surrogate:Noise", "selfrepair.surrogates")
    point = point._for(SimpleNamespace(name="others", version="1.5"))
    monkeypatch.setattr(
        "selfrepair.registry.installed", lambda group: [point] if group == "selfrepair.surrogates" else []
    )
    noisy = measured(engine=ReplayEngine(fold=2), surrogate="noise", exact_share=0.4)
    width = [values(run, "self_repair_high") - values(run, "self_repair_low") for run in (noisy, phases)]
    assert np.nanmedian(width[0] / width[1]) > 2
    low, high = values(noisy, "self_repair_low"), values(noisy, "self_repair_high")
    inside = (low <= values(exact, "self_repair")) & (values(exact, "self_repair") <= high)
    assert inside[np.isfinite(low)].mean() > 0.9 and np.isfinite(low).sum() > 8
    whole = measured(engine=ReplayEngine(fold=2), surrogate="noise", exact_share=1.0)
    np.testing.assert_allclose(values(whole, "self_repair"), values(exact, "self_repair"), atol=2e-5)
    assert whole.plan["versions"]["others"] == "1.5"


def test_captions_name_both_phases(phases, own, exact):
    from selfrepair.report.captions import amount, how_estimated, operator_with_donors

    assert "estimated in two phases" in how_estimated(phases, TOP) and not how_estimated(exact, TOP)
    assert "estimated in two phases: own-position ablation on 20 documents, exact on 8; intervals know both" in amount(
        phases, TOP
    )
    assert "from 8 documents that were measured exactly, for 20" in amount(phases, "all")
    assert "at each token's own position only" in operator_with_donors(own)
    assert "own" not in operator_with_donors(exact) and "phases" not in amount(exact, TOP)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"filters": ["all"]}, "without a filter that chooses"),
        ({"positions": "own"}, "cheap already"),
        ({"interventions": [Intervention((Mlp(1),))]}, "not single heads"),
        ({"exact_share": 0.0}, "above 0 and at most 1"),
        ({"surrogate": "guess"}, "guess"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(options, problem):
    with pytest.raises(SelfRepairError, match=problem):
        measured(**{"surrogate": "own", **options})


# --------------------------------------------------------------------------------------- own positions


def test_own_positions_of_chosen_tokens_are_those_of_all(own):
    some = measured(positions="own", filters=FILTERS[1:])
    for name in ("self_repair", "repair_mlps", "repaired_fraction", "slope_through_origin", "repair_by_head"):
        np.testing.assert_allclose(values(some, name), values(own, name), atol=1e-5, err_msg=name)
    assert some.outcome["status"] == "complete" and some.outcome["ledger_closes"]
    assert some.plan["ablation"]["positions"] == "own" == some.heads.attrs["positions"]


def test_own_positions_are_another_quantity(own, exact):
    last = own.heads.sizes["layer"] - 1
    np.testing.assert_allclose(values(own, "self_repair")[last], values(exact, "self_repair")[last], atol=1e-5)
    assert np.abs(values(own, "self_repair")[0] - values(exact, "self_repair")[0]).max() > 1e-2


def test_own_positions_can_be_continued(tmp_path):
    options = {"positions": "own", "filters": FILTERS[1:]}
    whole = measured(**options, out=tmp_path / "run")
    next(iter((tmp_path / "run" / "units").glob("sweep-*.safetensors"))).unlink()
    assert_same_heads(resume(tmp_path / "run", language_model("gpt2"), progress=False), whole)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"positions": "some"}, "Unknown positions"),
        ({"engine": "replay"}, "engine of its own"),
        ({"precision": "int8"}, "engine of its own"),
        ({"interventions": [Intervention((Mlp(1),))]}, "only a single head"),
    ],
)
def test_own_positions_refuse_what_they_cannot_do(options, problem):
    with pytest.raises(SelfRepairError, match=problem):
        measured(**{"positions": "own", **options})


def test_a_surrogate_keeps_to_the_memory_that_there_is(phases):
    """As few runs at a time as the exact sweep holds, and the same numbers."""
    job = prepare(language_model("gpt2"), text(), Settings.of(filters=FILTERS, surrogate="own"))
    held, sizes = job.plan["runs_held"], []
    assert held == 12  # all heads
    sweep = type(job.surrogates.tokens).sweep

    def counting(self, model, clean, interventions, *rest):
        sizes.append(len(interventions))
        return sweep(self, model, clean, interventions, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(job.surrogates.tokens), "sweep", counting)
        patch.setattr(
            "selfrepair.run.planning.planned_engine.plan_memory",
            lambda *given: replace(plan_memory(*given), runs=5),
        )
        few = measured(engine=ReplayEngine(fold=2), surrogate="own", exact_share=0.4)
    assert max(sizes) == 5 and few.plan["runs_held"] == 5
    np.testing.assert_allclose(values(few, "self_repair"), values(phases, "self_repair"), atol=1e-5)


# ------------------------------------------------------------------------------------- filters that choose alone


def other_engines():
    return [ReplayEngine(fold=2), DeltaEngine()]


@pytest.mark.parametrize("engine", other_engines(), ids=lambda engine: engine.name)
def test_without_the_filter_all_only_kept_tokens_are_computed_and_numbers_stay(exact, engine):
    """Windows end behind the last kept token of a head; what is kept and estimated is what whole windows give."""
    few = measured(engine=engine, filters=FILTERS[1:])
    assert few.outcome["ledger_closes"] and not few.outcome["failed_checks"]
    for label in (TOP, "bottom 10%"):
        for name in ("self_repair", "total_effect", "repair_norm", "repair_mlps", "repaired_fraction", "count"):
            np.testing.assert_allclose(values(few, name, label), values(exact, name, label), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(
        few.heads["repair_by_mlp"].sel(filter=TOP), exact.heads["repair_by_mlp"].sel(filter=TOP), rtol=1e-6, atol=1e-9
    )
    rows, every = kept(few), kept(exact)
    assert 0 < len(rows) < len(every)
    both = every.loc[rows.index]
    np.testing.assert_allclose(rows["self_repair"], both["self_repair"], rtol=1e-6, atol=1e-8)


def test_the_numerical_floor_is_of_a_window_with_scored_tokens():
    """Of a first window without any it would be zero whatever the engine did."""
    job = prepare(language_model("gpt2"), text(), Settings.of(filters=FILTERS[1:], engine=ReplayEngine(fold=2)))
    wrong = replace(job, engine=Lying(fold=2))
    tokens = torch.from_numpy(job.windows.tokens[:3])
    scored = torch.from_numpy(job.scored[:3]).clone()
    scored[0] = False
    with job.model.running():
        clean = clean_run(job.model, tokens)
        assert numerical_floor(job, clean, scored)[0] < 1e-9
        assert numerical_floor(wrong, clean, scored)[0] > 0.1


class Lying(ReplayEngine):
    """Gives every ablation an effect."""

    def sweep(self, *given):
        for ledger in super().sweep(*given):
            yield replace(ledger, total_effect=ledger.total_effect + 1)


def test_two_phases_without_the_filter_all_are_those_with_it(phases):
    few = measured(engine=ReplayEngine(fold=2), surrogate="own", exact_share=0.4, filters=FILTERS[1:])
    for name in ("self_repair", "total_effect", "repair_norm", "repaired_fraction", "self_repair_low", "count"):
        np.testing.assert_allclose(values(few, name), values(phases, name), rtol=1e-6, atol=1e-8, err_msg=name)


# ---------------------------------------------------------------------------------- first-order effects of all tokens


@pytest.fixture(scope="module")
def first_order():
    return measured(engine=ReplayEngine(fold=2), surrogate="own+gradient", exact_share=0.4)


def test_all_tokens_by_first_order_effects_come_to_the_exact_mean_when_all_documents_are_exact(exact):
    whole = measured(engine=ReplayEngine(fold=2), surrogate="gradient", exact_share=1.0, filters=("all",))
    for name in (
        "self_repair",
        "total_effect",
        "direct_effect",
        "repair_norm",
        "repair_heads",
        "share_repaired",
        "slope",
    ):
        np.testing.assert_allclose(
            values(whole, name, "all"), values(exact, name, "all"), rtol=1e-6, atol=1e-9, err_msg=name
        )


def test_an_estimate_over_all_tokens_is_composed_of_both_phases(exact, first_order):
    """From the exact run's tokens, and first-order sums made here, document by document."""
    model = language_model("gpt2")
    job = prepare(model, text(), Settings.of(filters=FILTERS, surrogate="own+gradient", exact_share=0.4))
    rows = kept(exact).reset_index()
    rows = rows[rows["in_sample"]]
    owner = job.documents[rows["window"], rows["position"]]
    part = np.unique(job.documents[job.counted])
    total, tokens = first_order_by_document(job)
    for head in job.heads:
        mine = (rows["layer"] == head.layer) & (rows["head"] == head.head)
        every = np.bincount(owner[mine], rows["total_effect"][mine], minlength=DOCUMENTS)
        difference = (every - total[head])[part].sum() / tokens[part].sum()
        wanted = total[head].sum() / tokens.sum() + difference
        assert values(first_order, "total_effect", "all")[head] == pytest.approx(wanted, rel=1e-6)
        lost = values(exact, "lost_direct_effect", "all")[head]
        assert values(first_order, "lost_direct_effect", "all")[head] == pytest.approx(lost, rel=1e-6)


def first_order_by_document(job):
    """Sums of first-order total effects [document] by head, and scored tokens [document]."""
    heads = [Head(*head) for head in job.heads]
    total = {head: np.zeros(DOCUMENTS) for head in heads}
    for window, donor in enumerate(job.donors[:, 0]):
        tokens, other = (torch.from_numpy(job.windows.tokens[[number]]) for number in (window, donor))
        scored = torch.from_numpy(job.scored[[window]])
        with job.model.running():
            clean, outputs = clean_run(job.model, tokens), head_outputs(job.model, other)
            sums = first_order_sums(job.model, clean, each(heads), lambda port: outputs[port.layer], scored[None])  # noqa: B023
        for number, head in enumerate(heads):
            total[head][job.documents[window, 0]] += float(sums["total_effect"][number, 0, 0])
    return total, np.bincount(job.documents[job.scored], minlength=DOCUMENTS)


def test_all_tokens_alone_are_estimated_as_beside_filters_that_choose(first_order):
    alone = measured(engine=ReplayEngine(fold=2), surrogate="gradient", exact_share=0.4, filters=("all",))
    for name in ("self_repair", "total_effect_low", "repair_mlps", "count", "documents", "share_repaired"):
        got, wanted = values(alone, name, "all"), values(first_order, name, "all")
        np.testing.assert_allclose(got, wanted, rtol=1e-9, err_msg=name)
    part = alone.heads["repair_by_mlp"].sel(filter="all")
    np.testing.assert_allclose(part, first_order.heads["repair_by_mlp"].sel(filter="all"), rtol=1e-9)


def test_lines_of_all_tokens_add_up_and_intervals_are_narrower_than_the_exact_parts(first_order, phases):
    lines = sum(values(first_order, f"repair_{line}", "all") for line in ("heads", "mlps", "post_norms", "norm"))
    np.testing.assert_allclose(lines, values(first_order, "self_repair", "all"), rtol=1e-5, atol=1e-7)
    narrow, wide = (
        np.median(values(run, "total_effect_high", "all") - values(run, "total_effect_low", "all"))
        for run in (first_order, phases)
    )
    assert narrow < wide
    assert "first-order effects of all tokens" in captions.phases(first_order)
    assert "two phases" in captions.how_estimated(first_order, "all")


def test_documents_that_share_a_window_have_sums_of_their_own():
    """Packed text: two documents in each window."""
    tokens = corpus(lengths=[9] * 12, documents=[0] * 12)
    owners = np.repeat(np.arange(12)[:, None] * 2, 9, 1)
    owners[:, 5:] += 1
    packed = replace(tokens, documents=owners, names=tuple(f"document {number}" for number in range(24)))
    options = {**OPTIONS, "filters": ("all",), "engine": ReplayEngine(fold=2)}
    exact = measure(language_model("gpt2"), packed, **options)
    whole = measure(language_model("gpt2"), packed, **options, surrogate="gradient", exact_share=1.0)
    np.testing.assert_allclose(values(whole, "self_repair", "all"), values(exact, "self_repair", "all"), rtol=1e-6)
    job = prepare(language_model("gpt2"), packed, Settings.of(filters=("all",), surrogate="gradient", exact_share=0.5))
    assert job.counted.any(1).sum() > job.counted.all(1).sum()  # some windows are exact in part


@pytest.mark.parametrize(
    ("surrogate", "filters", "match"),
    [
        ("gradient", FILTERS, r"own\+gradient"),
        ("own+gradient", FILTERS[1:], "without the filter all"),
        ("own", ("all",), "top:0.02"),
        ("own+low-precision", FILTERS, "same tokens"),
    ],
)
def test_surrogates_that_do_not_fit_the_filters_are_refused(surrogate, filters, match):
    with pytest.raises(SelfRepairError, match=match):
        measured(surrogate=surrogate, filters=filters)


def test_exact_windows_come_in_full_batches_where_programs_are_made_for_these(phases, monkeypatch):
    """A unit has few of them, and a batch that is not full finds no compiled program."""
    seen, sweep = [], DeltaEngine.sweep

    def watching(self, model, clean, *rest):
        seen.append(len(clean.tokens))
        return sweep(self, model, clean, *rest)

    monkeypatch.setattr(DeltaEngine, "sweep", watching)
    monkeypatch.setattr(planned_engine, "_EXACT_POSITIONS", 20)
    run = measured(engine="delta", surrogate="own", exact_share=0.4)
    assert run.plan["windows_per_exact_batch"] == run.plan["engine_settings"]["batch"] == 2
    assert run.plan["windows_per_batch"] > 2 and seen.count(2) > len(seen) / 2
    assert phases.plan["windows_per_exact_batch"] == phases.plan["windows_per_batch"]  # replay's stay as they were
    for label in (TOP, "all"):
        np.testing.assert_allclose(values(run, "self_repair", label), values(phases, "self_repair", label), atol=1e-5)
    seen.clear()
    assert measured(engine="delta").plan["windows_per_exact_batch"] == max(seen) > 2

"""Questions on prompts of models with mixers, layers without heads or MLPs, and MLPs of several parts."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr
from hybrid_prompts import LENGTHS, hybrid_prompts, run_on

from plain_hybrids import HYBRIDS, freezing, hybrid, lines, sites_of, worth
from selfrepair import DeltaEngine, Head, Intervention, ReferenceEngine, SelfRepairError
from selfrepair.ablation.names import parse_names, parse_units
from selfrepair.ablation.sites import Mixer, Mlp, MlpPart
from selfrepair.questions.circuit.audit import audit
from selfrepair.questions.covering.who import covering
from selfrepair.questions.graph import edge_graph
from selfrepair.questions.graphs_elsewhere import neuronpedia_record
from selfrepair.questions.importance import importance_card
from selfrepair.questions.interplay.interplay import interplay
from selfrepair.questions.interplay.recruitment import recruitment
from selfrepair.questions.measuring.components import Components
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.questions.page.balance import steps_of
from selfrepair.questions.page.page_extras import extras
from selfrepair.questions.page.shown import ShownAudit
from selfrepair.questions.page.write_audit import audit_page
from selfrepair.questions.paths.direct_edges import direct_edges
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from selfrepair.questions.saving import save_audit

SOME = ("granitemoehybrid", "falcon_h1", "nemotron_h", "gemma4_text")
some_hybrids = pytest.mark.parametrize("entry", SOME)
every_hybrid = pytest.mark.parametrize("entry", HYBRIDS)
CLOSE = {"atol": 1e-9, "rtol": 1e-9}


def runs_of(model):
    """A head, a mixer and an MLP or a part of one in the first layers that have them; a head with others frozen."""
    sites = sites_of(model)
    head = next(site for site in sites if isinstance(site, Head))
    others = [kind for kind in (Mixer, Mlp, MlpPart) if any(isinstance(site, kind) for site in sites)]
    first = [next(site for site in sites if isinstance(site, kind)) for kind in others]
    last = [next(site for site in reversed(sites) if isinstance(site, kind)) for kind in others]
    return [
        *(Intervention((site,)) for site in (head, *first)),
        Intervention((head, *first), name="together"),
        Intervention((head,), tuple(site for site in last if site not in first), "with some frozen"),
    ]


@every_hybrid
def test_every_line_is_that_of_plain_forwards(entry):
    model, asked = hybrid(entry), hybrid_prompts()
    runs, components = runs_of(model), Components.of(model.anatomy)
    assert set(components.sites) == set(sites_of(model))
    measured = [
        prompt_effects(model, asked, runs, engine=one) for one in (None, ReferenceEngine(), DeltaEngine(fold=2))
    ]
    for prompt in (0, 2):
        clean, donor = run_on(model, prompt), run_on(model, prompt, twin=True)
        for site, found in zip(components.sites, components.direct_effects(measured[0])[prompt], strict=True):
            if not isinstance(site, Head):  # of heads, value constants are no part
                assert found == pytest.approx(worth(clean, site, clean.computed[site]), abs=1e-9), site
        for row, run in enumerate(runs):
            put = freezing(clean, run.frozen) | {site: donor.computed[site] for site in run.replaced}
            after = run_on(model, prompt, put=put)
            written = lines(clean, after, run.sites)
            lost = sum(
                worth(clean, site, clean.computed[site]) - worth(clean, site, put[site]) for site in run.replaced
            )
            for effects in measured:
                found = components.lines(effects, row)[prompt]
                np.testing.assert_allclose(found, [written[site] for site in components.sites], **CLOSE)
                assert effects.total_effect[row, prompt] == pytest.approx(after.value - clean.value, abs=1e-9)
                assert effects.lost[row, prompt] == pytest.approx(lost, abs=1e-9)
    assert max(effects.residual for effects in measured) < 1e-9 and np.abs(measured[0].total_effect).min() > 1e-6


def asked(entry, **settings):
    return Question(hybrid(entry), hybrid_prompts(), AuditSettings(**{"top": 3, "controls": 2, **settings}))


def first_head(entry):
    return next(site for site in sites_of(hybrid(entry)) if isinstance(site, Head))


def behind(entry, head):
    """Components that can respond to a head; mixers of its own layer stand beside it."""
    return [
        site
        for site in sites_of(hybrid(entry))
        if site.port.layer > head.layer or (site.port.layer == head.layer and isinstance(site, Mlp | MlpPart))
    ]


def change(entry, head, frozen):
    """The mean total effect of a head's twin with others frozen, by plain forwards."""
    found = []
    for prompt in range(len(LENGTHS)):
        clean, donor = run_on(hybrid(entry), prompt), run_on(hybrid(entry), prompt, twin=True)
        after = run_on(hybrid(entry), prompt, put=freezing(clean, frozen) | {head: donor.computed[head]})
        found.append(after.value - clean.value)
    return float(np.mean(found))


@some_hybrids
def test_who_covers_names_and_freezes_every_kind_of_component(entry):
    head = first_head(entry)
    later = behind(entry, head)
    kinds = {type(site): site for site in later}
    question, base = asked(entry, top=1, controls=1), Intervention((head,))
    found = covering(question, question.measure([base]), base, None, also=tuple(kinds.values()))
    assert set(found.table["component"]) == set(map(str, later))
    assert ("mixer" in set(found.table["kind"])) == (Mixer in kinds)
    alone = change(entry, head, [])
    whole = float(found.sampling.mean(found.whole).value)
    assert whole == pytest.approx(found.sign * (alone - change(entry, head, later)), abs=1e-9)
    rows = found.table.set_index("component")
    for site in kinds.values():
        covered = found.sign * (alone - change(entry, head, [site]))
        assert rows.loc[str(site), "freeze"] == pytest.approx(covered, abs=1e-9), site


@some_hybrids
def test_a_card_freezes_mixers_and_every_part_of_mlps(entry):
    head = first_head(entry)
    card = importance_card(asked(entry), [head]).table.iloc[0]
    mlps = [site for site in behind(entry, head) if isinstance(site, Mlp | MlpPart)]
    mixers = [site for site in behind(entry, head) if isinstance(site, Mixer)]
    assert card["mlps_frozen"] == pytest.approx(change(entry, head, mlps), abs=1e-9)
    if hybrid(entry).anatomy.has_mixers:
        assert card["mixers_frozen"] == pytest.approx(change(entry, head, mixers), abs=1e-9)
    else:
        assert np.isnan(card["mixers_frozen"])
    assert card["all_frozen"] == pytest.approx(change(entry, head, behind(entry, head)), abs=1e-9)


@some_hybrids
def test_direct_edges_lead_to_mixers_and_parts_of_mlps(entry):
    model, head = hybrid(entry), first_head(entry)
    edges = direct_edges(model, hybrid_prompts(), Intervention((head,)))
    later = behind(entry, head)
    assert {str(site) for site in edges.components.downstream(edges.senders)} == set(map(str, later))
    for prompt in range(len(LENGTHS)):
        clean, donor = run_on(model, prompt), run_on(model, prompt, twin=True)
        others = [site for site in sites_of(model) if site != head]
        alone = run_on(model, prompt, put=freezing(clean, others) | {head: donor.computed[head]})
        for site in later:
            direct = worth(clean, site, alone.computed[site]) - worth(clean, site, clean.computed[site])
            assert edges.direct[prompt, edges.components.index[site]] == pytest.approx(direct, abs=1e-9), site


@pytest.mark.parametrize("entry", ["granitemoehybrid", "falcon_h1", "gemma4_text"])
def test_an_audit_adds_up_and_is_shown_and_saved(entry, tmp_path):
    question, head = asked(entry, operators=(), top=1, controls=1), first_head(entry)
    mixer = next((site for site in sites_of(hybrid(entry)) if isinstance(site, Mixer)), None)
    found = audit(question, {"movers": (head, *([mixer] if mixer else []))})
    assert found.effects.residual < 1e-9
    more = extras(question, found, None, edges=True)
    steps, total = steps_of(ShownAudit(question, found, more))
    assert sum(step.value for step in steps) == pytest.approx(total.value, abs=1e-9)
    assert any("mixers" in step.title for step in steps) == bool(mixer)
    page = audit_page(question, found, more)
    assert "Edges of components:" not in page  # that they could not be measured
    save_audit(found, question, None, tmp_path)
    runs = xr.load_dataset(tmp_path / "runs.nc", engine="h5netcdf")
    lines = runs["line_head"].sum(("layer", "head")) + runs["line_mlp"].sum(("layer", "write"))
    lines = lines + runs["line_mixer"].sum("layer") + runs["post_norms"] + runs["norm"]
    np.testing.assert_allclose(lines, runs["total_effect"] + runs["lost"], atol=1e-9)


def test_sets_of_mixers_and_parts_have_curves_and_recruit():
    question = asked("granitemoehybrid", ablation="zero")
    sets = parse_units("L0.mixer, L1H0+L1.mlp0, L1.mlp1", hybrid("granitemoehybrid"))
    found = interplay(question, sets)
    assert found.effects.residual < 1e-9 and len(found.pairs) == 3
    ranked = recruitment(question, parse_names("L0.mixer", hybrid("granitemoehybrid")))
    assert {"L1.mlp0", "L1.mlp1", "L2.mixer"} <= set(ranked.table["component"])
    facts = {"prompts": {"number": 3}, "ablation": "zero", "metric": "logit-diff"}
    record = neuronpedia_record(edge_graph(question, [Mixer(0)]), facts, [])
    kinds = {node["feature_type"] for node in record["nodes"]}
    assert kinds == {"mixer", "attention head", "mlp", "logit"}
    assert len({node["node_id"] for node in record["nodes"]}) == len(record["nodes"])


@pytest.mark.parametrize(
    ("entry", "name", "problem"),
    [
        ("granitemoehybrid", "L1.mlp", "an MLP of 2 parts"),
        ("granitemoehybrid", "L1.mlp2", "an MLP of 2 parts"),
        ("lfm2", "L1.mlp0", "an MLP of one part"),
        ("lfm2", "L1.mixer", "no mixer"),
        ("nemotron_h", "L0.mlp", "no MLP"),
    ],
)
def test_what_a_layer_does_not_have_is_refused_by_name(entry, name, problem):
    with pytest.raises(SelfRepairError, match=f"{name} cannot be replaced: .*{problem}"):
        prompt_effects(hybrid(entry), hybrid_prompts(), [Intervention(tuple(parse_names(name)))])

"""Runs whose ablations are other than single heads: the same numbers as of heads where they are heads, the engines'
own where they are sets, names and coordinates, and what is refused."""

import numpy as np
import pytest
import torch
import xarray as xr

from selfrepair import ReferenceEngine, SelfRepairError, load_run, measure, resume
from selfrepair.ablation.interventions import Intervention, each, freezing, ports_of, together
from selfrepair.ablation.site_names import parse_site
from selfrepair.ablation.sites import At, Attention, Head, Mlp, Neuron
from selfrepair.engine.clean import clean_run
from selfrepair.results.intervention_axis import cells_of
from support import corpus, language_model

FEW = {"replicates": 10, "sample": 10**6, "progress": False}
SETS = [
    together("movers", [Head(1, 2), Head(2, 1)]),
    freezing(Intervention((Head(0, 3),)), [Attention(1), Mlp(2)], "frozen"),
    Intervention((Mlp(1),)),
    Intervention((Neuron(2, 5), At(Head(2, 0), (3, 4))), name="neuron and a position"),
    Intervention((Attention(1),)),
]


@pytest.mark.parametrize("ablation", ["resample", "mean", "zero", "position-mean"])
def test_single_heads_as_interventions_give_the_numbers_of_heads(ablation):
    model, text = language_model("gpt2"), corpus()
    heads = [Head(2, 1), Head(1, 3), Head(1, 0)]
    plain = measure(model, text, ablation=ablation, heads=heads, engine="replay", **FEW)
    named = measure(model, text, ablation=ablation, interventions=each(heads), engine="replay", **FEW)
    assert named.of_heads and named.plan["heads"] == plain.plan["heads"] and named.plan["interventions"] is None
    xr.testing.assert_identical(named.heads.drop_attrs(), plain.heads.drop_attrs())
    assert named.tokens.equals(plain.tokens)


def test_heads_under_other_names_are_found_by_these():
    model, text = language_model("gpt2"), corpus()
    plain = measure(model, text, ablation="zero", heads=[Head(2, 1), Head(1, 3)], engine="replay", **FEW)
    chosen = [Intervention((Head(1, 3),), name="early"), Intervention((Head(2, 1),), name="late")]
    named = measure(model, text, ablation="zero", interventions=chosen, engine="replay", **FEW)
    assert not named.of_heads and named.interventions["name"].values.tolist() == ["early", "late"]
    for place, (layer, head) in enumerate([(1, 3), (2, 1)]):
        of, found = plain.heads.sel(layer=layer, head=head), named.interventions.isel(intervention=place)
        for name in ("self_repair", "self_repair_low", "total_effect", "repair_norm", "repair_by_head", "count"):
            np.testing.assert_allclose(found[name].values, of[name].values, rtol=1e-6, atol=1e-9, err_msg=name)


@pytest.mark.parametrize("engine", ["replay", "delta", "reference"])
@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_sets_are_measured_token_by_token(name, engine, tmp_path):
    model, text = language_model(name), corpus()
    run = measure(model, text, ablation="zero", interventions=SETS, engine=engine, out=tmp_path / "run", **FEW)
    assert run.outcome["status"] == "complete"
    with model.running():
        clean = clean_run(model, torch.from_numpy(text.tokens), ports=ports_of(SETS))
        truth = {
            one.name: (ledger.total_effect[row], ledger.direct_effect[row])
            for ledger in ReferenceEngine().sweep(
                model, clean, SETS, lambda port: torch.zeros_like(clean.outputs_at(port)), True
            )
            for row, one in enumerate(ledger.interventions)
        }
    names = {(cell.layer, cell.head): cell.name for cell in cells_of(run.interventions)}
    assert set(names.values()) == {one.name for one in SETS}
    frame = run.tokens_frame()
    assert len(frame)
    for row in frame.itertuples():
        total, direct = truth[names[row.layer, row.head]]
        assert row.total_effect == pytest.approx(float(total[row.window, row.position]), abs=1e-5)
        assert row.direct_effect == pytest.approx(float(direct[row.window, row.position]), abs=1e-5)
    kinds = dict(zip(run.interventions["name"].values, run.interventions["kind"].values, strict=True))
    assert kinds["L1.mlp"] == "mlp" and kinds["movers"] == kinds["frozen"] == "set" and kinds["L1.attn"] == "attention"
    table = run.table("all", top=None)
    assert set(table["name"]) == {one.name for one in SETS}
    for make in (run.plot_overview, lambda: run.heads):
        with pytest.raises(SelfRepairError, match="single heads"):
            make()
    again = load_run(tmp_path / "run")
    xr.testing.assert_identical(again.interventions, run.interventions)
    assert resume(tmp_path / "run", model, progress=False).outcome["status"] == "complete"


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ([], "there are none"),
        ([Intervention((), (Mlp(1),))], "replaces nothing"),
        ([Mlp(1), Intervention((Mlp(1),))], "Two interventions"),
        ([Mlp(7)], "There is no L7.mlp"),
        ([At(Mlp(1), (30,))], "position 30"),
        ([(1, 2)], "is not a site"),
    ],
)
def test_what_cannot_be_measured_is_refused(given, match):
    with pytest.raises(SelfRepairError, match=match):
        measure(language_model("gpt2"), corpus(), interventions=given, **FEW)
    with pytest.raises(SelfRepairError, match="Both heads and interventions"):
        measure(language_model("gpt2"), corpus(), interventions=[Mlp(1)], heads=[(1, 0)], **FEW)


@pytest.mark.parametrize(
    "text", ["L9H6", "L9.mlp", "L9.attn", "L11N584", "L9H6@3", "L9.mlp@-2,-1", "L9.mixer", "L9.mlp1@2"]
)
def test_sites_print_as_they_are_parsed(text):
    assert str(parse_site(text)) == text


@pytest.mark.parametrize("text", ["", "9.6", "L9X6", "L9H6@", "L9", "L9H6@1,", "L-1H2", "L9.attn1"])
def test_other_text_names_no_site(text):
    with pytest.raises(SelfRepairError, match="is not a site"):
        parse_site(text)

import json

import numpy as np
import pytest
import xarray as xr
from made_runs import ATTRIBUTES, BINS, curve, document_sums, kept_rows, layer_sums, made_effects, made_run

from selfrepair.errors import SelfRepairError
from selfrepair.results import schema
from selfrepair.results.dataset import heads_dataset, plain_attributes
from selfrepair.results.intervention_axis import cells_of_heads
from selfrepair.results.quantities import QUANTITY
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.curves import bin_edges
from selfrepair.statistics.donor_variance import VarianceSplit
from selfrepair.statistics.filters import DEFAULT_FILTERS
from selfrepair.statistics.labels import LABELS
from selfrepair.statistics.summary import Summariser

UNITS = ("logit", "squared logit", "1")


@pytest.fixture(scope="module")
def run():
    return made_run(skip={(2, 3)})


def test_every_quantity_is_described():
    assert set(QUANTITY) == set(QUANTITIES)


def test_every_variable_says_what_it_is(run):
    for name, variable in run.heads.data_vars.items():
        assert {"long_name", "description"} <= set(variable.attrs), name
        if variable.dtype.kind in "if":
            assert variable.attrs["units"] in UNITS, name
    for name in QUANTITIES:
        assert run.heads[name].attrs["units"] == ("1" if name == "sigma_ratio" else "logit")
    assert run.heads["self_repair"].attrs["units"] == "logit"
    assert run.heads["repaired_fraction"].attrs["units"] == run.heads["sigma_ratio"].attrs["units"] == "1"


def test_axes_and_coordinates(run):
    heads = run.heads
    assert heads["self_repair"].dims == ("filter", "layer", "head")
    assert list(heads["filter"].values) == [one.label for one in DEFAULT_FILTERS]
    assert heads["repair_by_head"].dims == ("filter", "layer", "head", "by_layer", "by_head")
    assert heads["repair_by_mlp_standard_error"].dims == ("filter", "layer", "head", "by_layer")
    assert heads["threshold"].sel(filter="top 2%").min() > heads["threshold"].sel(filter="bottom 2%").max()
    schema.check_heads(run.interventions)


def test_the_ledger_closes_in_the_means(run):
    heads = run.heads
    parts = heads["repair_heads"] + heads["repair_mlps"] + heads["repair_post_norms"] + heads["repair_norm"]
    np.testing.assert_allclose(parts, heads["self_repair"], atol=1e-6)
    gap = heads["total_effect"] + heads["lost_direct_effect"] - heads["self_repair"]
    np.testing.assert_allclose(gap.values[np.isfinite(gap.values)], 0, atol=1e-6)
    by_head = heads["repair_by_head"].sum(["by_layer", "by_head"], skipna=False)
    np.testing.assert_allclose(by_head, heads["repair_heads"], atol=1e-5)


def test_intervals_hold_their_means_and_missing_heads_are_nan(run):
    heads = run.heads
    kept = heads["count"] > 0
    inside = (heads["self_repair_low"] <= heads["self_repair"]) & (heads["self_repair"] <= heads["self_repair_high"])
    assert bool(inside.where(heads["documents"] > 1, True).all())
    assert not bool(kept.sel(layer=2, head=3).any())
    assert np.isnan(heads["self_repair"].sel(layer=2, head=3)).all()
    assert np.isfinite(heads["self_repair"].where(kept, 0)).all()


def test_attributes_are_plain_and_the_note_is_there(run):
    attrs = run.heads.attrs
    assert attrs["model"] == ATTRIBUTES["model"] and attrs["numerical_floor"] == 3.2e-6
    assert attrs["resumed"] == "false" and attrs["note"] == "none" and json.loads(attrs["seeds"]) == [0, 1]
    assert "over documents, from a bootstrap" in attrs["intervals"] and "in each replicate" in attrs["intervals"]
    assert "Fieller" in attrs["intervals"] and "docs/coverage.md" in attrs["intervals"]
    assert plain_attributes({"a": np.float32(1), "b": {"c": 1}}) == {"a": 1.0, "b": '{"c": 1}'}


def test_heads_have_a_label_and_a_q_value(run):
    heads = run.heads
    assert set(np.unique(heads["label"].values.astype(str))) <= set(LABELS)
    assert "load-bearing" in heads["label"].attrs["description"]
    q, sure = heads["q_value"], np.isfinite(heads["repaired_fraction_standard_error"])
    assert bool(((q >= 0) & (q <= 1)).where(sure, True).all())
    np.testing.assert_array_equal(np.isfinite(q), sure)
    for label, sign in (("repaired", 1), ("amplified", -1)):
        named = heads["label"].values == label
        np.testing.assert_array_equal(named, (q.values <= 0.05) & (sign * heads["repaired_fraction"].values > 0))
    sure = (heads["self_repair_low"] > 0) | (heads["self_repair_high"] < 0)
    assert bool(sure.where(q <= 0.05, True).all())
    many = made_run(windows=40).heads["label"].values
    assert (many == "repaired").any() and (many != "repaired").any()
    assert bool((heads["effective_documents"] <= heads["documents"] + 1e-9).all())


def test_the_curve_goes_up_the_direct_effects_and_averages_to_the_mean(run):
    heads = run.heads.sel(layer=[0, 1])  # every head of which was measured
    assert heads["curve_self_repair"].dims == ("bin", "layer", "head")
    assert bool((heads["curve_lower_edge"].diff("bin") > 0).all())
    bins, whole = heads["curve_self_repair"].mean("bin"), heads["self_repair"].sel(filter="all")
    np.testing.assert_allclose(bins, whole, atol=0.03 * float(abs(heads["curve_self_repair"]).max()))


def test_variances_are_there_with_several_donors():
    made = made_effects()
    parts = [np.full(made.shape, value) for value in (1.0, 2.0, 3.0)]
    summariser = Summariser()
    sums = document_sums(made)
    for layer in range(made.shape[0]):
        summariser.add(layer_sums(made, layer, sums[:, layer], kept_rows(made)[layer], []))
    edges = bin_edges(made.survey, BINS)
    labels = [one.label for one in made.filters]
    split = VarianceSplit(*parts)
    heads = heads_dataset(
        summariser.summary(),
        labels,
        made.thresholds,
        None,
        curve(made, edges),
        edges,
        split,
        np.full(made.shape, 5.0),
        cells_of_heads([made.shape[1]] * made.shape[0]),
        {},
    )
    for name, value in (("document", 1), ("token", 2), ("donor", 3)):
        assert (heads[f"variance_{name}"] == value).all() and "units" in heads[f"variance_{name}"].attrs
    assert (heads["donors_needed"] == 5).all() and "at most 10%" in heads["donors_needed"].attrs["description"]


def test_without_components_there_are_none():
    heads = made_run(components="none").heads
    assert not [name for name in heads if name.startswith("repair_by")] and "by_layer" not in heads.coords


def broken(run, what):
    heads = run.interventions
    return {
        "missing": heads.drop_vars("self_repair_low"),
        "axes": heads.assign(self_repair=heads["self_repair"].transpose("intervention", "filter")),
        "kind": heads.assign(count=heads["count"].astype(float)),
        "schema": heads.assign_attrs(schema=99),
        "unnamed": heads.drop_vars("name"),
        "outside": heads.assign_coords(layer=heads["layer"] + 1),
        "twice": heads.assign_coords(head=heads["head"] * 0),
        "empty": heads.assign_coords(head=heads["head"] * 1000),
        "foreign": xr.Dataset({"temperature": ("x", [1.0])}),
    }[what]


@pytest.mark.parametrize(
    ("what", "said"),
    [
        ("missing", "self_repair_low"),
        ("axes", "has axes"),
        ("kind", "'count' holds float64"),
        ("schema", "schema 99"),
        ("unnamed", "no coordinate 'name'"),
        ("outside", "outside its 3 layers"),
        ("twice", "share cells"),
        ("empty", "leave most of them empty"),
        ("foreign", "schema none"),
    ],
)
def test_what_is_not_a_dataset_of_heads_is_refused(run, what, said):
    with pytest.raises(SelfRepairError, match=said):
        schema.check_heads(broken(run, what))


def test_tables_are_checked(run):
    schema.check_tokens(run.tokens.schema)
    schema.check_windows(run.windows.schema)
    with pytest.raises(SelfRepairError, match="self_repair"):
        schema.check_tokens(run.tokens.drop_columns(["self_repair"]).schema)
    with pytest.raises(SelfRepairError, match="donors"):
        schema.check_windows(run.windows.drop_columns(["donors"]).schema)
    texts = run.windows.set_column(3, "tokens", [["a"] * run.windows.num_rows])
    with pytest.raises(SelfRepairError, match="not lists"):
        schema.check_windows(texts.schema)

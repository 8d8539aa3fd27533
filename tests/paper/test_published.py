"""Published tables, made up: read, matched by name, compared in words and numbers, refused where they do not fit."""

import numpy as np
import pandas as pd
import pytest

from selfrepair import measure
from selfrepair.errors import SelfRepairError
from selfrepair.paper import make
from selfrepair.paper.experiments import published
from selfrepair.paper.experiments.published import reference_folder
from selfrepair.paper.inputs.recipe import DEFAULT
from selfrepair.paper.numbers.over_documents import Number
from selfrepair.pictures import with_matplotlib
from support import corpus, language_model


@pytest.fixture(scope="module")
def run():
    return measure(language_model("llama"), corpus(), filters=["all", "top:0.02"], components="none", progress=False)


def table(run, label="all", scale=1.0, noise=0.0, model="LlamaForCausalLM"):
    part = run.heads.sel(filter=label)
    cells = np.indices(part["direct_effect"].shape).reshape(2, -1)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"set": "made-up", "model": model, "filter": label, "layer": cells[0], "head": cells[1]})
    for theirs, ours, *_ in reference_folder.COMPARED:
        values = part[ours].values.ravel()
        rows[theirs] = scale * values + noise * values.std() * rng.normal(size=values.size)
    return rows


def written(rows, folder):
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "heads.csv", index=False)
    return folder


def test_a_copy_agrees_in_everything(run, tmp_path):
    name = run.heads.attrs["model"]
    (exhibit,) = published.compare_per_head(run, written(table(run, model=name), tmp_path / "r"))
    assert exhibit.number("self-repair: correlation over heads").value == pytest.approx(1)
    assert exhibit.number("self-repair: largest absolute difference").value == pytest.approx(0, abs=1e-6)
    assert exhibit.caption.count("; within tolerance: 12 of 12 heads") == 7 and "outside" not in exhibit.caption
    assert "as close as two runs of the authors' script on one model (correlation 0.86 and 0.087" in exhibit.caption
    assert len(exhibit.table) == 12
    assert [panel.title.split(":")[0] for panel in exhibit.picture.panels] == [
        column[2] for column in reference_folder.COMPARED
    ]
    assert all("12 heads" in panel.title for panel in exhibit.picture.panels)
    tokens = run.heads["count"].sel(filter="all").values
    assert exhibit.table["tokens"].tolist() == tokens.ravel().tolist()
    assert exhibit.caption.count(f"12 heads of {tokens.max():,.0f} tokens here") == 7


def test_numbers_are_those_of_the_two_columns(run, tmp_path):
    rows = table(run, scale=2.0, noise=3.0, model=run.heads.attrs["model"])
    (exhibit,) = published.compare_per_head(run, written(rows, tmp_path / "r"))
    x, y = rows["self_repair_total"], run.heads["self_repair"].sel(filter="all").values.ravel()
    assert exhibit.number("self-repair: correlation over heads").value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert exhibit.number("self-repair: mean difference, measured - published").value == pytest.approx((y - x).mean())
    assert exhibit.number("self-repair: median absolute difference").value == pytest.approx(np.median(np.abs(y - x)))
    assert "farther apart than two runs of the authors' script on one model (correlation 0.77)" in exhibit.caption


def test_tolerances_are_those_of_both_measurements(run, tmp_path):
    """A head is inside where it lies within √2 half-widths and half a unit of the last digit published."""
    part = run.heads.sel(filter="all")
    rows = table(run, model=run.heads.attrs["model"])
    half = ((part["total_effect_high"] - part["total_effect_low"]) / 2).values.ravel()
    room = np.sqrt(2) * half + 0.005  # two decimals
    far = np.where(np.arange(12) < 2, 1.1, 0.5)  # two of twelve outside
    rows["logit_diff"] = np.round(rows["logit_diff"] + far * room + 0.01 * (far > 1), 2)
    (exhibit,) = published.compare_per_head(run, written(rows, tmp_path / "r"))
    np.testing.assert_allclose(exhibit.table["tolerance total effect"], room, rtol=1e-6)
    assert exhibit.number("total effect: heads within tolerance").value == pytest.approx(10 / 12)
    assert exhibit.number("total effect: median tolerance").value == pytest.approx(np.median(room))
    assert "outside tolerance: 10 of 12 heads" in exhibit.caption
    assert exhibit.caption.count("; within tolerance") == 6


def test_a_column_without_numbers_costs_its_own_row_only(run, tmp_path):
    rows = table(run, model=run.heads.attrs["model"]).assign(self_repair_total=np.nan)
    rows["logit_diff"] = rows["logit_diff"].astype(object)
    rows.loc[3, "logit_diff"] = "oops"
    rows["direct_effects"] = [0.1, 0.2, *["inf"] * 10]
    rows["self_repair_from_LN"] = 0.5
    (exhibit,) = published.compare_per_head(run, written(rows, tmp_path / "r"))
    assert "Self-repair: not compared, since" in exhibit.caption
    assert "heads.csv, column self_repair_total has a number for 0 and this run for 12 of 12 heads" in exhibit.caption
    assert "column direct_effects has a number for 2" in exhibit.caption
    assert "Total effect, 11 heads" in exhibit.caption
    assert "no correlation, since one side is the same for all" in exhibit.caption and "nan" not in exhibit.caption
    assert exhibit.number("total effect: heads compared").value == 11
    assert exhibit.number("self-repair: heads compared").value == 0
    assert len(with_matplotlib.image(exhibit.picture, "t", "svg")) > 1000


def test_other_operators_get_no_verdict(tmp_path):
    run = measure(
        language_model("llama"), corpus(), ablation="mean", filters=["all"], components="none", progress=False
    )
    (exhibit,) = published.compare_per_head(run, written(table(run, model=run.heads.attrs["model"]), tmp_path / "r"))
    assert exhibit.caption.count("no verdict, since the published numbers are of resample ablation") == 7


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layer": "x"}, r"heads\.csv, column layer: what stands in line 2, 3, 4 and 9 more is not a whole number"),
        ({"head": -1}, r"heads\.csv, column head: .* is not a whole number from 0 on"),
        ({"head": 0}, r"heads\.csv, column head: .* stands in its set twice"),
        ({"filter": None}, r"heads\.csv, column filter: .* is empty"),
        ({"filter": "some tokens"}, r"heads\.csv, column filter: the set made-up is of 'some tokens'"),
        ({"filter": ["all", *["top 2%"] * 11]}, r"the set made-up is of 'all' and 'top 2%'"),
        ({"filter": "top 5%"}, r"is of top 5% tokens; the run has no such filter"),
    ],
)
def test_odd_tables_are_refused_by_file_and_column(run, tmp_path, change, message):
    rows = table(run, model=run.heads.attrs["model"]).assign(**change)
    with pytest.raises(SelfRepairError, match=message):
        list(published.compare_per_head(run, written(rows, tmp_path / "r")))


def test_a_set_that_is_refused_leaves_the_others(run, tmp_path):
    name = run.heads.attrs["model"]
    rows = pd.concat([table(run, model=name).assign(set="odd", filter="some"), table(run, model=name)])
    exhibits = published.compare_per_head(run, written(rows, tmp_path / "r"))
    assert next(exhibits).name == "published-made-up"
    with pytest.raises(SelfRepairError, match="the set odd is of 'some'"):
        next(exhibits)


def test_other_models_and_filters_are_not_compared(run, tmp_path):
    assert list(published.compare_per_head(run, written(table(run, model="gpt2-small"), tmp_path / "r"))) == []
    (exhibit,) = published.compare_per_head(
        run, written(table(run, "top 2%", model=run.heads.attrs["model"]), tmp_path / "s")
    )
    top = run.heads["direct_effect"].sel(filter="top 2%").values.ravel()
    np.testing.assert_allclose(exhibit.table["measured direct effect"], top)


def test_names_of_one_model():
    for name in ("gpt2-small", "gpt2", "openai-community/gpt2", "GPT2"):
        assert reference_folder.same_model("gpt2-small", name)
    assert reference_folder.same_model("pythia-160m", "EleutherAI/pythia-160m")
    assert not reference_folder.same_model("gpt2-medium", "gpt2")


def test_what_does_not_fit_is_refused(run, tmp_path):
    name = run.heads.attrs["model"]
    with pytest.raises(SelfRepairError, match=r"has no heads\.csv"):
        list(published.compare_per_head(run, tmp_path))
    with pytest.raises(SelfRepairError, match="no column layer, logit_diff"):
        list(published.compare_per_head(run, written(table(run).drop(columns=["logit_diff", "layer"]), tmp_path / "r")))
    larger = pd.concat([table(run, model=name), table(run, model=name).assign(layer=lambda rows: rows["layer"] + 5)])
    with pytest.raises(SelfRepairError, match="8 layers"):
        list(published.compare_per_head(run, written(larger, tmp_path / "s")))
    (tmp_path / "r" / "heads.csv").write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(SelfRepairError, match="Cannot read"):
        list(published.compare_per_head(run, tmp_path / "r"))


def test_names_from_data_make_no_paths(run, tmp_path):
    rows = table(run, model=run.heads.attrs["model"]).assign(set="../../<b>evil")
    (exhibit,) = published.compare_per_head(run, written(rows, tmp_path / "r"))
    assert exhibit.name == "published--------b-evil"


def test_slopes_of_self_repression(tmp_path):
    folder = tmp_path / "r" / "self_repress"
    folder.mkdir(parents=True)
    row = {
        "model": "gpt2-medium",
        "vector_added": "WITH_SAME_AS_RECEIVING_HEAD",
        "scaling": 3,
        "head": "L21H1",
        "ols_slope": 0.68,
        "pearson_r": 0.9,
        "n": 1450,
    }
    other = row | {"vector_added": "WITH_RANDOM_HEAD", "ols_slope": 1.0}
    pd.DataFrame([row, other, row | {"scaling": 5}, row | {"head": "L1H1"}]).to_csv(folder / "summary.csv", index=False)
    slopes = {("L21H1", 3.0): Number("slope", 0.7, 0.6, 0.8, 9), ("L21H1", 5.0): Number("slope", 0.9, 0.85, 0.95, 9)}
    compare = published.compare_self_repression
    exhibit = compare(tmp_path / "r", "openai-community/gpt2-medium", slopes, "9 documents.")
    assert exhibit.table[["published", "measured"]].to_numpy().tolist() == [[0.68, 0.7], [0.68, 0.9]]
    # the slope's own error, from r = slope * sd(x) / sd(y): sqrt((1 / r^2 - 1) / (n - 2)) of it
    error = 1.96 * 0.68 * np.sqrt((1 / 0.81 - 1) / 1448)
    np.testing.assert_allclose(exhibit.table["tolerance"], np.hypot([0.1, 0.05], error))
    assert "L21H1 × 3: published 0.68 on 1,450 tokens, measured 0.70 (within the tolerance of ±0.10)" in exhibit.caption
    assert "L21H1 × 5: published 0.68 on 1,450 tokens, measured 0.90 (outside" in exhibit.caption
    assert exhibit.picture.panels[0].marks[0].y.tolist() == [0.7, 0.9] and "9 documents." in exhibit.caption
    assert compare(tmp_path / "r", "gpt2", slopes) is None
    assert compare(tmp_path, "gpt2-medium", slopes) is None
    none = compare(tmp_path / "r", "gpt2-medium", {("L0H0", 3.0): Number("slope", 1.0)})
    assert "published for L21H1, L1H1" in none.caption and "none was measured here" in none.caption
    assert "iterative was not made" in compare(tmp_path / "r", "gpt2-medium", {}).caption


def test_odd_tables_of_slopes_are_said(tmp_path):
    folder = tmp_path / "self_repress"
    folder.mkdir()
    row = {"model": "m", "vector_added": "WITH_SAME_AS_RECEIVING_HEAD", "scaling": 3, "head": "L0H0", "ols_slope": 0.5}
    slopes = {("L0H0", 3.0): Number("slope", 0.7, 0.6, 0.8, 9)}
    pd.DataFrame([row]).to_csv(folder / "summary.csv", index=False)
    exhibit = published.compare_self_repression(tmp_path, "m", slopes)
    assert "(no verdict: one of them has no interval)" in exhibit.caption
    pd.DataFrame([row | {"ols_slope": "x"}]).to_csv(folder / "summary.csv", index=False)
    exhibit = published.compare_self_repression(tmp_path, "m", slopes)
    assert "(no verdict: one of them is no number)" in exhibit.caption
    assert len(with_matplotlib.image(exhibit.picture, "t", "svg")) > 1000
    pd.DataFrame([row]).drop(columns="scaling").to_csv(folder / "summary.csv", index=False)
    with pytest.raises(SelfRepairError, match=r"summary\.csv has no column scaling"):
        published.compare_self_repression(tmp_path, "m", slopes)


def test_a_paper_compares_both_tables(tmp_path):
    """Slopes are those of the authors' own choice, at the intervened run's scale, whatever the recipe."""
    model, text = language_model("llama"), corpus(documents=range(6))
    run = make.sweep(model, text, DEFAULT, progress=False)
    folder = written(table(run, model=model.name), tmp_path / "r")
    (folder / "self_repress").mkdir()
    row = {"model": model.name, "vector_added": "WITH_SAME_AS_RECEIVING_HEAD", "ols_slope": 0.5, "pearson_r": 0.9}
    every = [f"L{layer}H{head}" for layer in range(3) for head in range(4)]
    pd.DataFrame([row | {"scaling": 3, "head": head, "n": 50} for head in every]).to_csv(
        folder / "self_repress" / "summary.csv", index=False
    )
    study = make.Study(model, text, run, DEFAULT, scan_tokens=24, reference=folder)
    made = make.make(study, ["iterative", "published"])
    slopes, tables = made.exhibits[-2:]
    assert not made.failed and len(slopes.table) == 2 and tables.name == "published-made-up"
    points = next(exhibit for exhibit in made.exhibits if exhibit.name == "figure-09-self-repression").table
    for _, compared in slopes.table.iterrows():
        part = points[(points["head"] == compared["head"]) & (points["scale"] == 3)]
        wanted = np.polyfit(part["x"].astype(float), part["at own scale"].astype(float), 1)[0]
        assert compared["measured"] == pytest.approx(wanted, rel=1e-4)
    assert "tokens" in slopes.caption and model.name in slopes.caption
    study.reference = written(table(run, model="another"), tmp_path / "s")
    failed = make.make(study, ["published"]).failed
    assert f"has no table of {model.name}" in str(failed["published"])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (lambda: b"," * 2**20 + b"\n", "a line of more than 200 values"),
        (lambda: b'"\n",' + b"," * 1000 + b"\n", "a line of more than 200 values"),
        (lambda: b"a,b\n" + b"," * 1000, "a line of more than 200 values"),
        (lambda: b'"' + b"x" * 2**20, "field larger than"),
        (lambda: b"a,b\n" * 2**23, "larger than 16 MiB"),
    ],
)
@pytest.mark.parametrize("name", ["heads.csv", "self_repress/summary.csv"])
def test_tables_larger_than_sense_are_refused(tmp_path, name, content, message):
    """A million columns in one megabyte take four gigabytes."""
    (tmp_path / "self_repress").mkdir()
    (tmp_path / name).write_bytes(content())
    with pytest.raises(SelfRepairError, match=message):
        (reference_folder.read_published_heads if name == "heads.csv" else reference_folder.read_self_repression)(
            tmp_path
        )

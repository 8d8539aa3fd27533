"""Published tables, made up: read, matched by name, compared in words and numbers, refused where they do not fit."""

import numpy as np
import pandas as pd
import pytest

from selfrepair import measure
from selfrepair.errors import SelfRepairError
from selfrepair.paper import published
from selfrepair.paper.numbers import Number
from support import corpus, language_model


@pytest.fixture(scope="module")
def run():
    return measure(language_model("llama"), corpus(), filters=["all", "top:0.02"], components="none", progress=False)


def table(run, label="all", scale=1.0, noise=0.0, model="LlamaForCausalLM"):
    part = run.heads.sel(filter=label)
    place = np.indices(part["direct_effect"].shape).reshape(2, -1)
    rng = np.random.default_rng(0)
    rows = pd.DataFrame({"set": "made-up", "model": model, "filter": label, "layer": place[0], "head": place[1]})
    for theirs, ours, *_ in published.COMPARED:
        values = part[ours].values.ravel()
        rows[theirs] = scale * values + noise * values.std() * rng.normal(size=values.size)
    return rows


def written(rows, folder):
    folder.mkdir(exist_ok=True)
    rows.to_csv(folder / "heads.csv", index=False)
    return folder


def test_a_copy_agrees_in_everything(run, tmp_path):
    name = run.heads.attrs["model"]
    (exhibit,) = published.compare(run, written(table(run, model=name), tmp_path / "r"))
    assert exhibit.number("self-repair: correlation over heads").value == pytest.approx(1)
    assert exhibit.number("self-repair: largest absolute difference").value == pytest.approx(0, abs=1e-6)
    assert "within the tolerance of 0.86" in exhibit.caption and "outside" not in exhibit.caption
    assert len(exhibit.table) == 12 and len(exhibit.picture.panels) == 6


def test_numbers_are_those_of_the_two_columns(run, tmp_path):
    rows = table(run, scale=2.0, noise=3.0, model=run.heads.attrs["model"])
    (exhibit,) = published.compare(run, written(rows, tmp_path / "r"))
    x, y = rows["self_repair_total"], run.heads["self_repair"].sel(filter="all").values.ravel()
    assert exhibit.number("self-repair: correlation over heads").value == pytest.approx(np.corrcoef(x, y)[0, 1])
    assert exhibit.number("self-repair: mean difference, measured - published").value == pytest.approx((y - x).mean())
    assert exhibit.number("self-repair: median absolute difference").value == pytest.approx(np.median(np.abs(y - x)))
    assert "outside the tolerance of 0.86" in exhibit.caption
    assert "outside the tolerance of 0.77)" in exhibit.caption  # by the correlation alone


def test_other_models_and_filters_are_not_compared(run, tmp_path):
    assert published.compare(run, written(table(run, model="gpt2-small"), tmp_path / "r")) == []
    (exhibit,) = published.compare(run, written(table(run, "top 2%", model=run.heads.attrs["model"]), tmp_path / "s"))
    top = run.heads["direct_effect"].sel(filter="top 2%").values.ravel()
    np.testing.assert_allclose(exhibit.table["measured direct effect"], top)


def test_names_of_one_model():
    for name in ("gpt2-small", "gpt2", "openai-community/gpt2", "GPT2"):
        assert published.same_model("gpt2-small", name)
    assert published.same_model("pythia-160m", "EleutherAI/pythia-160m")
    assert not published.same_model("gpt2-medium", "gpt2")


def test_what_does_not_fit_is_refused(run, tmp_path):
    name = run.heads.attrs["model"]
    with pytest.raises(SelfRepairError, match=r"has no heads\.csv"):
        published.compare(run, tmp_path)
    with pytest.raises(SelfRepairError, match="no column layer, logit_diff"):
        published.compare(run, written(table(run).drop(columns=["logit_diff", "layer"]), tmp_path / "r"))
    larger = pd.concat([table(run, model=name), table(run, model=name).assign(layer=7)])
    with pytest.raises(SelfRepairError, match="8 layers"):
        published.compare(run, written(larger, tmp_path / "s"))
    (tmp_path / "r" / "heads.csv").write_bytes(b"\xff\xfe\x00broken")
    with pytest.raises(SelfRepairError, match="Cannot read"):
        published.compare(run, tmp_path / "r")


def test_names_from_data_make_no_paths(run, tmp_path):
    rows = table(run, model=run.heads.attrs["model"]).assign(set="../../<b>evil")
    (exhibit,) = published.compare(run, written(rows, tmp_path / "r"))
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
    }
    other = row | {"vector_added": "WITH_RANDOM_HEAD", "ols_slope": 1.0}
    pd.DataFrame([row, other]).to_csv(folder / "summary.csv", index=False)
    slopes = {("L21H1", 3.0): Number("slope", 0.7, 0.6, 0.8)}
    found = published.compare_self_repression(tmp_path / "r", "openai-community/gpt2-medium", slopes)
    assert found[["published", "measured"]].to_numpy().tolist() == [[0.68, 0.7]]
    assert published.compare_self_repression(tmp_path / "r", "gpt2", slopes).empty
    assert published.compare_self_repression(tmp_path, "gpt2-medium", slopes).empty

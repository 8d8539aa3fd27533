"""One `selfrepair run` in a process of its own, and everything it leaves behind."""

import importlib
import json
import platform

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import xarray as xr

from loading.fixtures import process

LINES = ("repair_heads", "repair_mlps", "repair_post_norms", "repair_norm")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("results") / "run"


@pytest.fixture(scope="module")
def ended(saved, place):
    return process("run", saved("llama"), "--tokens", 480, "--length", 24, "--out", place)


@pytest.fixture(scope="module")
def heads(ended, place):
    return xr.load_dataset(place / "heads.nc", engine="h5netcdf")


@pytest.mark.long
def test_it_ends_well_and_shows_how_far_it_is(ended):
    assert ended.code == 0, ended.err
    assert "3 layers x 4 heads, float32" in ended.err
    assert "other versions have other texts" in " ".join(ended.err.split())
    assert "Survey (clean pass): 100%" in ended.err and "Sweep (ablated runs): 100%" in ended.err
    assert "Traceback" not in ended.err and "Warning" not in ended.err


def test_the_tables_say_what_they_are_about(ended, place):
    for said in (
        "largest first",
        "resample ablation (donors: 1)",
        "top 2% of tokens by clean direct effect",
        "position 0 left out",
        "numerical floor",
        "self-repair",
        f"text: builtin (Python {platform.python_version()})",
        f"selfrepair show {place}",
    ):
        assert said in ended.out or said in " ".join(ended.out.split())
    names = [line.split()[0] for line in ended.out.splitlines() if line.startswith("L")]
    assert sorted(names) == [f"L{layer}H{head}" for layer in range(3) for head in range(4)]
    assert all(f"  {label}  " in ended.out for label in ("all", "top 2%", "bottom 2%"))


def test_the_folder_holds_what_it_should(ended, place):
    assert sorted(path.name for path in place.iterdir()) == [
        "closeups.parquet",
        "direct_effects.png",
        "heads.nc",
        "log.txt",
        "manifest.json",
        "outcome.json",
        "overview.png",
        "passages.parquet",
        "plan.json",
        "report.html",
        "tokens.parquet",
        "units",
        "vocabulary.parquet",
        "windows.parquet",
    ]


def test_the_page_and_the_texts_of_tokens_are_there(ended, place, saved):
    from transformers import AutoTokenizer

    assert f"Report: {place / 'report.html'}" in ended.out
    assert (place / "report.html").read_text().startswith("<!doctype html>")
    tokenizer = AutoTokenizer.from_pretrained(saved("llama"))
    for row in pq.read_table(place / "vocabulary.parquet").to_pylist()[:50]:
        text = tokenizer.decode([row["token"]], clean_up_tokenization_spaces=False)
        assert row["bytes"].decode(errors="replace").strip() == text.strip() or "\N{REPLACEMENT CHARACTER}" in text


def test_the_plan_is_enough_to_repeat_the_run(ended, place):
    plan = json.loads((place / "plan.json").read_text())
    outcome = json.loads((place / "outcome.json").read_text())
    assert outcome["status"] == "complete" and outcome["ledger_closes"] is True
    assert plan["model"]["class"] == "LlamaForCausalLM" and len(plan["model"]["weights"]) == 64
    assert plan["text"]["source"] == "builtin" and plan["text"]["scored_tokens"] == 20 * 22
    assert len(plan["ablation"].pop("donors_fingerprint")) == 64
    ablation = {"operator": "resample", "by_name": True, "draws": 1, "donors": 1, "positions": "all"}
    assert plan["ablation"] == ablation
    assert len(plan["heads"]) == 12 and {"torch", "transformers", "selfrepair"} <= plan["versions"].keys()


def test_heads_nc_holds_ledgers_that_close(heads):
    assert heads["self_repair"].dims == ("filter", "intervention")
    assert list(heads["filter"].values) == ["all", "top 2%", "bottom 2%"]
    parts = sum(heads[name] for name in LINES)
    np.testing.assert_allclose(heads["self_repair"], parts, atol=1e-5)
    lost = heads["direct_effect"] - heads["ablated_direct_effect"]
    np.testing.assert_allclose(heads["self_repair"], heads["total_effect"] + lost, atol=1e-5)
    assert heads["self_repair"].attrs["units"] == "logit" and heads["self_repair"].attrs["description"]
    assert (heads["count"].sel(filter="all") == 440).all()
    assert heads.attrs["operator"] == "resample"


def test_tokens_open_with_pandas_and_close_token_by_token(ended, place):
    tokens = pd.read_parquet(place / "tokens.parquet")
    assert set(tokens["kept_as"]) == {"top", "bottom", "sample"} and tokens["position"].min() == 1
    np.testing.assert_allclose(tokens["self_repair"], sum(tokens[name] for name in LINES), atol=1e-5)
    lost = tokens["direct_effect"] - tokens["ablated_direct_effect"]
    np.testing.assert_allclose(tokens["self_repair"], tokens["total_effect"] + lost, atol=1e-5)


def test_the_tokens_behind_the_top_means_are_kept(ended, place, heads):
    tokens = pq.read_table(place / "tokens.parquet").to_pandas().sort_values("direct_effect")
    count = int(heads["count"].sel(filter="top 2%").max())
    top = tokens[tokens["kept_as"] == "top"].groupby(["layer", "head"])["self_repair"]
    found = top.apply(lambda values: values.iloc[-count:].mean()).sort_index().to_numpy()
    np.testing.assert_allclose(found, heads["self_repair"].sel(filter="top 2%").values.ravel(), atol=1e-5)


def test_donors_are_windows_of_other_documents(ended, place):
    windows = pq.read_table(place / "windows.parquet").to_pylist()
    assert len(windows) == 20
    for row in windows:
        (donor,) = row["donors"]
        assert not set(row["document"]) & set(windows[donor]["document"])
        assert windows[donor]["length"] >= row["length"] == len(row["tokens"])


def test_tokens_point_into_the_windows(ended, place):
    windows = pq.read_table(place / "windows.parquet").to_pylist()
    for row in pq.read_table(place / "tokens.parquet").to_pylist()[::50]:
        text = windows[row["window"]]
        assert text["tokens"][row["position"]] == row["token"]
        assert text["tokens"][row["position"] + 1] == row["target"]
        assert row["document"] in text["document"]


@pytest.mark.parametrize("name", ["polars", "duckdb"])
def test_other_software_opens_it_too(ended, place, name):
    module, file = importlib.import_module(name), place / "tokens.parquet"
    rows = len(module.read_parquet(file)) if name == "polars" else len(module.sql(f"from '{file}'").fetchall())
    assert rows == pq.read_metadata(file).num_rows


@pytest.mark.parametrize("name", ["overview.png", "direct_effects.png"])
def test_the_pictures_show_something(ended, place, name):
    image = pytest.importorskip("matplotlib.image").imread(place / name)[..., :3]
    assert min(image.shape[:2]) > 700
    ink = (image < 0.98).any(-1)
    assert 0.005 < ink.mean() < 0.5
    assert ink[:, : ink.shape[1] // 2].any() and ink[:, ink.shape[1] // 2 :].any()
    assert len(np.unique((image * 255).astype(int) @ (1, 256, 256**2))) > 100

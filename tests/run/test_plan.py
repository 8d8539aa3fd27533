"""The results folder is enough to recompute its numbers with other software: here, with the oracle."""

from __future__ import annotations

import json
from typing import ClassVar

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from comparing import assert_same_heads

from selfrepair import Filter, Resample, Windows, load_run, measure
from selfrepair.model.load import weights_digest
from support import corpus, language_model
from zoo import families, oracle
from zoo.anatomy import ANATOMY


@pytest.fixture(scope="module", params=["gpt2", "gemma2", "falcon_40b"])
def folder(request, tmp_path_factory):
    """A results folder, with the name of the model that it is of."""
    place = tmp_path_factory.mktemp("results") / request.param
    measure(
        language_model(request.param),
        corpus(documents=(0, 0, 1, 2, 3, 4)),
        ablation=Resample(2),
        filters=["all", "top:0.1"],
        seed=3,
        first=2,
        batch=4,
        out=place,
        progress=False,
    )
    return request.param, place


def test_a_row_can_be_recomputed_from_the_files(folder):
    """Tokens and donors of windows.parquet, a fresh network, two plain forwards per donor: the same row."""
    name, place = folder
    network, hand = families.build(name).double(), ANATOMY[name]
    windows = pq.read_table(place / "windows.parquet").to_pylist()
    kept = pq.read_table(place / "tokens.parquet").to_pylist()
    compared = [next(row for row in kept if row["kept_as"] == "top" and row["layer"] == layer) for layer in range(3)]
    compared += [row for row in kept if row["window"] == 3][-1:]  # a padded window
    for row in compared:
        window = windows[row["window"]]
        tokens = torch.tensor([window["tokens"]])
        assert tokens.shape[1] == window["length"]
        books = []
        for donor in window["donors"]:
            donors = torch.tensor([windows[donor]["tokens"][: window["length"]]])
            in_place = oracle.resampled(network, hand, donors, row["layer"], row["head"])
            books.append(oracle.ledger(network, hand, tokens, row["layer"], row["head"], in_place))
        numbers = {
            "direct_effect": [book.direct_effect for book in books],
            "ablated_direct_effect": [book.ablated_direct_effect for book in books],
            "total_effect": [book.total_effect for book in books],
            "self_repair": [book.self_repair for book in books],
            "repair_heads": [book.heads.sum((0, 1)) for book in books],
            "repair_mlps": [book.mlps.sum(0) for book in books],
            "repair_post_norms": [book.post_norms.sum(0) for book in books],
            "repair_norm": [book.norm for book in books],
            "sigma_ratio": [book.sigma_ratio for book in books],
        }
        for column, draws in numbers.items():
            wanted = np.mean([draw[0, row["position"]].item() for draw in draws])
            assert row[column] == pytest.approx(wanted, abs=2e-6), (column, row)
        assert row["token"] == window["tokens"][row["position"]]
        assert row["target"] == window["tokens"][row["position"] + 1]
        assert row["document"] in window["document"] and row["position"] >= 2


def test_the_whole_run_can_be_repeated_from_the_files(folder):
    name, place = folder
    plan = json.loads((place / "plan.json").read_text())
    table = pq.read_table(place / "windows.parquet").to_pylist()
    names = sorted({document for row in table for document in row["document"]})
    lengths = np.array([row["length"] for row in table])
    real = np.arange(plan["text"]["positions"]) < lengths[:, None]
    tokens = np.zeros(real.shape, np.int64)
    tokens[real] = np.concatenate([row["tokens"] for row in table])
    owners = np.array([names.index(row["document"][0]) for row in table])
    windows = Windows(tokens, lengths, np.where(real, owners[:, None], -1), tuple(names), {"source": "files"})
    assert windows.fingerprint == plan["text"]["fingerprint"]
    again = measure(
        language_model(name),
        windows,
        ablation=plan["ablation"]["operator"],
        donors=plan["ablation"]["donors"],
        filters=[Filter.parse(label) for label in plan["filters"]],
        heads=[tuple(unit) for unit in plan["heads"]],
        components=plan["components"],
        seed=plan["seed"],
        first=plan["text"]["first_position"],
        sample=plan["sample"],
        engine=plan["engine"],
        batch=plan["windows_per_batch"],
        progress=False,
    )
    assert again.windows.to_pylist() == table
    assert_same_heads(again, load_run(place))
    assert sorted(again.plan["heads"]) == sorted(plan["heads"])
    for key in ("model", "ablation", "filters", "components", "versions", "sample"):
        assert again.plan[key] == plan[key], key


def test_the_plan_says_what_was_done(folder):
    name, place = folder
    plan = json.loads((place / "plan.json").read_text())
    outcome = json.loads((place / "outcome.json").read_text())
    assert outcome["status"] == "complete" and outcome["ledger_closes"] is True
    assert plan["model"]["weights"] == weights_digest(families.build(name).double())
    assert len(plan["ablation"].pop("donors_fingerprint")) == 64
    assert plan["ablation"] == {"operator": "resample", "by_name": True, "draws": 2, "donors": 2, "positions": "all"}
    assert plan["filters"] == ["all", "top 10%"]
    assert plan["text"]["scored_tokens"] == corpus().scored(2).sum() and plan["text"]["documents"] == 5
    assert {tuple(unit) for unit in plan["heads"]} == {(layer, head) for layer in range(3) for head in range(4)}


def test_plan_and_windows_are_there_before_the_work_begins(tmp_path):
    class Stopped:
        name = "stopped"

        settings: ClassVar[dict] = {}

        def sweep(self, *_):
            found = json.loads((tmp_path / "run" / "plan.json").read_text())
            assert found["heads"] and (tmp_path / "run" / "windows.parquet").is_file()
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        measure(language_model("gpt2"), corpus(), engine=Stopped(), out=tmp_path / "run", progress=False)


def test_documents_of_tokens_of_packed_windows_can_be_recomputed(tmp_path):
    windows = corpus(documents=(0, 1, 2, 3, 4, 5))
    windows.documents[1, :4] = 0
    measure(language_model("gpt2"), windows, ablation="zero", heads=[(2, 0)], out=tmp_path / "run", progress=False)
    row = pq.read_table(tmp_path / "run" / "windows.parquet").to_pylist()[1]
    per_token = [value for value in row.values() if isinstance(value, list) and len(value) == row["length"]]
    boundaries = [value for name, value in row.items() if "document" in name and name != "document"]
    assert len(per_token) > 1 or boundaries

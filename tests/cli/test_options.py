"""What every option of `selfrepair run` does to the results."""

import gzip
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from loading.fixtures import SHORT

TEXTS = [f"Document {number}: {'the quick brown fox jumps over it; ' * 4}{number}" for number in range(8)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Folders of runs by their options, so that none is done twice."""
    return {}, tmp_path_factory.mktemp("runs")


@pytest.fixture
def run(selfrepair, llama, finished, runs):
    """Runs with the options given; returns the results."""
    folders, root = finished

    def command(*options) -> Results:
        if options not in folders:
            place = root / str(len(folders))
            ended = selfrepair("run", llama, *SHORT, "--out", place, *options)
            assert ended.code == 0, ended.err
            folders[options] = Results(place, runs[-1].heads)
        return folders[options]

    return command


@dataclass(frozen=True)
class Results:
    """A results folder, and what became its `heads.nc`."""

    place: Path
    heads: xr.Dataset

    @property
    def plan(self) -> dict:
        return json.loads((self.place / "plan.json").read_text())

    def column(self, file: str, name: str) -> list:
        return pq.read_table(self.place / f"{file}.parquet")[name].to_pylist()


def measured(heads) -> set[tuple[int, int]]:
    return {tuple(place) for place in np.argwhere(heads["count"].sel(filter="all").values > 0).tolist()}


def test_heads(run):
    some = run("--heads", "L2,L1H1,0.3")
    chosen = {(2, 0), (2, 1), (2, 2), (2, 3), (1, 1), (0, 3)}
    assert measured(some.heads) == set(map(tuple, some.plan["heads"])) == chosen


@pytest.mark.parametrize(
    ("heads", "said"),
    [
        ("L2,ninth", "'ninth' is not a head"),
        ("L2H4,L0", "There are no heads L2H4. The model has layers 0 to 2 with heads 0 to 3"),
        ("L3", "There are no heads L3. The model has layers 0 to 2"),
    ],
)
def test_heads_that_are_not_there_are_refused_before_the_model_is_loaded(selfrepair, llama, tmp_path, heads, said):
    ended = selfrepair("run", llama, *SHORT, "--heads", heads, "--out", tmp_path / "run")
    assert ended.code == 1 and said in ended.said and "Loading" not in ended.said
    assert not (tmp_path / "run").exists()


def test_until(run, selfrepair):
    assert run().plan["until"] is None
    folder = run("--until-se", "0.5", "--until", "heads", "--heads", "L2H0")
    assert folder.plan["until"] == {"standard_error": 0.5, "of": "heads"}
    said = json.loads((folder.place / "outcome.json").read_text())["until"]
    assert not said["reached"] and said["head"] == "L2H0"  # five documents are too few to stop


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--text", "nowhere.txt"), "There is no file or folder 'nowhere.txt'"),
        (("--field", "words"), "There is no field 'words'"),
        (("--until-se", "-1"), "Cannot run until a standard error of -1.0"),
        (("--until", "heads"), "none was given to stop at"),
        (("--ablation", "zero", "--donors", "3"), "'zero' draws on none"),
        (("--filter", "middle"), "middle"),
    ],
)
def test_mistakes_are_told_before_the_model_is_loaded(selfrepair, llama, tmp_path, monkeypatch, options, said):
    (tmp_path / "text.jsonl").write_text(json.dumps({"text": "some words"}))
    monkeypatch.setattr("selfrepair.model.load.load", lambda *_, **__: pytest.fail("loaded"))
    given = ("--text", tmp_path / "text.jsonl", "--out", tmp_path / "run", *options)
    ended = selfrepair("run", llama, *given)
    assert ended.code == 1 and said in ended.said and not (tmp_path / "run").exists()


@pytest.mark.parametrize("memory", ["nan", "inf", "0", "-1"])
def test_memory_that_is_none(selfrepair, llama, tmp_path, memory):
    ended = selfrepair("run", llama, *SHORT, "--memory", memory, "--out", tmp_path / "run")
    assert ended.code == 1 and "a number above 0 was expected" in ended.said and not (tmp_path / "run").exists()


def test_an_executor_that_is_none(selfrepair, llama, tmp_path):
    ended = selfrepair("run", llama, *SHORT, "--executor", "bogus", "--out", tmp_path / "run")
    assert ended.code == 2 and not (tmp_path / "run").exists()


def test_until_what_cannot_be(selfrepair, llama, tmp_path):
    ended = selfrepair("run", llama, *SHORT, "--until-se", "0", "--out", tmp_path / "run")
    assert ended.code == 1 and "Cannot run until a standard error of 0.0" in ended.said


def test_some_heads_alone_give_the_numbers_they_give_among_all(run):
    some, among = run("--heads", "L2,L1H1,0.3").heads, run().heads
    for name in ("direct_effect", "total_effect", "self_repair", "repair_mlps"):
        np.testing.assert_allclose(some[name][:, 1, 1], among[name][:, 1, 1], atol=1e-5)


def test_filters(run):
    heads = run("--filter", "all", "--filter", "top:0.1", "--filter", "bottom:20%", "--filter", "top:10%").heads
    assert list(heads["filter"].values) == ["all", "top 10%", "bottom 20%"]  # one given twice is one
    assert [int(heads["count"].sel(filter=label).max()) for label in heads["filter"].values] == [110, 11, 22]
    direct = heads["direct_effect"]
    assert (direct.sel(filter="top 10%") > direct.sel(filter="all")).all()
    assert (direct.sel(filter="bottom 20%") < direct.sel(filter="all")).all()


@pytest.mark.parametrize("operator", ["mean", "position-mean", "zero"])
def test_operators(run, operator):
    folder = run("--ablation", operator, "--heads", "L2")
    assert folder.heads.attrs["operator"] == folder.plan["ablation"]["operator"] == operator
    assert folder.plan["ablation"]["donors"] == 0
    replaced = folder.heads["ablated_direct_effect"].sel(filter="all", layer=2)
    assert (replaced == 0).all() if operator == "zero" else (replaced != 0).all()


def test_two_donors(run):
    folder = run("--donors", "2", "--heads", "L2H0")
    assert folder.plan["ablation"]["draws"] == folder.plan["ablation"]["donors"] == 2
    donors = folder.column("windows", "donors")
    assert all(len(set(drawn) - {window}) == 2 for window, drawn in enumerate(donors))


@pytest.mark.parametrize(
    ("components", "there", "absent"),
    [
        ("none", [], ["repair_by_attention", "repair_by_mlp", "repair_by_head"]),
        ("layers", ["repair_by_attention", "repair_by_mlp"], ["repair_by_head"]),
        ("heads", ["repair_by_attention", "repair_by_mlp", "repair_by_head"], []),
    ],
)
def test_components(run, components, there, absent):
    folder = run("--components", components) if components != "heads" else run()
    heads = folder.heads
    assert folder.plan["components"] == components
    assert set(there) <= set(heads) and not set(absent) & set(heads)
    if there:
        np.testing.assert_allclose(heads["repair_by_mlp"].sum("by_layer"), heads["repair_mlps"], atol=1e-5)
        np.testing.assert_allclose(heads["repair_by_attention"].sum("by_layer"), heads["repair_heads"], atol=1e-5)
    if components == "heads":
        summed = heads["repair_by_head"].sum(("by_layer", "by_head"))
        np.testing.assert_allclose(summed, heads["repair_heads"], atol=1e-5)


def test_packing(run):
    apart, joined = run().plan["text"], run("--packing", "packed", "--tokens", "960", "--heads", "L2H0").plan["text"]
    assert (apart["packing"], joined["packing"]) == ("documents", "packed")
    assert joined["windows"] == 40 and joined["documents"] < 20  # long runs of one document after the other


@pytest.mark.parametrize(("bos", "starts"), [("always", True), ("never", False)])
def test_bos(run, bos, starts):
    tokens = run("--bos", bos, "--heads", "L2H0").column("windows", "tokens")
    assert all((window[0] == 1) == starts for window in tokens)


def write(path: Path) -> Path:
    rows = [{"body": text} for text in TEXTS]
    lines = "".join(json.dumps(row) + "\n" for row in rows).encode()
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".txt":
        path.write_text("\n\n".join(TEXTS))
    else:
        codec = {".gz": gzip.compress, ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True)}
        path.write_bytes(codec.get(path.suffix, bytes)(lines))
    return path


@pytest.mark.parametrize("suffix", [".jsonl", ".jsonl.gz", ".jsonl.zst", ".parquet", ".txt"])
def test_texts(run, tmp_path, suffix):
    file = str(write(tmp_path / f"corpus{suffix}"))
    operator = "zero" if suffix == ".txt" else "resample"  # one document has no donors
    plan = run("--text", file, "--field", "body", "--heads", "L2H0", "--ablation", operator).plan
    assert plan["text"]["source"] == file and plan["text"]["scored_tokens"] == 110
    assert plan["text"]["documents"] == (1 if suffix == ".txt" else 5)


def test_length_and_first_position(run):
    folder = run("--tokens", "90", "--length", "15", "--first", "0", "--heads", "L2H0")
    assert (folder.plan["text"]["windows"], folder.plan["text"]["positions"]) == (6, 15)
    assert int(folder.heads["count"].max()) == 6 * 14 and folder.plan["text"]["first_position"] == 0


def test_a_seed_gives_the_same_numbers_again_and_another_seed_others(run):
    one, again, other = run().heads, run("--seed", "0").heads, run("--seed", "8").heads
    xr.testing.assert_equal(one, again)
    assert not np.allclose(one["self_repair"], other["self_repair"])


def test_engines_and_batches_do_not_matter(run):
    whole = run("--dtype", "float64").heads
    for options in (("--engine", "reference"), ("--batch", "1")):
        other = run("--dtype", "float64", *options).heads
        assert other.attrs["dtype"] == "float64"
        assert other.attrs["engine"] == ("reference" if "reference" in options else "replay")
        for name in ("direct_effect", "total_effect", "self_repair", "repair_norm", "repair_by_head"):
            np.testing.assert_allclose(other[name], whole[name], atol=1e-9)


def test_kept_tokens(run):
    folder = run("--sample", "3", "--heads", "L2", "--filter", "all")
    assert folder.column("tokens", "kept_as").count("sample") == 4 * 3


def test_without_a_folder_a_new_one_is_made(selfrepair, llama, tmp_path, monkeypatch, runs):
    monkeypatch.chdir(tmp_path)
    ended = selfrepair("run", llama, *SHORT, "--heads", "L2", "--top", 1)
    (made,) = (tmp_path / "selfrepair-runs").iterdir()
    assert ended.code == 0 and f"selfrepair-runs/{made.name}" in ended.out
    assert len([line for line in ended.out.splitlines() if line.startswith("L2H")]) == 1
    assert not list(made.glob("*.png"))

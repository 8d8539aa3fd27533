import errno
import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
from made_runs import made_run

from selfrepair.errors import SelfRepairError
from selfrepair.results import manifest, run_folder, stored_tables
from selfrepair.results.proven import BLOCK, Stored
from selfrepair.results.run_folder import load_run, prepare_folder, write_run

FILES = ["heads.nc", "manifest.json", "outcome.json", "plan.json", "tokens.parquet", "windows.parquet"]


@pytest.fixture(scope="module")
def run():
    return made_run(skip={(0, 1)})


@pytest.fixture(scope="module")
def written(run, tmp_path_factory):
    return run.save(tmp_path_factory.mktemp("run") / "deep" / "results")


@pytest.fixture
def saved(written, tmp_path):
    return shutil.copytree(written, tmp_path / "results")


def test_what_is_saved_comes_back(run, saved):
    again = load_run(saved)
    assert sorted(path.name for path in saved.iterdir()) == FILES
    assert again.plan == {"model": "SmolLM2-135M-Instruct", "seed": 0}
    assert again.outcome == run.outcome and again.outcome["status"] == "complete"
    xr.testing.assert_identical(again.heads, run.heads)
    assert again.tokens.equals(run.tokens) and again.windows.equals(run.windows)
    assert again.filters == run.filters
    again.heads["self_repair"].values[0] = 0  # in memory, not tied to the file


def test_other_tools_open_it(run, saved):
    with xr.open_dataset(saved / "heads.nc") as heads:
        top = heads["self_repair"].sel(filter="top 2%")
        assert top.shape == (12,) and top["name"].values[5] == "L1H1" and top.attrs["units"] == "logit"
    frame = pd.read_parquet(saved / "tokens.parquet")
    assert len(frame) == run.tokens.num_rows and {"document", "kept_as", "in_sample"} <= set(frame.columns)
    pd.testing.assert_frame_equal(frame, run.tokens_frame())
    notes = pq.read_schema(saved / "tokens.parquet").field("self_repair").metadata
    assert notes[b"units"] == b"logit"
    assert list(pd.read_parquet(saved / "windows.parquet").donors[0]) == [1]


def test_a_folder_with_something_in_it_is_refused(run, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(SelfRepairError, match="not empty") as caught:
        prepare_folder(tmp_path)
    assert "--out" in caught.value.fix
    with pytest.raises(SelfRepairError, match="not empty"):
        run.save(tmp_path)
    with pytest.raises(SelfRepairError, match="a file, not a folder"):
        prepare_folder(tmp_path / "notes.txt")
    assert prepare_folder(tmp_path / "new" / "one").is_dir()
    assert prepare_folder(tmp_path / "new" / "one").is_dir()


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_leaves_nothing_half_written(run, saved, monkeypatch, call):
    before = {name: (saved / name).read_bytes() for name in FILES}

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(*{"fsync": (os, "fsync"), "replace": (Path, "replace")}[call], full)
    with pytest.raises(SelfRepairError, match="disk is full") as caught:
        write_run(run, saved)
    assert "another disk" in caught.value.fix
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == before


def test_a_real_limit_on_file_size_is_a_message_not_a_crash(tmp_path):
    resource = pytest.importorskip("resource")
    assert resource
    script = f"""
import resource, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from made_runs import made_run
from selfrepair.errors import SelfRepairError
run = made_run()
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
for limit in (10, 9000, 30000):
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        run.save({str(tmp_path)!r} + "/" + str(limit))
    except SelfRepairError as problem:
        print(problem)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Cannot write") == 3
    assert {path.name for path in tmp_path.glob("*/*")} <= set(FILES) | set()
    for path in tmp_path.glob("*/*.json"):
        json.loads(path.read_text())


def test_plan_and_windows_are_read_before_there_are_results(run, saved):
    for name in ("heads.nc", "outcome.json", "tokens.parquet", "manifest.json"):
        (saved / name).unlink()
    assert run_folder.read_plan(saved) == {"model": "SmolLM2-135M-Instruct", "seed": 0}
    assert stored_tables.read_windows(Stored(saved / "windows.parquet")).equals(run.windows)
    with pytest.raises(SelfRepairError, match="no results yet"):
        load_run(saved)


@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root writes anywhere")
def test_a_folder_that_cannot_be_written_to(run, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(SelfRepairError, match="Cannot"):
        run.save(tmp_path / "results")


def test_any_bit_of_a_table_that_is_not_looked_at_is_found(run, tmp_path):
    """Of tables only the schema is read when a run is loaded; the rest, in other blocks, is proven all the same."""
    rows = pa.concat_tables([run.tokens] * (200_000 // run.tokens.num_rows))
    noise = pa.array(np.random.default_rng(0).normal(size=rows.num_rows).astype(np.float32))
    column = rows.schema.get_field_index("self_repair")
    large = replace(run, kept=rows.set_column(column, rows.schema.field(column), noise))
    path = large.save(tmp_path / "results") / "tokens.parquet"
    content = bytearray(path.read_bytes())
    assert len(content) > 2 * BLOCK
    for place in (10, len(content) // 2):
        path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        with pytest.raises(SelfRepairError, match=r"tokens\.parquet"):
            load_run(tmp_path / "results")
    path.write_bytes(content)
    assert load_run(tmp_path / "results").tokens.equals(large.tokens)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("harm", ["gone", "empty", "cut", "garbled"])
def test_a_damaged_file_is_named(saved, name, harm):
    path = saved / name
    content = path.read_bytes()
    path.unlink()
    if harm != "gone":
        rest = {"empty": b"", "cut": content[: len(content) // 2], "garbled": os.urandom(len(content))}
        path.write_bytes(rest[harm])
    with pytest.raises(SelfRepairError) as caught:
        load_run(saved)
    assert name in caught.value.problem and caught.value.fix


def proven_anew(folder: Path) -> None:
    """A manifest of what the files hold now."""
    manifest.staging(folder)
    stored = {name: Stored.as_it_is(folder / name) for name in FILES if name != "manifest.json"}
    manifest.swap(folder, {name: one.digests for name, one in stored.items()})


def test_files_of_the_wrong_kind_are_named(run, saved, tmp_path):
    """Although the manifest says that they are what was written."""
    (saved / "plan.json").write_text("[1, 2]")
    proven_anew(saved)
    with pytest.raises(SelfRepairError, match=r"plan\.json"):
        load_run(saved)
    run_folder.write_plan(run.plan, saved / "plan.json")
    (saved / "outcome.json").write_text("3")
    proven_anew(saved)
    with pytest.raises(SelfRepairError, match=r"outcome\.json"):
        load_run(saved)
    run_folder.write_json(run.outcome, saved / "outcome.json")
    run.interventions.drop_vars("count").to_netcdf(saved / "heads.nc", engine="h5netcdf")
    proven_anew(saved)
    with pytest.raises(SelfRepairError, match=r"heads\.nc.*'count'"):
        load_run(saved)
    with pytest.raises(SelfRepairError, match="no results folder"):
        load_run(tmp_path / "nowhere")


def test_the_plan_holds_numbers_of_numpy(tmp_path):
    content = {"a": np.arange(2), "b": np.float32(0.5), "c": Path("x"), "d": "naïve"}
    run_folder.write_json(content, tmp_path / "plan.json")
    assert json.loads((tmp_path / "plan.json").read_text(encoding="utf-8")) == {
        "a": [0, 1],
        "b": 0.5,
        "c": "x",
        "d": "naïve",
    }

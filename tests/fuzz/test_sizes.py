"""Sizes that results and plans name are not believed: whoever made them up is refused, at once and in words."""

from __future__ import annotations

import io
import os
import shutil
import time
from pathlib import Path

import h5netcdf
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr

from fuzz.conftest import in_bounds
from selfrepair import SelfRepairError, load, measure
from selfrepair.results import run_folder, size_limits
from selfrepair.results.proven import Stored
from selfrepair.run.planning.plan_limits import require_sane
from selfrepair.run.planning.reload import load_design
from selfrepair.run.scheduling.run_status import status
from selfrepair.run.storage import log
from selfrepair.statistics.features import FEATURES

MB = 2**20


@pytest.fixture(autouse=True)
def quick():
    """Nothing here takes long, or much memory."""
    started = time.monotonic()
    with in_bounds():
        yield
    assert time.monotonic() - started < 60


@pytest.fixture
def place(finished, tmp_path) -> Path:
    """Plan and text of a run, without results."""
    design = load_design(finished)
    run_folder.write_corpus(design.windows, design.donors, tmp_path, design.plan)
    run_folder.write_plan(design.plan, tmp_path / "plan.json")
    return tmp_path


def replan(place: Path, change) -> None:
    """Writes a plan with other numbers, with all that proves it."""
    design = load_design(place)
    plan = {**design.plan, **{name: dict(part) for name, part in design.plan.items() if isinstance(part, dict)}}
    change(plan)
    run_folder.write_corpus(design.windows, design.donors, place, plan)
    run_folder.write_plan(plan, place / "plan.json")


@pytest.mark.parametrize(
    ("entry", "value"),
    [
        ("replicates", 10**7),
        ("replicates", 1),
        ("replicates", 50.5),
        ("replicates", True),
        ("sample", 10**9),
        ("seed", 2**63),
        ("seed", -1),
        ("windows_per_batch", 0),
        ("windows_per_unit", 10**9),
        ("model.layers", 10**6),
        ("model.heads", 0),
        ("text.windows", 10**6),
        ("text.positions", 10**9),
        ("text.first_position", 10**9),
        ("ablation.draws", 10**9),
        ("ablation.donors", 9),
        ("machine.threads", 10**9),
        ("heads", [[0, 99]]),
        ("heads", [[0, 0], [0, 0]]),
        ("heads", []),
        ("filters", []),
        ("filters", ["top 2%"] * 100),
        ("filters", ["everything"]),
        ("until", {"standard_error": -1, "of": "card"}),
    ],
)
def test_a_plan_with_numbers_beyond_reason_is_refused(place, entry, value):
    *path, name = entry.split(".")

    def change(plan):
        (plan[path[0]] if path else plan)[name] = value

    replan(place, change)
    with pytest.raises(SelfRepairError):
        load_design(place)


def test_a_plan_without_an_entry_is_refused(place):
    replan(place, lambda plan: plan["model"].pop("layers"))
    with pytest.raises(SelfRepairError, match=r"model\.layers"):
        load_design(place)


def test_replicates_of_more_heads_than_memory_holds_are_refused(place):
    plan = load_design(place).plan
    plan = {**plan, "replicates": 50_000, "model": {**plan["model"], "layers": 80, "heads": 64}}
    assert 50_000 * 80 * 64 * len(FEATURES) * 8 > 2**34
    with pytest.raises(SelfRepairError, match="replicates of 5,120 heads take"):
        require_sane(plan)


@pytest.mark.parametrize(("name", "value"), [("replicates", 10**7), ("seed", -1), ("seed", 2**63)])
def test_numbers_beyond_reason_are_refused_before_anything_is_computed(finished, model_folder, name, value):
    design = load_design(finished)
    with pytest.raises(SelfRepairError, match=f"{name} = {value}"):
        measure(load(str(model_folder), device="cpu"), design.windows, progress=False, **{name: value})


def written(**columns) -> io.BytesIO:
    content = io.BytesIO()
    pq.write_table(pa.table(columns), content, compression="zstd")
    content.seek(0)
    return content


def test_a_constant_column_without_end_is_refused(monkeypatch):
    monkeypatch.setattr(size_limits, "_ROOM", 2**24)
    content = io.BytesIO()
    part = pa.table({"a": pa.array(np.zeros(2**20))})
    with pq.ParquetWriter(content, part.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(part)
    assert content.tell() < MB
    content.seek(0)
    with pytest.raises(ValueError, match="which a file of its size cannot hold"):
        size_limits.bounded_table(content)


def test_names_that_refer_to_one_long_text_are_refused():
    names = pa.DictionaryArray.from_arrays(pa.array([0] * 5000, pa.int32()), pa.array(["x" * (8 * MB)]))
    with pytest.raises(ValueError, match=r"values of more than 0\.0625 MiB"):
        size_limits.bounded_table(written(names=names))


def test_tables_of_the_usual_kind_are_read():
    table = {"a": list(range(5000)), "names": [f"corpus.jsonl:{number % 7}" for number in range(5000)]}
    assert size_limits.bounded_table(written(**table)).to_pydict() == table


def test_arrays_that_a_file_does_not_fill_are_refused(tmp_path):
    path = tmp_path / "heads.nc"
    with h5netcdf.File(path, "w") as file:
        file.dimensions = {"x": 10**5, "y": 10**5}
        file.create_variable("a", ("x", "y"), float, chunks=(1000, 1000))
    assert path.stat().st_size < MB
    content = io.BytesIO(path.read_bytes())
    with xr.open_dataset(content, engine="h5netcdf") as dataset, pytest.raises(ValueError, match="arrays of"):
        size_limits.bounded_dataset(content, dataset)


def test_windows_longer_than_their_file_are_refused(place):
    path = place / "windows.parquet"
    table = pq.read_table(path)
    notes = {**table.schema.metadata, b"positions": b"1000000000000"}
    pq.write_table(table.replace_schema_metadata(notes), path)
    with pytest.raises(SelfRepairError, match="which a file of its size cannot hold"):
        run_folder.read_design(Stored.as_it_is(path))


@pytest.mark.parametrize("name", ["plan.json", "windows.parquet"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_read(place, name, make):
    (place / name).unlink()
    make(place / name)
    with pytest.raises(SelfRepairError):
        load_design(place)


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_a_pipe_among_the_units_is_damage_and_nobody_waits_for_it(finished, tmp_path, make):
    place = shutil.copytree(finished, tmp_path / "run")
    for path in (place / "units").iterdir():
        path.unlink()
        make(path)
    assert len(status(place).damaged) == 3


def test_a_log_that_is_a_pipe_stops_nobody(tmp_path):
    os.mkfifo(tmp_path / log.LOG)
    log.log(tmp_path, "nobody reads this")
    assert log.last_lines(tmp_path) == []


def test_json_that_is_nested_without_end_is_refused(place):
    (place / "plan.json").write_text('{"a": ' + "[" * 10**6)
    with pytest.raises(SelfRepairError, match="nested more than"):
        load_design(place)

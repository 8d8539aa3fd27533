"""Sizes that results and plans name are not believed: whoever made them up is refused, at once and in words."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import struct
import time
from dataclasses import replace
from pathlib import Path

import h5netcdf
import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fuzz.conftest import in_bounds
from selfrepair import SelfRepairError, load, measure
from selfrepair.reading import parsed_json
from selfrepair.results import netcdf, run_folder, size_limits
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
        ("windows_per_exact_batch", 0),
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
    with pytest.raises(ValueError, match="arrays of"):
        netcdf.read_heads(content)


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


def referring_to_one(raw: bytes, size: int, values: int) -> bytes:
    """HDF5 in which all `values` texts refer to the first of them, of `size` bytes."""
    at = next(
        place
        for place in range(len(raw))
        if raw[place : place + 4] == struct.pack("<I", size) and raw[place + 16 : place + 20] == struct.pack("<I", 1)
    )
    return raw[:at] + raw[at : at + 16] * values + raw[at + 16 * values :]


def texts_that_are_one(path: Path, kind: str) -> io.BytesIO:
    """A `heads.nc` that says far more than it holds: in a variable, in an attribute, in many attributes."""
    size, values = 500_000, 1024
    texts = ["x" * size, *["y"] * (values - 1)]
    with h5py.File(path, "w") as file:
        if kind == "variable":
            file["label"] = np.array(texts, object).reshape(32, 32)
        elif kind == "attribute":
            file.attrs["warnings"] = np.array(texts, object)
        else:
            for number, text in enumerate(texts):
                file.attrs.create(f"note {number:04}", text, dtype=h5py.string_dtype())
    raw = bytearray(path.read_bytes())
    if kind != "attributes":
        return io.BytesIO(referring_to_one(bytes(raw), size, values))
    first = raw.index(struct.pack("<I", size))
    behind_name = first - raw.rindex(b"note 0000", 0, first)
    for number in range(1, values):
        for name in re.finditer(f"note {number:04}".encode(), raw):
            at = name.start() + behind_name
            if raw[at : at + 4] == struct.pack("<I", 1):
                raw[at : at + 16] = raw[first : first + 16]
    return io.BytesIO(raw)


@pytest.mark.parametrize("kind", ["variable", "attribute", "attributes"])
def test_texts_of_hdf5_that_are_one_text_are_refused(tmp_path, kind):
    content = texts_that_are_one(tmp_path / "heads.nc", kind)
    assert content.getbuffer().nbytes < 2 * MB
    with pytest.raises(ValueError, match=r"longer than the file|is a list of"):
        netcdf.read_heads(content)


@pytest.mark.parametrize("kind", ["external link", "soft link", "external storage", "virtual"])
def test_hdf5_that_lies_elsewhere_is_refused(tmp_path, kind):
    path, other = tmp_path / "heads.nc", tmp_path / "elsewhere"
    os.mkfifo(other)  # who opens it waits for ever
    with h5py.File(path, "w") as file:
        if kind == "external link":
            file["label"] = h5py.ExternalLink(str(other), "/x")
        elif kind == "soft link":
            file["label"] = h5py.SoftLink("/x")
        elif kind == "external storage":
            file.create_dataset("label", (8,), "u1", external=[(str(other), 0, 8)])
        else:
            layout = h5py.VirtualLayout((8,), "u1")
            layout[:] = h5py.VirtualSource(str(other), "x", (8,))
            file.create_virtual_dataset("label", layout)
    with pytest.raises(ValueError, match=r"lies elsewhere|is no variable of this file"):
        netcdf.read_heads(io.BytesIO(path.read_bytes()))


def one_row_of_zeros(values: int) -> io.BytesIO:
    content, zeros = io.BytesIO(), pa.array(np.zeros(values, np.int32))
    table = pa.table({"tokens": pa.ListArray.from_arrays(pa.array([0, values], pa.int32()), zeros)})
    with pq.ParquetWriter(content, table.schema, compression="zstd", write_batch_size=2**27) as writer:
        writer.write_table(table)
    content.seek(0)
    return content


def test_a_row_of_equal_values_without_end_is_refused_before_it_is_read(monkeypatch):
    monkeypatch.setattr(size_limits, "_ROOM", 2**24)
    content = one_row_of_zeros(2**22)
    assert content.getbuffer().nbytes < 2000
    monkeypatch.setattr(pq.ParquetFile, "iter_batches", None)  # nothing is read
    with pytest.raises(ValueError, match="a column of 33,"):
        size_limits.bounded_table(content)


def test_kept_tokens_are_read_within_bounds(finished, tmp_path, monkeypatch):
    run = run_folder.load_run(finished)
    whole = pa.Table.from_batches(run.token_batches(["layer", "position"]))
    assert whole.equals(run.tokens.select(["layer", "position"]).cast(whole.schema))
    place = tmp_path / "tokens.parquet"
    place.write_bytes(one_row_of_zeros(2**22).getbuffer())
    monkeypatch.setattr(size_limits, "_ROOM", 2**24)
    with pytest.raises(SelfRepairError, match=r"Cannot read .*tokens\.parquet.* which a file of its size cannot hold"):
        list(replace(run, kept=Stored.as_it_is(place)).token_batches(["tokens"]))


@pytest.mark.parametrize("name", ["plan.json", "outcome.json", "manifest.json"])
def test_json_of_more_values_than_sense_is_refused(finished, tmp_path, name):
    """An empty list takes three bytes in a file, and sixty in memory."""
    place = shutil.copytree(finished, tmp_path / "run")
    (place / name).write_text('{"a": [' + "[]," * (5 * MB) + "[]]}")
    with pytest.raises(SelfRepairError, match=r"brackets, commas and colons|outcome.json is damaged"):
        run_folder.load_run(place)


def test_a_text_full_of_brackets_is_no_deep_json():
    text = "[{" * 500
    assert parsed_json(json.dumps({"a": text, 'b"]': "\\"})) == {"a": text, 'b"]': "\\"}
    for broken in ('{"a": "' + '\\"' * MB, '{"a": "' + "[" * 200 + "\\"):  # in no more time than others
        with pytest.raises(ValueError, match="Unterminated string"):
            parsed_json(broken)

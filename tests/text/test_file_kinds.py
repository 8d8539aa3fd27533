"""Text files as they come: padded, in several parts, with long windows, with names twice, under odd names."""

import gzip
import json
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from selfrepair.errors import SelfRepairError
from selfrepair.text import read_documents
from selfrepair.text.document_sources import traces

ROWS = "".join(json.dumps({"text": f"{number} x y z"}) + "\n" for number in range(6)).encode()
ZIPPED = gzip.compress(ROWS, mtime=0)  # no time stamp: every process has to collect the same tests
# `zstd --long=31 --ultra -22` of one such line: its frame asks for a window of 2 GiB
LONG_WINDOW = bytes.fromhex(
    "28b52ffd04a8950100c87b2274657874223a20223020782079207a227d0a313233343507002d40951ba0de0d50d90d50e506d4f559f04812"
    "b52c0173cf36a7"
)


def read(path, **options):
    return [document.text for document in read_documents(str(path), **options)]


def refused(path, **options) -> str:
    with pytest.raises(SelfRepairError) as caught:
        read(path, **options)
    return str(caught.value)


@pytest.mark.parametrize(
    ("content", "count"),
    [
        (ZIPPED + bytes(700), 6),  # padded with zeros, as tapes are
        (ZIPPED + ZIPPED, 12),
        (ZIPPED + ZIPPED + bytes(3), 12),
    ],
)
def test_gzip_in_parts_and_padded(tmp_path, content, count):
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(content)
    assert len(read(path)) == count


@pytest.mark.parametrize(
    "content", [ZIPPED[:-20], ZIPPED + b"garbage", b"no gzip"], ids=["cut", "with something behind", "none"]
)
def test_damaged_gzip_is_refused(tmp_path, content):
    path = tmp_path / "c.jsonl.gz"
    path.write_bytes(content)
    assert "cannot be read" in refused(path)


@pytest.mark.parametrize(
    ("name", "pack"), [("c.json", bytes), ("c.json.gz", gzip.compress), ("c.JSON.GZ", gzip.compress)]
)
def test_json_lines_under_other_names(tmp_path, name, pack):
    (tmp_path / name).write_bytes(pack(ROWS))
    assert len(read(tmp_path / name)) == 6


def test_json_lines_in_zst_under_another_name(tmp_path):
    with pa.CompressedOutputStream(str(tmp_path / "c.json.zst"), "zstd") as file:
        file.write(ROWS)
    assert len(read(tmp_path / "c.json.zst")) == 6


@pytest.mark.parametrize("content", [b'[{"text": "a b"}]', b'[\n{"text": "a b"}\n]', b'{\n "text": "a b"\n}'])
def test_json_that_is_no_lines_says_how_to_make_them(tmp_path, content):
    (tmp_path / "c.json").write_bytes(content)
    said = refused(tmp_path / "c.json")
    assert "Line 1" in said and ("jq -c '.[]' FILE" if content.startswith(b"[") else "jq -c . FILE") in said


@pytest.mark.parametrize("before", [b"", ROWS])
def test_a_window_that_is_too_long_is_named(tmp_path, before):
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes((pa.compress(before, "zstd", asbytes=True) if before else b"") + LONG_WINDOW)
    said = refused(path)
    assert "window of more than 128 MiB" in said and "zstd -d --long=31" in said and "damaged" not in said


def test_two_columns_of_the_same_name(tmp_path):
    path = tmp_path / "c.parquet"
    columns = [pa.array(["a"] * 3), pa.array(["b c d"] * 3), pa.array(["e"] * 3)]
    pq.write_table(pa.Table.from_arrays(columns, names=["text", "text", "other"]), path)
    assert "There are 2 fields 'text'" in refused(path)
    assert read(path, field="other") == ["e"] * 3


def test_two_keys_of_the_same_name(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"text": "fine", "other": {"a": 1, "a": 2}}\n{"text": "a", "text": "b"}\n')
    assert "There are 2 fields 'text' in line 2" in refused(path)
    path.write_text('{"text": {"a": 1}}\n')
    assert "a value of type dict" in refused(path)


def test_names_that_are_not_unicode(tmp_path):
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for name in (b"1\xe8.txt", b"1\xe9.txt"):
        (folder / os.fsdecode(name)).write_text("a b c")
    names = [document.name for document in read_documents(str(folder))]
    assert names == [r"1\xe8.txt", r"1\xe9.txt"], "and still differ"
    json.dumps(traces(str(folder)), ensure_ascii=False).encode()


@pytest.mark.parametrize("kind", ["txt", "jsonl", "jsonl.gz", "jsonl.zst", "parquet"])
def test_files_whose_name_is_no_unicode(tmp_path, kind):
    path = tmp_path / os.fsdecode(b"caf\xe9." + kind.encode())
    rows = {"txt": b"0 x y z", "jsonl": ROWS, "jsonl.gz": ZIPPED}
    if kind == "parquet":
        with path.open("wb") as file:
            pq.write_table(pa.table({"text": ["0 x y z"]}), file)
    else:
        path.write_bytes(rows.get(kind) or pa.compress(ROWS, "zstd", asbytes=True))
    first = next(iter(read_documents(str(path))))
    assert first.text == "0 x y z" and first.name.startswith(rf"caf\xe9.{kind}")

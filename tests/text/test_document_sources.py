import gzip
import json
import sys
import types
from itertools import islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfrepair.errors import SelfRepairError
from selfrepair.text import files, read_documents

TEXTS = ["first\nline two\r\nand three", "ünïcode 😀 \u2028 end", " spaces ", "<|endoftext|>", "x" * 3000]


def json_lines(texts: list[str], **options: bool) -> bytes:
    return "".join(json.dumps({"id": 1, "text": text}, **options) + "\n" for text in texts).encode()


def compress(data: bytes, codec: str) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, codec) as stream:
        stream.write(data)
    return sink.getvalue().to_pybytes()


def write_all(folder: Path, texts: list[str]) -> dict[str, str]:
    """The same documents in every format; returns the sources."""
    data = json_lines(texts)
    (folder / "c.jsonl").write_bytes(data)
    (folder / "c.jsonl.gz").write_bytes(gzip.compress(data))
    (folder / "c.jsonl.zst").write_bytes(compress(data, "zstd"))
    pq.write_table(pa.table({"id": [0] * len(texts), "text": texts}), folder / "c.parquet", row_group_size=2)
    plain = folder / "plain"
    plain.mkdir(exist_ok=True)
    for index, text in enumerate(texts):
        (plain / f"{index:03}.txt").write_bytes(text.encode())
    return {name: str(folder / name) for name in ("c.jsonl", "c.jsonl.gz", "c.jsonl.zst", "c.parquet", "plain")}


def read(source: object, **options: str) -> list[str]:
    return [document.text for document in read_documents(str(source), **options)]


def complaint(source: object, **options: str) -> SelfRepairError:
    with pytest.raises(SelfRepairError) as caught:
        read(source, **options)
    assert caught.value.problem and caught.value.fix
    return caught.value


def test_all_formats_hold_the_same_documents(tmp_path):
    for source in write_all(tmp_path, TEXTS).values():
        assert read(source) == TEXTS


@settings(max_examples=25)
@given(texts=st.lists(st.text(min_size=1).filter(str.strip), min_size=1, max_size=6))
def test_all_formats_hold_the_same_random_documents(tmp_path_factory, texts):
    texts = [text.lstrip("\ufeff") or "x" for text in texts]  # a BOM at the start of a .txt file is a mark, not text
    for name, source in write_all(tmp_path_factory.mktemp("same"), texts).items():
        if name != "plain" or all(text.strip() for text in texts):
            assert read(source) == texts, name


def test_names_are_file_and_row(tmp_path):
    sources = write_all(tmp_path, ["a", "b"])
    names = {key: [document.name for document in read_documents(source)] for key, source in sources.items()}
    assert names["c.jsonl.gz"] == ["c.jsonl.gz:1", "c.jsonl.gz:2"]
    assert names["c.parquet"] == ["c.parquet:1", "c.parquet:2"]
    assert names["plain"] == ["000.txt", "001.txt"]
    assert [d.name for d in read_documents(str(tmp_path / "plain" / "001.txt"))] == ["001.txt"]


def test_blank_lines_are_passed_over_but_counted(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'\xef\xbb\xbf{"text": "a"}\n\n  \n{"text": "b"}')
    assert [(d.name, d.text) for d in read_documents(str(path))] == [("c.jsonl:1", "a"), ("c.jsonl:4", "b")]


def test_another_field(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text('{"content": "a"}\n')
    assert read(path, field="content") == ["a"]
    assert "'text'" in complaint(path).problem and "'content'" in complaint(path).problem
    pq.write_table(pa.table({"content": ["a"], "n": [1]}), tmp_path / "c.parquet")
    assert read(tmp_path / "c.parquet", field="content") == ["a"]
    assert "'content'" in complaint(tmp_path / "c.parquet").problem
    assert "int64" in complaint(tmp_path / "c.parquet", field="n").problem


@pytest.mark.parametrize(
    "line",
    [
        b'{"text": "a"',
        b"not json",
        b'["a"]',
        b'{"text": 3}',
        b'{"text": null}',
        b'{"other": "a"}',
        b'{"text": "\xff"}',
        b'{"text": "\\ud800"}',
        b"[" * 200_000,
        b'{"text": ' + b"9" * 5000 + b"}",
    ],
)
def test_a_bad_line_is_named(tmp_path, line):
    path = tmp_path / "c.jsonl"
    path.write_bytes(b'{"text": "fine"}\n' + line + b"\n")
    assert next(read_documents(str(path))).text == "fine"
    problem = complaint(path).problem.lower()
    assert "line 2" in problem and "c.jsonl" in problem and len(problem) < 500


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
@pytest.mark.parametrize("damage", ["truncated", "garbled", "not compressed"])
def test_damaged_files_are_refused(tmp_path, codec, damage):
    import random

    draw = random.Random(0)
    whole = compress(json_lines(["".join(draw.choices("abcdefgh \n", k=2000)) for _ in range(50)]), codec)
    half = len(whole) // 2
    data = {
        "truncated": whole[:half],
        "garbled": whole[:half] + bytes(byte ^ 0x5A for byte in whole[half : half + 200]) + whole[half + 200 :],
        "not compressed": b'{"text": "a"}\n' * 50,
    }[damage]
    path = tmp_path / {"gzip": "c.jsonl.gz", "zstd": "c.jsonl.zst"}[codec]
    path.write_bytes(data)
    assert path.name in complaint(path).problem


@pytest.mark.parametrize("codec", ["gzip", "zstd"])
def test_every_truncation_is_refused(tmp_path, codec):
    whole = compress(json_lines(["some text to cut"] * 3), codec)
    path = tmp_path / {"gzip": "c.jsonl.gz", "zstd": "c.jsonl.zst"}[codec]
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        complaint(path)


@pytest.mark.parametrize("data", [b"", b"PAR1", b"PAR1 and no more PAR1", b"\0" * 100])
def test_damaged_parquet_is_refused(tmp_path, data):
    path = tmp_path / "c.parquet"
    path.write_bytes(data)
    assert "c.parquet" in complaint(path).problem


def test_parquet_without_a_text_in_a_row(tmp_path):
    pq.write_table(pa.table({"text": ["a", None]}), tmp_path / "c.parquet")
    assert "row 2" in complaint(tmp_path / "c.parquet").problem


def test_a_line_that_never_ends_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LONGEST_LINE", 10_000)
    path = tmp_path / "bomb.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"text": "a"}\n' + b" " * 10_000_000))
    documents = read_documents(str(path))
    with pytest.raises(SelfRepairError, match=r"Line 2 .* longer"):
        list(documents)
    path.write_bytes(gzip.compress(json_lines(["x" * 9000] * 500)))
    assert len(read(path)) == 500


@pytest.mark.parametrize("name", ["e.txt", "e.jsonl", "e.jsonl.gz", "e.jsonl.zst"])
def test_empty_files_are_refused(tmp_path, name):
    (tmp_path / name).write_bytes(b"")
    assert name in complaint(tmp_path / name).problem


def test_what_is_no_text(tmp_path):
    assert "no .txt" in complaint(tmp_path).problem
    (tmp_path / "a.txt").write_bytes(b"\xff\xfe")
    assert "UTF-8" in complaint(tmp_path / "a.txt").problem
    (tmp_path / "a.csv").write_text("text\na")
    assert ".jsonl" in complaint(tmp_path / "a.csv").fix


@pytest.mark.parametrize(
    "source",
    [
        "missing.jsonl",
        "folder/missing.jsonl",
        "../a/b",
        "word",
        "",
        "\0",
        "~nobody-here/x",
        "a b",
        "x" * 9999,
    ],
)
def test_a_missing_source_is_refused_at_once(source):
    with pytest.raises(SelfRepairError) as caught:
        read_documents(source)
    assert "builtin" in caught.value.fix and len(str(caught.value)) < 600


def test_a_dataset_is_streamed(monkeypatch):
    calls = []

    def load_dataset(name, config, *, split, streaming, trust_remote_code):
        calls.append((name, config, split, streaming, trust_remote_code))
        yield from ({"text": f"text {row}"} for row in range(3))
        raise ConnectionError("the network is gone")

    monkeypatch.setitem(sys.modules, "datasets", types.SimpleNamespace(load_dataset=load_dataset))
    documents = read_documents("owner/name:config/validation")
    assert [(d.name, d.text) for d in islice(documents, 2)] == [
        ("owner/name:1", "text 0"),
        ("owner/name:2", "text 1"),
    ]
    assert calls == [("owner/name", "config", "validation", True, False)]
    next(documents)
    with pytest.raises(SelfRepairError, match="network is gone"):
        next(documents)
    next(read_documents("owner/name"))
    next(read_documents("owner/name/test"))
    assert [call[:3] for call in calls[1:]] == [("owner/name", None, "train"), ("owner/name", None, "test")]
    assert "'body'" in complaint("owner/name", field="body").problem


def test_a_dataset_needs_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    assert "pip install" in complaint("owner/name").fix


def test_builtin_is_large_mixed_and_of_a_fixed_order():
    documents = list(read_documents("builtin"))
    names = [document.name for document in documents]
    assert len(names) == len(set(names)) > 300
    assert sum(len(document.text) for document in documents) > 4_000_000
    first = [name.split("/")[0].removeprefix("builtin:") for name in names[:20]]
    assert first.count("source") == 5 and {"topics", "docstrings"} < set(first)
    assert not any("/test" in name or "encodings" in name or "site-packages" in name for name in names)
    assert names[:20] == [document.name for document in islice(read_documents("builtin"), 20)]


def test_builtin_reads_no_module_before_its_turn(monkeypatch):
    from selfrepair.text import builtin

    opened = []
    original = builtin._module_document
    monkeypatch.setattr(builtin, "_module_document", lambda name, path: opened.append(name) or original(name, path))
    list(islice(read_documents("builtin"), 20))
    assert len(opened) < 60

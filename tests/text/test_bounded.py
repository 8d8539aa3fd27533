"""However large a text is, or says it is: no more of it is read than is asked for."""

from __future__ import annotations

import gzip
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import selfrepair
from selfrepair import SelfRepairError, windows
from selfrepair.text import read_documents
from selfrepair.text.bounded import LEAST, characters_for

MB = 2**20
MOST = 300  # megabytes that all of them together may take
WORDS = "once upon a time "
MEASURE = """
import json, resource, sys, time
from selfrepair import SelfRepairError, windows

def tokenizer(text, **_options):
    return {"input_ids": list(range(len(text) // 4))}

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

windows(tokenizer, tokens=512)
before, found = peak(), {}
for path in sys.argv[1:]:
    started = time.monotonic()
    try:
        said = str(len(windows(tokenizer, path, tokens=512, length=64)))
    except SelfRepairError as refusal:
        said = refusal.problem
    found[path] = said, peak() - before, time.monotonic() - started
print(json.dumps(found))
"""


def references(path: Path, size: int = 24, told: bool = True) -> None:
    """A few kilobytes that name one long text 64 times."""
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 64, pa.int32()), pa.array([WORDS * (size * MB // len(WORDS))]))
    options = {"compression": "zstd", "dictionary_pagesize_limit": 2**31 - 1, "store_schema": told}
    pq.write_table(pa.table({"text": text}), path, **options)


def shorter_references(path: Path) -> None:
    references(path, size=12)


def untold_references(path: Path) -> None:
    """The same, and the file does not say that readers should keep the references."""
    references(path, size=12, told=False)


def prefixes(path: Path) -> None:
    """Texts that are stored as what they do not have in common with the one before."""
    texts = [WORDS * (2 * MB // len(WORDS)) + str(number) for number in range(64)]
    options = {"use_dictionary": False, "column_encoding": {"text": "DELTA_BYTE_ARRAY"}, "compression": "zstd"}
    with pq.ParquetWriter(path, pa.schema([("text", pa.string())]), **options) as writer:
        writer.write_table(pa.table({"text": texts}))


def large_page(path: Path) -> None:
    """Three rows in one page that decompresses to 150 MiB."""
    texts = pa.array([b"\0" * (50 * MB)] * 3, pa.binary()).cast(pa.string())
    options = {"use_dictionary": False, "data_page_size": 2**31 - 1, "compression": "zstd"}
    pq.write_table(pa.table({"text": texts}), path, **options)


def long_line(path: Path) -> None:
    with path.open("w") as file:
        file.write('{"text": "')
        for _ in range(60):
            file.write("x" * MB)
        file.write('"}\n')


def many_values(path: Path) -> None:
    """A line of 15 MiB beside whose text there are five million empty objects."""
    path.write_text('{"text": "' + WORDS * 100 + '", "more": [' + "{}," * (5 * MB) + "{}]}")


def many_commas(path: Path) -> None:
    """A text of almost 16 MiB: what it says is not taken for values."""
    path.write_text(json.dumps({"text": "1, [2, {3: 4}], " * (MB - 100)}))


def long_text(path: Path) -> None:
    with path.open("w") as file:
        for _ in range(100):
            file.write(WORDS * (MB // len(WORDS)))


def endless_line(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b"x" * MB)


def endless_lines(path: Path) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for _ in range(40):
            file.write(b"\n" * MB)


CASES = {
    "text.txt": (long_text, "8"),
    "references.parquet": (references, "values of more than 16 MiB"),
    "shorter.parquet": (shorter_references, "8"),
    "untold.parquet": (untold_references, "8"),
    "prefixes.parquet": (prefixes, "8"),
    "page.parquet": (large_page, "has a page of 150 MiB"),
    "line.jsonl": (long_line, "Line 1 of"),
    "values.jsonl": (many_values, "brackets, commas and colons"),
    "commas.jsonl": (many_commas, "8"),
    "line.jsonl.gz": (endless_line, "Line 1 of"),
    "lines.jsonl.gz": (endless_lines, "blank lines in a row"),
}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    """By case: what came of it, megabytes, seconds."""
    folder = tmp_path_factory.mktemp("large")
    for name, (make, _) in CASES.items():
        making = os.fork()  # what making takes is not what reading takes
        if making == 0:
            try:
                make(folder / name)
            finally:
                os._exit(0)
        os.waitpid(making, 0)
    environment = {**os.environ, "PYTHONPATH": str(Path(selfrepair.__file__).parents[1])}
    command = [sys.executable, "-c", MEASURE, *(str(folder / name) for name in CASES)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    return {Path(path).name: facts for path, facts in json.loads(ended.stdout).items()}


@pytest.mark.long
@pytest.mark.parametrize("name", CASES)
def test_what_is_read_is_bounded_by_what_is_asked_for(measured, name):
    said, megabytes, seconds = measured[name]
    assert CASES[name][1] in said
    assert megabytes < MOST
    assert seconds < 30


def test_the_beginning_of_a_long_document_is_enough(tmp_path):
    def tokenizer(text, **_options):
        return {"input_ids": [ord(one) % 97 for one in text]}

    (tmp_path / "text.txt").write_text("".join(chr(65 + number % 50) for number in range(3 * LEAST)))
    made = windows(tokenizer, str(tmp_path / "text.txt"), tokens=128, length=64)
    assert len(made) == 2 and made.provenance["documents_cut"] == 1
    (tmp_path / "short.txt").write_text("a text of usual length " * 100)
    assert windows(tokenizer, str(tmp_path / "short.txt"), tokens=128, length=64).provenance["documents_cut"] == 0


@pytest.mark.parametrize("character", ["x", "é", "€", "𝄞"])
@pytest.mark.parametrize("kind", ["txt", "jsonl", "parquet"])
def test_a_text_is_cut_between_characters(tmp_path, character, kind):
    path, text = tmp_path / f"text.{kind}", "a" + character * 50
    if kind == "txt":
        path.write_text(text)
    elif kind == "jsonl":
        path.write_text(json.dumps({"text": text}) + "\n")
    else:
        pq.write_table(pa.table({"text": [text]}), path)
    for most in range(1, 60):
        (found,) = read_documents(str(path), most=most)
        assert found.text == text[:most] and found.whole == (most >= len(text))
    (found,) = read_documents(str(path))
    assert found.text == text and found.whole


def test_no_tokens_asked_for_means_all_of_them():
    assert characters_for(None) is None and characters_for(1) == LEAST < characters_for(10**6)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    (tmp_path / "zeros.txt").symlink_to("/dev/zero")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.txt"))
        for name, kind in (("pipe.txt", "named pipe"), ("zeros.txt", "device"), ("socket.txt", "socket")):
            with pytest.raises(SelfRepairError, match=kind):
                next(iter(read_documents(str(tmp_path / name))))

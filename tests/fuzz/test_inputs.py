"""Texts and models, changed at random: refused in words, or read as what they now are, under another identity."""

from __future__ import annotations

import gzip
import json
import random
import shutil
import struct
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.torch import load_file, save_file

from fuzz.conftest import DOCUMENTS, MORE, in_bounds, outcome
from fuzz.mutations import mutated, mutated_json
from loading import tiny_models
from selfrepair import load, windows
from selfrepair.model.model_folder import INDEX

TIMES, LOADS = 200 * MORE, 40 * MORE
LINES = "".join(json.dumps({"text": one}) + "\n" for one in DOCUMENTS).encode()
TOKENS = torch.arange(5, 17)[None]


def parquet(path: Path, **options: object) -> None:
    pq.write_table(pa.table({"text": DOCUMENTS, "number": list(range(len(DOCUMENTS)))}), path, **options)


TEXTS = {
    "text.txt": lambda path: path.write_text("\n".join(DOCUMENTS)),
    "text.jsonl": lambda path: path.write_bytes(LINES),
    "text.jsonl.gz": lambda path: path.write_bytes(gzip.compress(LINES, mtime=0)),
    "text.jsonl.zst": lambda path: path.write_bytes(pa.Codec("zstd").compress(LINES, asbytes=True)),
    "text.json.gz": lambda path: path.write_bytes(gzip.compress(LINES, mtime=0)),
    "text.parquet": parquet,
    "plain.parquet": partial(parquet, compression="none", use_dictionary=False, store_schema=False),
    "delta.parquet": partial(parquet, use_dictionary=False, column_encoding={"text": "DELTA_BYTE_ARRAY"}),
}


def read_mutations(path: Path, read, change, times: int):
    """What is read of a file as it is, and of those of its mutations that are read at all."""
    content = path.read_bytes()
    kind, expected = outcome(read)
    assert kind == "read"

    def others():
        for seed in range(times):
            path.write_bytes(change(content, random.Random(f"{path.name} {seed}")))
            try:
                kind, read_now = outcome(read)
            except BaseException as problem:
                raise AssertionError(f"{path.name}, seed {seed}: {type(problem).__name__}: {problem}") from problem
            if kind == "read":
                yield read_now

    with in_bounds():
        return expected, list(others())


@pytest.mark.parametrize("name", TEXTS)
def test_texts(tmp_path, name):
    path, tokenizer = tmp_path / name, tiny_models.tokenizer()
    TEXTS[name](path)

    def read() -> object:
        made = windows(tokenizer, str(path), tokens=80, length=16)
        assert made.tokens.min() >= 0 and made.tokens.max() < 97 and made.lengths.min() > 1
        return made.fingerprint, made.tokens.tobytes(), made.provenance["sha256"]

    expected, others = read_mutations(path, read, mutated, TIMES)
    for read_now in others:
        if read_now[1] != expected[1]:
            assert read_now[0] != expected[0] and read_now[2] != expected[2], "other tokens under the same identity"


@pytest.fixture
def model(model_folder, tmp_path) -> Path:
    return shutil.copytree(model_folder, tmp_path / "model")


@pytest.fixture
def sharded(model) -> Path:
    weights = load_file(model / "model.safetensors")
    save_file(weights, model / "all.safetensors", {"format": "pt"})
    (model / "model.safetensors").unlink()
    (model / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": dict.fromkeys(weights, "all.safetensors")}))
    return model


def mutated_header(content: bytes, draws: random.Random) -> bytes:
    """Safetensors with another header; sometimes its length, or the weights, are others too."""
    (length,) = struct.unpack("<Q", content[:8])
    header, weights = content[8 : 8 + length], content[8 + length :]
    if draws.random() < 0.2:
        return mutated(content, draws)
    header = mutated_json(header, draws)
    said = len(header) if draws.random() < 0.9 else draws.choice((0, 1, len(header) - 1, len(header) + 1, 2**40, 2**63))
    return struct.pack("<Q", said) + header + weights


def fuzz_model(folder: Path, name: str, change) -> None:
    path = folder / name

    def read() -> object:
        loaded = load(str(folder), device="cpu")
        text = windows(loaded.tokenizer, str(folder.parent / "text.txt"), tokens=64, length=16)
        with loaded.running():
            return loaded.digest, loaded.logits(TOKENS).numpy().tobytes(), text.fingerprint, text.tokens.tobytes()

    (folder.parent / "text.txt").write_text("\n".join(DOCUMENTS))
    expected, others = read_mutations(path, read, change, LOADS)
    for read_now in others:
        assert read_now[1] == expected[1] or read_now[0] != expected[0], "other numbers, same identity"
        assert read_now[3] == expected[3] or read_now[2] != expected[2], "other tokens, same identity"


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_models(model, name):
    fuzz_model(model, name, mutated_json)


def test_weights(model):
    fuzz_model(model, "model.safetensors", mutated_header)


def test_indices(sharded):
    fuzz_model(sharded, INDEX, mutated_json)

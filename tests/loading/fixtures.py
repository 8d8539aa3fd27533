"""Fixtures of the tests of loading, command line and faults."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from loading import tiny_models

SHORT = ("--tokens", "120", "--length", "24", "--no-plots")  # five windows, a second's work
_STYLE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Ended:
    """A command that has ended: exit code and what it said, without colours."""

    code: int
    out: str
    err: str

    @property
    def said(self) -> str:
        """Messages with their line breaks taken out."""
        return " ".join(self.err.split())


@pytest.fixture(scope="session")
def saved(tmp_path_factory):
    """By name of a zoo model: its folder."""
    root, folders = tmp_path_factory.mktemp("models"), {}

    def folder(name: str) -> Path:
        if name not in folders:
            folders[name] = tiny_models.save(name, root / name)
        return folders[name]

    return folder


@pytest.fixture
def llama(saved) -> Path:
    return saved("llama")


@pytest.fixture
def selfrepair(monkeypatch, capsys):
    """The command line in this process; an exception that it lets through fails the test."""
    from selfrepair.cli import main

    def command(*arguments, columns: int = 140) -> Ended:
        monkeypatch.setattr(sys, "argv", ["selfrepair", *map(str, arguments)])
        monkeypatch.setenv("COLUMNS", str(columns))
        handler = signal.getsignal(signal.SIGTERM)
        capsys.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            signal.signal(signal.SIGTERM, handler)
        output = capsys.readouterr()
        return Ended(code, _STYLE.sub("", output.out), _STYLE.sub("", output.err))

    return command


@pytest.fixture
def runs(monkeypatch) -> list:
    """Every run as it was written."""
    from selfrepair.results import run_folder

    written, write = [], run_folder.write_results
    monkeypatch.setattr(run_folder, "write_results", lambda run, folder: (written.append(run), write(run, folder))[1])
    return written


def environment(**more: str) -> dict[str, str]:
    """For commands in processes of their own."""
    return os.environ | {"HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1", "COLUMNS": "140", **more}


def process(*arguments) -> Ended:
    """`python -m selfrepair` to its end."""
    done = subprocess.run(
        [sys.executable, "-m", "selfrepair", *map(str, arguments)],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return Ended(done.returncode, _STYLE.sub("", done.stdout), _STYLE.sub("", done.stderr))

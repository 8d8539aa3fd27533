"""`selfrepair run` with no arguments: the demo has more documents, in two phases; any setting makes it a usual run."""

import pytest
from typer.testing import CliRunner

from selfrepair.cli import run as verb
from selfrepair.cli.app import app


class Asked(Exception):
    """Ends a run before it starts, with what it was asked."""


@pytest.fixture
def asked(monkeypatch, tmp_path):
    def stop(_model, settings, _folder, _quiet):
        raise Asked(dict(settings))

    monkeypatch.setattr(verb, "_measured", stop)

    def of(*arguments):
        ended = CliRunner().invoke(app, ["run", *arguments, "--out", str(tmp_path / "run"), "-q"])
        assert isinstance(ended.exception, Asked), ended.output
        return ended.exception.args[0]

    return of


def test_without_settings_it_is_the_demo(asked):
    settings = asked()
    assert (settings["tokens"], settings["surrogate"], settings["exact_share"]) == (3072, "own", None)
    assert settings["tokens"] / settings["length"] >= 40  # documents behind the top 2%


@pytest.mark.parametrize("arguments", [("gpt2",), ("--tokens", "641"), ("--filter", "all"), ("--seed", "1")])
def test_any_setting_makes_it_a_usual_run(asked, arguments):
    settings = asked(*arguments)
    assert settings["surrogate"] == "none" and settings["tokens"] in (640, 641)


def test_some_minutes_choose_from_enough_text(asked):
    assert asked("--minutes", "3")["tokens"] == 300_000
    assert asked("--minutes", "3", "--tokens", "5000")["tokens"] == 5000


def test_all_documents_exactly_is_asked_for_by_name(asked):
    settings = asked("default", "--surrogate", "none")
    assert (settings["surrogate"], settings["tokens"]) == ("none", 640)

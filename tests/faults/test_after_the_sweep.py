"""Whatever comes after the sweep never costs it: it says in words what it could not make."""

import json
import tempfile
import warnings

import numpy as np
import pytest

from loading.fixtures import SHORT
from selfrepair import load, load_run, measure, resume, windows
from selfrepair.run.closeups import attach
from selfrepair.run.closeups.token_bytes import vocabulary_table
from selfrepair.run.gathering import merged_run
from selfrepair.run.gathering.best_effort import LeftOut, never_costs_the_run


class Panic(BaseException):
    """As native libraries raise them."""


def fails(*_given, **_options):
    raise Panic("no \x1b[31mway")


@pytest.fixture
def text(llama):
    model = load(llama)
    return model, windows(model.tokenizer, tokens=120, length=24)


def looked(text, **options):
    model, corpus = text
    return measure(model, corpus, heads=[(2, 0)], replicates=4, progress=False, **options)


class Pieces:
    """A tokenizer without texts for the rows that pad a vocabulary."""

    def decode(self, ids, **_options):
        if max(ids) >= 93:
            raise IndexError("piece id is out of range.")
        return chr(ids[0])

    def convert_ids_to_tokens(self, token):
        return self.decode([token])


def test_tokens_that_cannot_be_decoded_are_shown_by_number():
    with pytest.warns(LeftOut, match=r"texts of 2 tokens \(IndexError: piece id is out of range.\).* is complete"):
        table = vocabulary_table(Pieces(), [65, 66, 93, 96])
    assert table.to_pylist() == [{"token": 65, "bytes": b"A"}, {"token": 66, "bytes": b"B"}]


@pytest.mark.parametrize("place", [None, "run"])
@pytest.mark.parametrize(
    ("where", "name", "said"),
    [
        (attach, "vocabulary_table", "No texts of tokens"),
        (attach, "closeups", "No close-ups of single tokens"),
        (attach, "_named", "No texts of tokens"),
        (merged_run, "passages_table", "No whole passages"),
    ],
)
def test_a_part_that_fails_costs_that_part(text, tmp_path, monkeypatch, where, name, said, place):
    monkeypatch.setattr(where, name, fails)
    out = None if place is None else tmp_path / place
    with pytest.warns(LeftOut, match=rf"{said} \(Panic: no ␛\[31mway\)\. The run itself is complete"):
        run = looked(text, out=out)
    assert run.outcome["status"] == "complete" and np.isfinite(run.heads["self_repair"].values[0, 2, 0])
    if out is not None:
        monkeypatch.undo()
        assert load_run(out).heads["count"].max() > 0


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("selfrepair.report.run_tables.print_heads", "No tables (Panic: no ␛[31mway)"),
        ("selfrepair.results.runs.Run.plot_overview", "No pictures (Panic"),
        ("selfrepair.report.page.write_page", "No report.html (Panic"),
    ],
)
@pytest.mark.filterwarnings("always")
def test_the_command_goes_on_and_says_what_is_missing(selfrepair, llama, tmp_path, monkeypatch, name, said):
    monkeypatch.setattr(name, fails)
    options = [one for one in SHORT if one != "--no-plots"]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        ended = selfrepair("run", llama, *options, "--heads", "L2H0", "--out", tmp_path / "run")
    assert ended.code == 0 and "Results: " in ended.out
    assert any(said in str(one.message) for one in told), [str(one.message) for one in told]
    assert json.loads((tmp_path / "run" / "outcome.json").read_text())["status"] == "complete"


def test_without_a_folder_a_sweep_that_cannot_be_merged_is_kept(text, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    before = looked(text)
    assert not list(tmp_path.iterdir()), "nothing is left of a run that came to its end"
    monkeypatch.setattr("selfrepair.run.measure.merged", fails)
    with pytest.raises(Panic) as caught:
        looked(text)
    (kept,) = tmp_path.iterdir()
    assert f"What had been measured is in {kept}" in caught.value.__notes__[0]
    monkeypatch.undo()
    again = resume(kept, text[0], progress=False)
    np.testing.assert_array_equal(again.heads["self_repair"], before.heads["self_repair"])


def test_without_a_folder_nothing_is_kept_of_a_run_that_measured_nothing(text, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr("selfrepair.run.unit.survey.survey_unit", fails)
    with pytest.raises(Panic):
        looked(text)
    assert not list(tmp_path.iterdir())


def test_an_end_that_is_asked_for_is_no_failure():
    with pytest.raises(SystemExit), never_costs_the_run("pictures"):
        raise SystemExit(3)

"""Every language model that transformers lists, multimodal or not, is proven, refused for the recorded reason, or not
built."""

from __future__ import annotations

import pytest
import transformers

from census import forwards, study
from census.elsewhere import VERIFIED
from census.recording import PAGE, page, recorded, recorded_version
from census.small import ENTRIES, FAMILIES, MULTIMODAL, build
from selfrepair.engine.delta.rules import rule_table
from selfrepair.engine.delta.rules.secant import secant

SAME_VERSION = transformers.__version__ == recorded_version()
ADVICE = "Run `python tools/census.py --only {}`, look at what it finds, and commit tests/census/recorded.json."


def test_no_family_is_left_out():
    new = [family for family in (*FAMILIES, *MULTIMODAL) if family not in recorded()]
    assert not new, f"transformers has families that nobody looked at: {new}. " + ADVICE.format(",".join(new))


@pytest.mark.skipif(not SAME_VERSION, reason="recorded with another version of transformers")
def test_nothing_is_recorded_that_is_not_there():
    assert set(recorded()) == {*ENTRIES, *MULTIMODAL}


@pytest.mark.parametrize("entry", [entry for entry in (*ENTRIES, *MULTIMODAL) if entry in recorded()])
def test_the_verdict_is_the_recorded_one(entry):
    kept, found = recorded()[entry], study.verdict(entry)  # a wrong number, or a traceback, is an error here
    if not SAME_VERSION and kept["verdict"] != found["verdict"]:
        pytest.skip(f"{found['verdict']} with this version of transformers")
    known = ("verdict", "identity", "engines", "layers") if SAME_VERSION else ("verdict",)
    assert {name: found.get(name) for name in known} == {name: kept.get(name) for name in known}, ADVICE.format(entry)


def test_the_page_says_what_is_recorded():
    assert PAGE.read_text() == page(), "Run `python tools/census.py --page`."


def test_what_is_verified_elsewhere_is_proven():
    entries = [entry for names in VERIFIED.values() for entry in names]
    assert len(VERIFIED) == 32 and {recorded()[entry]["verdict"] for entry in entries} == {study.PROVEN}


def test_the_census_sees_a_wrong_number(monkeypatch):
    def wrong(call):
        return tuple(1.001 * change for change in secant(call))

    monkeypatch.setitem(rule_table.RULES, "silu", wrong)
    with pytest.raises(study.WrongNumber, match="delta"):
        study.verdict("llama")


def test_effects_are_those_of_plain_forwards():
    """An effect of a head that is replaced by itself would be zero; donors make it large."""
    model = build("llama")
    (found,) = forwards.effects(model, [forwards.Part(model.model.layers[1].self_attn.o_proj, 2, 4, is_input=True)])
    assert found.abs().max() > 0.01

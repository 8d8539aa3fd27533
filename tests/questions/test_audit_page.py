"""The audit page as text: its numbers are the audit's, its text is data, what it says to copy can be run."""

from __future__ import annotations

import ast
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pandas as pd
import pytest
from audited import HOSTILE, NAME, covered, hostile, page_of

from selfrepair import SelfRepairError
from selfrepair.questions.circuit.together import Together
from selfrepair.questions.claims.claims_file import read_claims
from selfrepair.questions.claims.judging import KINDS, judge
from selfrepair.questions.page import prompt_browser
from selfrepair.questions.page.balance import steps_of
from selfrepair.questions.page.copies import as_claims, as_python
from selfrepair.questions.page.drawing import assumed, covering_names, measured_edges
from selfrepair.questions.page.lists import missing_list
from selfrepair.questions.page.markup import Markup, el, shown
from selfrepair.questions.page.page_extras import extras, unmeasured
from selfrepair.questions.page.shown import ShownAudit, effect_text, share_text
from selfrepair.questions.page.tracks import Axis, whisker
from selfrepair.questions.page.write_audit import audit_page, write_audit_page


class Reader(HTMLParser):
    """Elements, exact numbers by name, text; nothing that a browser would not see either."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.numbers, self.text = [], {}, ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.append((tag, given))
        if tag == "data" and "data-name" in given:
            self.numbers.setdefault(given["data-name"], []).append(float(given["value"]))

    def handle_data(self, data):
        self.text += data


def given(name: str, edges: bool = False) -> ShownAudit:
    question, found = {"covered": covered, "hostile": hostile}[name]()
    more = extras(question, found, 1e-12, edges) if edges else unmeasured(question.prompts, question.model.tokenizer)
    return ShownAudit(question, found, more)


def test_the_planted_suppressor_is_what_the_circuit_misses():
    _, found = covered()
    assert found.verdict.word == "covered" and list(found.missing["component"]) == ["L1H1"]
    read = Reader(page_of("covered"))
    for said in (
        "Missing from the circuit: L1H1",
        "suppressor re-aimed",
        "confirmed",
        "ledger residual",
        "zero ablation",
    ):
        assert said in read.text
    assert sum(tag == "g" and "missing" in given.get("class", "") for tag, given in read.elements) == 1


@pytest.mark.parametrize("name", ["covered", "hostile"])
def test_numbers_on_the_page_are_those_of_the_audit(name):
    _, found = {"covered": covered, "hostile": hostile}[name]()
    read = Reader(page_of(name))
    covering = found.covering
    assert read.numbers["lost"][0] == float(covering.total("lost").value)
    assert read.numbers["total_effect"][0] == float(covering.total("total_effect").value)
    assert read.numbers["repaired_share"][0] == float(covering.repaired_share.value)
    row = found.effects.row("circuit")
    np.testing.assert_array_equal(read.numbers["total_effect"][1:], found.effects.total_effect[row])
    np.testing.assert_array_equal(read.numbers["ablated"][::2], found.effects.ablated[row])
    assert not {"nan", "inf", "-inf", "None"} & set(read.text.split())


@pytest.mark.parametrize("name", ["covered", "hostile"])
def test_the_waterfall_ends_at_the_total_effect(name):
    steps, total = steps_of(given(name))
    assert sum(step.value for step in steps) == pytest.approx(total.value, abs=1e-9)
    assert steps[0].value == -float(given(name).found.covering.total("lost").value)
    assert all(not step.low > step.high for step in steps)


def test_text_from_data_is_no_markup():
    text = page_of("hostile")
    read = Reader(text)
    assert [tag for tag, _ in read.elements].count("script") == 1
    assert not {"img", "b onerror"} & {tag for tag, _ in read.elements}
    assert not any(key.startswith("on") for _, attributes in read.elements for key in attributes)
    assert HOSTILE[0] in read.text and NAME in read.text and "⟨U+200F⟩" in read.text
    assert not set(text) & {"\u202e", "\u200f", "\x00", "\x1b"}
    assert "👩‍🚀" in read.text and "سلام" in read.text


@pytest.mark.parametrize("name", ["covered", "hostile"])
def test_every_cell_has_its_heading(name):
    tags = [tag for tag, given in Reader(page_of(name)).elements if tag in ("table", "tr", "th", "td")]
    tables = " ".join(tags).split("table")[1:]
    assert len(tables) > 2
    for table in tables:
        assert len({len(row.split()) for row in table.split("tr")[1:]}) == 1


def test_numbers_that_are_rounding_are_zeros():
    assert effect_text(1e-17, -2e-17, 3e-16) == "+0.000 [+0.00, +0.00]"
    assert share_text(1.0, 1 - 1e-15, 1 + 1e-15) == "100% [100, 100]"
    assert share_text(0.5, float("-inf"), float("inf")) == "(50%)"
    assert effect_text(0.5, float("nan"), float("nan")) == "+0.500"


def test_the_page_asks_the_network_for_nothing():
    for name in ("covered", "hostile"):
        links = [
            value
            for _, given in Reader(page_of(name)).elements
            for key, value in given.items()
            if key in ("src", "href")
        ]
        assert links and all(link.startswith(("#", "data:")) for link in links)
        assert "default-src 'none'" in page_of(name)


def test_elements_escape_their_children_and_attributes():
    made = el("p", "<b>", Markup("<i></i>"), None, title='"\n', hidden=True, id=None)
    assert made == '<p title="&quot;⏎" hidden>&lt;b&gt;<i></i></p>'
    assert shown("a\u2066b\tc") == "a\N{REPLACEMENT CHARACTER}b⇥c"


def test_edges_are_measured_where_they_were_asked_for():
    drawn = given("covered", edges=True)
    names = [str(site) for site in drawn.members] + covering_names(drawn)
    (edge,) = measured_edges(drawn, names)
    row = drawn.extras.graph.table().set_index(["source", "target"]).loc["L0H0", "L1H1"]
    assert (edge.source, edge.target, edge.weight) == ("L0H0", "L1H1", 1.0)
    assert f"{row['total']:+.3f}" in edge.title and row["total"] == pytest.approx(0.72)
    assert row["direct"] == pytest.approx(0.72)
    plain = given("covered")
    assert measured_edges(plain, names) == []
    sites = {str(site): site for site in plain.found.covering.components.sites}
    assert [(one.source, one.target) for one in assumed(plain, ["L0H0"], ["L1H1"], sites)] == [("L0H0", "L1H1")]
    assert assumed(plain, ["L1H2"], ["L1H1"], sites) == []  # of one layer: neither reads the other


def test_what_is_missing_is_shown_frozen_together_beside_control_sets():
    page = given("covered")
    total = page.found.covering.total("self_repair")
    together = Together(total, page.found.covering.repaired_share, (-0.125, 0.25), 1 / 3)
    missing = pd.concat([page.found.missing, page.found.missing.assign(component="L1H2")], ignore_index=True)
    several = replace(page, found=replace(page.found, together=together, missing=missing))
    read = Reader(str(missing_list(several)))
    titles = [attributes.get("title") or "" for _, attributes in read.elements]
    assert any("frozen together: +0.720" in title and "-0.125 to +0.250" in title for title in titles)
    assert "beside 2 sets of like components" in read.text
    assert "together" not in Reader(str(missing_list(page))).text  # one component has no sets beside it


def test_direct_parts_of_lines_are_told():
    text = Reader(page_of("covered")).text
    assert "+0.720 [+0.72, +0.72] comes directly from the circuit and" in text


def test_long_lists_of_prompts_are_cut_and_say_so(monkeypatch):
    monkeypatch.setattr(prompt_browser, "PROMPTS", 2)
    read = Reader(str(prompt_browser.prompt_browser(given("hostile"))))
    assert "The first 2 of 4 prompts" in read.text
    assert sum(tag == "details" for tag, _ in read.elements) == 2


def test_claims_that_are_copied_hold_where_they_were_made(tmp_path):
    question, _ = covered()
    path = tmp_path / "claims.yaml"
    path.write_text(as_claims(given("covered")))
    claims = read_claims(path, KINDS)
    assert [claim.kind for claim in claims.claims] == ["covers", "repaired_share", "necessity"]
    assert claims.settings == {"ablation": "zero", "controls": 3}
    for claim in claims.claims[1:]:  # the first beats controls, of which two layers of heads have none to spare
        assert judge(question, claim, claims).status == "holds", claim
    terms = claims.claims[0].terms
    assert (claims.claims[0].subject, terms["for"], terms["beats_controls"]) == ("L1H1", "L0H0", True)


def test_names_that_are_copied_stay_literals(tmp_path):
    code = as_python(given("hostile"))
    constants = {node.value for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Constant)}
    assert {HOSTILE[0], NAME} <= constants
    odd = 'a\u2028 "b\x1b.jsonl'
    page = given("hostile")
    prompts = replace(page.question.prompts, provenance={"file": odd})
    path = tmp_path / "claims.yaml"
    path.write_text(as_claims(replace(page, question=replace(page.question, prompts=prompts))))
    claims = read_claims(path, KINDS)
    assert (claims.model["id"], claims.prompts["file"]) == (NAME, odd)


def test_axes_hold_all_values_and_mark_ends_beyond_them():
    axis = Axis.over([1.0, 2.0], [-50.0, float("inf"), float("nan")])
    assert axis.low < 0 and axis.at(axis.low) == 0 and axis.at(axis.high) == 100
    assert axis.low > -10  # an end far away leaves the values room
    assert "beyond-low" in whisker(axis, -50.0, 2.0) and "beyond-high" not in whisker(axis, -50.0, 2.0)
    assert whisker(axis, float("nan"), 1.0) is None
    assert all(axis.low <= tick <= axis.high for tick in axis.ticks()) and 2 < len(axis.ticks()) < 8
    assert len(Axis.over([0.0]).ticks()) > 1


def test_a_page_that_cannot_be_written_is_an_error_in_words(tmp_path):
    question, found = hostile()
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfRepairError, match="Cannot write"):
        write_audit_page(question, found, tmp_path / "file" / "audit.html")


def test_the_same_audit_makes_the_same_page():
    question, found = covered()
    more = unmeasured(question.prompts, question.model.tokenizer)
    assert audit_page(question, found, more) == audit_page(question, found, more)

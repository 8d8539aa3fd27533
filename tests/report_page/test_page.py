"""The page without a browser: what is in it, what is not, how data are packed, what is left out and said."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import zlib
from dataclasses import replace

import numpy as np
import pytest
from hostile import NAMES

from selfrepair import SelfRepairError, load_run, measure, view
from selfrepair.report.page import PageRun, build, page_html, write_page
from selfrepair.report.page.closeups import closeup_places
from selfrepair.report.page.kept_tokens import kept_tokens, token_blocks
from selfrepair.report.page.pack import MISSING, Blocks, Fixed, plain_json
from selfrepair.report.page.run_facts import command, limits
from selfrepair.results.extras import Extras
from support import corpus, language_model


@pytest.fixture(scope="session")
def text(page_path):
    return page_path.read_text()


def unpacked(blocks, described):
    """What the browser makes of a block."""
    content, start, arrays = zlib.decompress(base64.b64decode(blocks.texts[described["block"]])), 0, {}
    for one in described["arrays"]:
        kind = {"float32": "<f4", "fixed": "<i4", "int32": "<i4", "uint16": "<u2", "uint8": "|u1"}[one["kind"]]
        count, width = int(np.prod(one["shape"])), np.dtype(kind).itemsize
        planes = np.frombuffer(content[start : start + count * width], np.uint8).reshape(width, count)
        values = np.ascontiguousarray(planes.T).view(kind).reshape(one["shape"])
        if one["kind"] == "fixed":
            values = np.where(values == MISSING, np.nan, values * one["step"])
        arrays[one["name"]], start = values, start + count * width
    assert start == len(content)
    return arrays


def test_arrays_survive_packing():
    blocks, rng = Blocks(), np.random.default_rng(0)
    given = {
        "a": rng.normal(size=(3, 4)).astype(np.float32),
        "b": rng.integers(-5, 2**30, 7).astype(np.int32),
        "c": np.array([1, 65535], np.uint16),
        "d": Fixed(np.array([0.1234, np.nan, -7.0]), 0.001),
    }
    found = unpacked(blocks, blocks.arrays(given))
    for name in "abc":
        np.testing.assert_array_equal(found[name], given[name])
    np.testing.assert_allclose(found["d"], [0.123, np.nan, -7.0])


@pytest.mark.parametrize("text", ["</script>", "<!-- <script>", "&amp;", "\u2028 \ud800", "\x00"])
def test_json_in_a_script_element_ends_nothing(text):
    packed = plain_json({"text": text})
    assert "<" not in packed and ">" not in packed and "&" not in packed
    assert json.loads(packed)["text"] == text


def test_the_page_needs_nothing_else(text):
    for tag in re.findall(r"<(?:script|link|img|iframe|style)\b[^>]*>", text.split('<script type="module">')[0]):
        assert "src=" not in tag and "http" not in tag, tag
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1]
    assert "default-src 'none'" in policy and "unsafe-eval" not in policy and "connect-src 'none'" in policy
    assert "'unsafe-inline'" not in policy.split("script-src")[1].split(";")[0]
    program = re.search(r'<script type="module">(.*?)</script>', text, re.DOTALL)[1]
    assert f"'sha256-{base64.b64encode(hashlib.sha256(program.encode()).digest()).decode()}'" in policy
    assert "innerHTML" not in program and "outerHTML" not in program and "insertAdjacentHTML" not in program


def test_names_of_documents_stay_data(text, run):
    assert NAMES[1] in json.dumps(run.windows["document"].to_pylist(), ensure_ascii=False)
    assert "<img" not in text


def test_all_rows_are_there_or_the_page_says_how_many(run):
    whole = kept_tokens(run, 10**6, set())
    assert len(whole.passes) == whole.total == run.tokens.num_rows
    places = closeup_places(run)
    some = kept_tokens(run, 120, places)
    assert len(some.passes) < some.total == run.tokens.num_rows
    columns = [some.columns[name].tolist() for name in ("layer", "head", "window", "position")]
    assert places <= set(zip(*columns, strict=True))
    few = build.run_index(PageRun(run), Blocks())
    assert few["sampled"] == ""


def test_what_does_not_fit_is_sampled_and_said(run, monkeypatch):
    for name, value in (("ROWS", 100), ("ROWS_PER_HEAD", 1), ("TEXT_TOKENS", 40)):
        monkeypatch.setattr(build, name, value)
    index = build.run_index(PageRun(run), Blocks())
    assert "kept tokens are in this page" in index["sampled"] and "windows of text" in index["sampled"]


def test_runs_without_extras_still_make_a_page(run, tmp_path):
    bare = replace(run, extras=Extras())
    index = build.run_index(PageRun(bare), Blocks())
    assert index["passages"] == {} and index["closeups"] == {} and "pieces" not in index["text"]
    assert write_page([bare], tmp_path / "bare.html").stat().st_size > 10**6


def test_the_command_repeats_the_run(run, folders):
    named = load_run(folders[0])
    named.plan["model"]["source"] = {"model": "org/model"}
    said = command(named)
    assert said.startswith("selfrepair run org/model --text random") and "--filter 'top 20%'" in said
    assert "--seed 0" in said and "--heads" not in said
    named.plan["heads"] = [[1, 2]]
    assert "--heads L1H2" in command(named)


def test_the_card_says_what_the_run_cannot(run):
    said = " ".join(limits(run))
    assert "Only 3 documents" in said and "One donor" in said and "resample" in said


def test_a_view_for_notebooks_opens_where_it_should(run):
    shown = view(run, at="L1H2")._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and "&quot;start&quot;: &quot;L1H2&quot;" in shown


def test_bad_input_says_what_to_do(tmp_path, run, monkeypatch):
    with pytest.raises(SelfRepairError, match="no results folder"):
        write_page([tmp_path / "nowhere"], tmp_path / "report.html")
    with pytest.raises(SelfRepairError, match="no run"):
        page_html([])
    (tmp_path / "file").write_text("")
    with pytest.raises(SelfRepairError, match="Cannot write"):
        write_page([run], tmp_path / "file" / "report.html")
    monkeypatch.setattr(build, "NEEDED", ("jinja2", "surely_not_installed"))
    with pytest.raises(SelfRepairError, match="not installed") as refusal:
        write_page([run], tmp_path / "report.html")
    assert "selfrepair[report]" in refusal.value.fix


@pytest.mark.parametrize("filters", [9, 32])
def test_a_page_tells_as_many_filters_apart_as_a_run_may_have(filters):
    labels = [f"top:{share:.3f}" for share in np.linspace(0.1, 0.9, filters)]
    run = measure(
        language_model("gpt2"), corpus(), ablation="zero", heads="L1H0", filters=labels, replicates=2, progress=False
    )
    blocks = Blocks()
    found = token_blocks(run, kept_tokens(run, 10**6, set()), blocks, np.arange(len(run.windows)))
    passes = unpacked(blocks, found["rows"][1])["passes"].astype(np.int64)
    told = (passes[:, None] >> np.arange(filters)) & 1
    np.testing.assert_array_equal(told.sum(0), run.heads["count"].sel(layer=1, head=0).values)


def test_a_run_has_no_more_filters_than_the_page_can_tell_apart():
    labels = [f"top:{share:.3f}" for share in np.linspace(0.1, 0.9, 33)]
    with pytest.raises(SelfRepairError, match="1 to 32 labels"):
        measure(language_model("gpt2"), corpus(), filters=labels, engine="replay", progress=False)

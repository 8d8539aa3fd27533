"""`selfrepair audit` with its page."""

from __future__ import annotations

import html
import json
import re

import pytest

ROWS = [
    {"text": f"{first}, {second}, ", "answers": [str(first)], "wrong": [str(second)], "group": "counting"}
    for first, second in ((1, 2), (2, 3), (3, 4), (4, 5))
]
ASKED = ("--ablation", "zero", "--controls", "2", "--top", "2", "--operators", "mean")


@pytest.fixture
def prompts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "prompts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return "prompts.jsonl"


def test_the_page_lies_in_the_folder_and_its_code_makes_the_audit_again(selfrepair, llama, prompts, tmp_path, capsys):
    asked = ("audit", llama, "--circuit", "movers=L0H1,L1H0", "--prompts", prompts, *ASKED)
    ended = selfrepair(*asked, "--out", tmp_path / "found", "--edges", "--json")
    assert ended.code == 0, ended.err
    told, page = json.loads(ended.out), (tmp_path / "found/audit.html").read_text("utf-8")
    assert "audit.html" in ended.err and told["verdict"]["word"] in page and "Edges from L0H1" in page
    code = html.unescape(re.search(r'<pre id="as-python"[^>]*>(.*?)</pre>', page, re.DOTALL)[1])
    made: dict = {}
    exec(code, made)
    assert made["found"].verdict.word == told["verdict"]["word"]
    total = float(made["found"].covering.total("total_effect").value)
    assert total == pytest.approx(told["total_effect"]["value"], abs=1e-6)


def test_without_a_page(selfrepair, llama, prompts, tmp_path):
    asked = ("audit", llama, "--circuit", "L0H1", "--prompts", prompts, *ASKED)
    ended = selfrepair(*asked, "--out", tmp_path / "found", "--no-page")
    assert ended.code == 0 and not (tmp_path / "found/audit.html").exists()
    for wrong in (("--open",), ("--edges",), ("--open", "--out", tmp_path / "other", "--no-page")):
        refused = selfrepair(*asked, *wrong)
        assert refused.code == 1 and "--out" in refused.err and not (tmp_path / "other").exists()

"""`selfrepair graph`."""

from __future__ import annotations

import json

import pytest

ASKED = ("--prompt", "1, 2, 3, ", "--answer", "4", "--against", "5", "--ablation", "zero")


def test_edges_of_named_senders(selfrepair, llama, tmp_path):
    ended = selfrepair("graph", llama, "--senders", "L0H1,L1.mlp", *ASKED, "--out", tmp_path / "edges.dot")
    assert ended.code == 0, ended.err
    for said in ("From L0H1", "From L1.mlp", "direct", "mediated", "zero ablation", "residual", "numerical floor"):
        assert said in ended.out
    assert '"L0H1" -> ' in (tmp_path / "edges.dot").read_text()


def test_edges_of_the_strongest_heads_for_programs(selfrepair, llama):
    ended = selfrepair("graph", llama, "--strongest", "2", *ASKED, "--json")
    told = json.loads(ended.out)
    assert len(told["senders"]) == 2 and {edge["source"] for edge in told["edges"]} <= set(told["senders"])


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "neither was asked for"),
        (("--senders", "L0H1", "--strongest", "2"), "both were asked for"),
        (("--senders", "L0H1", "--out", "edges.csv"), "does not say how"),
        (("--senders", "L0H9000"), "L0H9000"),
        (("--senders", "L1N3"), "part of an MLP"),
    ],
)
def test_what_cannot_be_done_is_said(selfrepair, llama, arguments, words):
    ended = selfrepair("graph", llama, *arguments, *ASKED)
    assert ended.code == 1 and words in " ".join(ended.err.split())

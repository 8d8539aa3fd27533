"""`selfrepair interact` and `recruit` on a file of prompts."""

from __future__ import annotations

import json

import pandas as pd
import pytest

PAIRS = [("1, 2, 3, ", "1, 2, 4, "), ("0, 2, 3, ", "0, 1, 4, "), ("5, 2, 3, ", "5, 1, 4, ")]
ROWS = [
    {"text": text, "answers": ["4"], "wrong": ["5"], "corrupt": twin, "group": f"t{place % 2}", "id": f"p{place}"}
    for place, (text, twin) in enumerate(PAIRS * 2)
]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_interactions_are_printed_with_what_every_number_is(selfrepair, llama, prompts, tmp_path):
    picture = tmp_path / "curves.svg"
    ended = selfrepair("interact", "L0H1, L0H0+L1H1, L1.mlp", llama, "--prompts", prompts, "--plot", picture)
    words = " ".join(ended.out.split())
    assert ended.code == 0 and picture.read_bytes().startswith(b"<?xml")
    for part in ("norm frozen", "Shapley values", "Knock-out curves", "corrupt ablation", "6 prompts in 2 groups"):
        assert part in words
    for part in ("ranges over 2 groups", "ledger residual", "numerical floor", "mean of 20 orders", "conditional"):
        assert part in words


def test_json_and_files_of_interactions_say_the_same(selfrepair, llama, prompts, tmp_path):
    out = tmp_path / "answer"
    asked = ("--prompts", prompts, "--order", "random", "--draws", "3", "--no-shapley", "--json", "--out", out)
    told = json.loads(selfrepair("interact", "L0H1, L1H0", llama, *asked).out)
    assert told == json.loads((out / "answer.json").read_text())
    assert told["shapley"] is None and not (out / "shapley.parquet").exists() and told["random_orders"] == 3
    assert [row["order"] for row in told["curves"]] == ["random"] * 3
    pairs = pd.read_parquet(out / "pairs.parquet").to_dict("records")
    assert pairs[0]["interaction"] == told["pairs"][0]["interaction"]


def test_recruitment_is_printed_with_its_limits(selfrepair, llama, prompts, tmp_path):
    out = tmp_path / "answer"
    shown = selfrepair("recruit", "L0H1", llama, "--prompts", prompts, "--out", out)
    words = " ".join(shown.out.split())
    assert shown.code == 0 and {"runs.nc", "components.parquet", "answer.json"} == {path.name for path in out.iterdir()}
    for part in (
        "by nature",
        "when ablated",
        "3.0 prompts per group are few",
        "Not corrected",
        "6 prompts in 2 groups",
    ):
        assert part in words
    told = json.loads(selfrepair("recruit", "L0H1", llama, "--by", "L1H0", "--prompts", prompts, "--json").out)
    assert [row["component"] for row in told["components"]] == ["L1H0"] and told["used"]["groups"] == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("interact", "L0H1", "--prompt", "1, ", "--answer", "4", "--ablation", "zero"), "needs two sets"),
        (("interact", "L0H1,L1H0", "--order", "alphabetical", "--prompt", "1, ", "--answer", "4"), "There are: own"),
        (("interact", "L0H1,L1H0", "--plot", "curves.txt", "--prompt", "1, ", "--answer", "4"), "No picture can be"),
        (("interact", "L0H1,L1H0", "--plot", "absent/c.png", "--prompt", "1, ", "--answer", "4"), "No picture can be"),
        (("recruit", "L0N1", "--prompt", "1, ", "--answer", "4", "--ablation", "zero"), "no direct effect"),
        (("recruit", "L0H1", "--prompt", "1, ", "--answer", "4", "--ablation", "zero"), "No group has 3"),
    ],
)
def test_bad_questions_get_the_sentence_that_helps(selfrepair, llama, arguments, words):
    verb, components, *rest = arguments
    ended = selfrepair(verb, components, llama, *rest)
    assert ended.code == 1 and words in " ".join(ended.said.split())


@pytest.mark.parametrize("one_group", [True, False])
def test_the_foot_names_the_smallest_effect_that_could_be_seen(selfrepair, llama, prompts, one_group):
    if one_group:
        prompts.write_text(prompts.read_text().replace('"t1"', '"t0"'))
    shown = selfrepair("who", "L0H1", llama, "--prompts", prompts, "--controls", "2").out
    words = " ".join(shown.split())
    assert ("Smallest detectable (a test at 5%" in words) == one_group
    assert ("not known without intervals" in words) != one_group
    card = " ".join(selfrepair("card", "L0H1", llama, "--prompts", prompts).out.split())
    assert ("smallest total effect to detect" in card.split("placebo: a random")[0]) == one_group
    assert "self-repair under a placebo" in card and "mean of 8" in card


@pytest.mark.parametrize("verb", ["who", "ablate", "card", "recruit"])
def test_metrics_of_the_documents_can_be_chosen(selfrepair, llama, prompts, verb):
    shown = selfrepair(verb, "L0H1", llama, "--prompts", prompts, "--metric", "prob-diff", "--json")
    told = json.loads(shown.out)
    assert told["metric"] == "prob-diff" and told["units"] == "probability"

"""`selfrepair who`, `ablate`, `card`, `audit`, `claim` on prompts from the command line and from a file."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr
import yaml

from selfrepair.questions.question_settings import PromptSource

ROOT = Path(__file__).parents[2]
ROWS = [
    {"text": text, "answers": ["4"], "wrong": ["5"], "corrupt": twin, "group": f"t{place % 2}", "id": f"p{place}"}
    for place, (text, twin) in enumerate([("1, 2, 3, ", "1, 2, 4, "), ("0, 2, 3, ", "0, 1, 4, ")] * 3)
]


@pytest.fixture
def prompts(tmp_path):
    path = tmp_path / "prompts.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    return path


def test_who_on_one_prompt_gives_values_and_no_intervals(selfrepair, llama):
    asked = ("--prompt", "1, 2, 3, ", "--answer", "4", "--against", "5", "--ablation", "zero", "--controls", "2")
    ended = selfrepair("who", "L0H1", llama, *asked)
    assert ended.code == 0
    words = " ".join(ended.out.split())
    for part in ("Who covers for L0H1", "one prompt: no intervals", "zero ablation", "ledger residual", "motifs"):
        assert part in words
    assert "[" not in ended.out.split("component")[0]


@pytest.mark.parametrize("verb", ["who", "card"])
def test_json_and_files_say_the_same(selfrepair, llama, prompts, tmp_path, verb):
    out = tmp_path / "answer"
    asked = ("--prompts", prompts, "--controls", "2") if verb == "who" else ("--prompts", prompts)
    ended = selfrepair(verb, "L0H1", llama, *asked, "--json", "--out", out)
    told = json.loads(ended.out)
    assert told["ablation"] == "corrupt" and told["prompts"] == {"number": 6, "groups": 2, "dropped": 0}
    assert "ranges over 2 groups" in told["intervals"] and told["numerical_floor"] < 1e-5
    assert json.loads((out / "answer.json").read_text()) == told
    assert list(pd.read_parquet(out / "components.parquet")["component"]) == [
        row["component"] for row in told["components"]
    ]
    with xr.open_dataset(out / "runs.nc", engine="h5netcdf") as runs:
        assert set(runs["total_effect"].dims) == {"row", "prompt"} and list(runs["prompt"].values) == [
            row["id"] for row in ROWS
        ]
        closed = runs["line_head"].sum(("layer", "head")) + runs["line_mlp"].sum(("layer", "write")) + runs["norm"]
        np.testing.assert_allclose(closed + runs["post_norms"], runs["total_effect"] + runs["lost"], atol=1e-4)


def test_ablate_takes_sets_and_frozen_components(selfrepair, llama, prompts):
    ended = selfrepair("ablate", "L0H1, L0H0+L1H1", llama, "--prompts", prompts, "--freeze", "L1.mlp", "--json")
    told = json.loads(ended.out)
    assert [row["name"] for row in told["runs"]] == ["L0H1", "L0H0+L1H1"]
    shown = selfrepair("ablate", "L0H1", llama, "--prompts", prompts, "--freeze", "L1.mlp").out
    assert "Frozen at their clean output in every run: L1.mlp" in " ".join(shown.split())


def test_audit_prints_a_verdict_with_its_rule(selfrepair, llama, prompts):
    ended = selfrepair("audit", llama, "--circuit", "movers=L0H0,L0H1", "--prompts", prompts, "--controls", "2")
    words = " ".join(ended.out.split())
    assert ended.code == 0
    for part in ("VERDICT", "The rule:", "necessity", "faithfulness", "Under other ablations", "placebo", "Members"):
        assert part in words


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("who", "L0H1"), "neither was given"),
        (("who", "L0H1", "--prompts", "absent.jsonl"), "There is no file 'absent.jsonl'"),
        (("who", "L0H1", "--prompt", "1, ", "--prompt", "2, ", "--answer", "4"), "2 prompts and 1 answers"),
        (("who", "9.1.1", "--prompt", "1, ", "--answer", "4"), "9.1.1"),
        (("who", "L77H0", "--prompt", "1, ", "--answer", "4"), "L77H0"),
        (("who", " ", "--prompt", "1, ", "--answer", "4"), "No components"),
        (("who", "L0H0", "--prompt", "1, ", "--answer", "4", "--ablation", "corrupt"), "twin"),
        (("audit", "--circuit", "absent.json", "--prompt", "1, ", "--answer", "4"), "absent.json"),
    ],
)
def test_bad_input_gets_the_sentence_that_helps(selfrepair, llama, arguments, words):
    verb, *rest = arguments
    model = (rest[0], llama, *rest[1:]) if verb == "who" else (llama, *rest)
    ended = selfrepair(verb, *model)
    assert ended.code == 1 and words in " ".join(ended.said.split())


def claims_file(folder: Path, llama, *claims: str) -> Path:
    path = folder / "claims.yaml"
    lines = "".join(f"  - {claim}\n" for claim in claims)
    path.write_text(f"model: {{id: {llama}}}\nprompts: {{file: prompts.jsonl}}\nablation: zero\nclaims:\n{lines}")
    return path


@pytest.mark.parametrize(("bound", "code"), [("at_least: -100", 0), ("at_least: 100", 1)])
def test_claims_end_with_their_code(selfrepair, llama, prompts, tmp_path, bound, code):
    path = claims_file(tmp_path, llama, f"it: {{total_effect: L0H1, {bound}}}")
    one = prompts.read_text().splitlines()
    prompts.write_text(
        "\n".join(json.dumps({**json.loads(row), "group": f"g{n}", "id": f"p{n}"}) for n, row in enumerate(one * 2))
    )
    ended = selfrepair("claim", path, "--json")
    told = json.loads(ended.out)
    assert ended.code == code == told["exit_code"] and told["claims"][0]["name"] == "it"


@pytest.mark.long
def test_the_workflow_for_ci_runs_its_check(llama, prompts, tmp_path):
    """All that can be tried of it without its host: it parses, and its commands run where claims fail and hold."""
    steps = yaml.safe_load((ROOT / "examples" / "check_claims.yml").read_text())["jobs"]["claims"]["steps"]
    check, summary = (step["run"] for step in steps if step.get("name") in ("Check the claims", "Summary"))
    claims_file(tmp_path, llama, "it: {total_effect: L0H1, at_least: 100}")
    failing = subprocess.run(["bash", "-c", check], cwd=tmp_path, capture_output=True, text=True)
    assert failing.returncode != 0, failing.stderr
    written = tmp_path / "summary.md"
    subprocess.run(
        ["bash", "-c", summary],
        cwd=tmp_path,
        check=True,
        env={"PATH": "/usr/bin:/bin", "GITHUB_STEP_SUMMARY": str(written)},
    )
    assert "it" in written.read_text() and written.read_text().startswith("```")


def test_every_option_of_prompts_is_offered(selfrepair):
    shown = selfrepair("who", "--help").out
    for name in PromptSource.__dataclass_fields__:
        assert f"--{name.replace('_', '-')}" in shown

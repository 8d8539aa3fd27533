"""`selfrepair check`."""

import pytest
import torch

from zoo import families

IDENTITIES = (
    "blocks chain",
    "residual sum",
    "heads sum",
    "post-norms",
    "read-out",
    "causality",
    "upstream silence",
    "own output",
    "ledger closes",
    "engines agree",
)


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_every_identity_is_printed_with_its_error(selfrepair, saved, name):
    ended = selfrepair("check", saved(name))
    assert ended.code == 0 and ended.err == ""
    rows = {identity: next(line for line in ended.out.splitlines() if identity in line) for identity in IDENTITIES}
    assert all("holds" in row and "e-" in row.replace("0.0e+00", "e-") for row in rows.values())


def test_the_parts_are_named(selfrepair, llama):
    out = " ".join(selfrepair("check", llama, "--dtype", "float64").out.split())
    parts = ("3 layers x 4 heads, float64", "o_proj", "RMSNorm", f"vocabulary {families.VOCAB}")
    for said in (*parts, "weights sha256", "float32 on file, measured in float64"):
        assert said in out


@pytest.mark.parametrize("verb", ["check", "run"])
def test_a_model_that_is_refused(selfrepair, saved, verb, tmp_path):
    out = ["--out", tmp_path / "run"] if verb == "run" else []
    ended = selfrepair(verb, saved("opt_post_norm"), *out)
    assert ended.code == 1
    assert "Identity 'residual sum' fails" in ended.said and "not supported" in ended.said
    if verb == "check":
        assert "FAILS" in next(line for line in ended.out.splitlines() if "residual sum" in line)
    assert not (tmp_path / "run").exists()


def test_an_identity_that_fails_at_load_is_shown_among_those_tried(selfrepair, llama, monkeypatch):
    from selfrepair.model import proofs

    monkeypatch.setattr(proofs, "_head_count_error", lambda *_: 2.0)
    ended = selfrepair("check", llama)
    assert ended.code == 1 and "Identity 'head count' fails" in ended.said
    for name in ("residual sum", "read-out"):
        assert "holds" in next(line for line in ended.out.splitlines() if name in line)
    assert "FAILS" in next(line for line in ended.out.splitlines() if "head count" in line)
    assert "were not tried" in ended.out


def test_an_identity_that_fails_is_shown_among_the_others_and_named(selfrepair, llama, monkeypatch):
    from selfrepair.engine import ablation_proofs

    monkeypatch.setattr(ablation_proofs, "_upstream", lambda *_: torch.tensor(0.5))
    ended = selfrepair("check", llama)
    assert ended.code == 1 and "Identity 'upstream silence' fails" in ended.said and "5.0e-01" in ended.said
    assert "FAILS" in next(line for line in ended.out.splitlines() if "upstream silence" in line)
    assert all(identity in ended.out for identity in IDENTITIES)

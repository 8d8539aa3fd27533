"""Audits at the edges: nothing behind the circuit, no answers, one prompt, members of all kinds; each has a page."""

from __future__ import annotations

import pytest
from audit_prompts import asked_prompts

from selfrepair import write_audit
from support import language_model

CASES = {
    "nothing behind it": ("L2.mlp", {}, {}),
    "the distribution": ("L0H1,L1H0", {"answers": False}, {"metric": "kl"}),
    "log-probability": ("L0H1", {}, {"metric": "log-prob"}),
    "one prompt": ("L0H1,L1H0", {"lengths": (7,)}, {}),
    "members of all kinds": ("spans=L0H1@S2,L1.mlp others=L1 cells=L0N3", {}, {}),
    "every component": ("L0,L1,L2,L0.mlp,L1.mlp,L2.mlp", {}, {}),
    "named positions": ("L0H1@S2,L1.mlp@end", {}, {}),
    "placebo": ("L0H1", {}, {"ablation": "placebo"}),
    "no controls": ("L0H1", {}, {"controls": 0, "top": 1}),
}


@pytest.mark.parametrize("name", CASES)
def test_every_audit_has_a_page(name, tmp_path):
    circuit, prompts, settings = CASES[name]
    asked = asked_prompts(**{"groups": 1, "lengths": (7, 9, 7), **prompts})
    settings = {"ablation": "zero", "operators": (), "controls": 2, "top": 2, **settings}
    found = write_audit(language_model("gpt2"), asked, circuit, tmp_path / "audit.html", edges=True, **settings)
    page = (tmp_path / "audit.html").read_text("utf-8")
    assert found.verdict.word in page and found.verdict.reason[1:] in page
    assert ("for the logit difference alone" in page) == ("metric" in settings)
    measured = not {"metric"} & set(settings) and "L0N3" not in circuit
    assert ('class="warning"' in page) == (not measured)
    assert (">Edges of components: Direct edges are measured from heads, mixers and MLPs; L0N3" in page) == (
        "L0N3" in circuit
    )

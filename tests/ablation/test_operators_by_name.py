"""Operators by name: the package's own and another package's, wherever names are read."""

from __future__ import annotations

import pytest
import torch

from selfrepair import SelfRepairError, choices, measure
from selfrepair.ablation.operators import OPERATORS, Zero, made_by_name, operator
from selfrepair.paper.inputs.corpus import Corpus
from selfrepair.run.planning.reload import load_job
from support import corpus, language_model


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """An installed package that offers `halved`, one that cannot be imported, and one under another name."""
    (tmp_path / "halving.py").write_text(
        "from selfrepair import Operator\nclass Halved(Operator):\n    name = 'halved'\n"
        "    def replacement(self, port, clean, source, draw):\n        return clean / 2\n"
    )
    info = tmp_path / "halving-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: halving\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text(
        "[selfrepair.operators]\nhalved = halving:Halved\nlost = halving:Gone\nother = halving:Halved\n"
    )
    monkeypatch.syspath_prepend(tmp_path)


def test_another_packages_operator_exists_by_name(installed):
    halved = operator("halved")
    assert "halved" in choices.operators() and made_by_name(halved)
    assert OPERATORS.versions("halved") == {"halving": "1.5"}
    assert torch.equal(halved.replacement(None, torch.ones(2), None, 0), torch.full((2,), 0.5))


def test_a_run_with_it_can_be_continued_and_the_paper_has_it(installed, tmp_path):
    model, text = language_model("gpt2"), corpus()
    run = measure(model, text, ablation="halved", heads="L2H1", engine="replay", out=tmp_path / "run", progress=False)
    assert run.plan["versions"]["halving"] == "1.5"
    job = load_job(tmp_path / "run", model)
    assert type(job.operator) is OPERATORS["halved"]
    body = Corpus(model, text)
    with model.running():
        batch = next(iter(body.batches()))
        assert torch.equal(body.replacement("halved", batch, 1), batch.clean.head_outputs[1] / 2)


def test_a_package_that_fails_is_named(installed):
    with pytest.raises(SelfRepairError, match="'lost' of the package halving cannot be loaded"):
        operator("lost")
    with pytest.raises(SelfRepairError, match=r"'other' \(halving\) calls itself 'halved'"):
        operator("other")


def test_an_operator_with_settings_of_its_own_is_not_made_by_name():
    class Impostor:
        draws, donors = 1, 0

        def __init__(self):
            self.name = "zero"

    assert made_by_name(Zero()) and made_by_name(operator("resample", 3)) and not made_by_name(Impostor())

"""Models without heads: their mixers are what a run ablates, from plan to report."""

from __future__ import annotations

import numpy as np
import pytest

from census.small import build
from selfrepair import Intervention, Mixer, SelfRepairError, load, load_run, measure, prove, write_report
from selfrepair.cli.check import _parts
from selfrepair.model.kinship import ENTRIES, weights_sample
from support import corpus


@pytest.fixture(scope="module")
def mamba():
    return load(build("mamba"))


@pytest.fixture(scope="module")
def measured(mamba, tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "run"
    return measure(mamba, corpus(), engine="delta", out=folder, progress=False), folder


def test_every_mixer_is_ablated_and_its_ledger_closes(measured):
    run, folder = measured
    assert run.outcome["status"] == "complete" and run.outcome["ledger_closes"]
    found = load_run(folder).interventions
    assert list(found["name"].values) == ["L0.mixer", "L1.mixer", "L2.mixer"] and set(found["kind"].values) == {"mixer"}
    lines = ("repair_heads", "repair_mlps", "repair_mixers", "repair_post_norms", "repair_norm")
    np.testing.assert_allclose(sum(found[line] for line in lines), found.self_repair, atol=1e-9)
    assert (found.repair_mixers.sel(intervention=found["name"] == "L0.mixer") != 0).any()
    assert not found.repair_heads.any() and not found.repair_mlps.any()


def test_engines_agree_over_a_corpus(mamba, measured):
    replayed = measure(mamba, corpus(), engine="replay", progress=False).interventions
    np.testing.assert_allclose(replayed.total_effect, measured[0].interventions.total_effect, atol=1e-9)


def test_chosen_mixers_of_a_model_without_heads(mamba):
    run = measure(mamba, corpus(), interventions=[Mixer(1), Intervention((Mixer(0), Mixer(2)))], progress=False)
    assert sorted(run.interventions["name"].values) == ["L0.mixer+L2.mixer", "L1.mixer"]


def test_what_needs_heads_says_so(mamba):
    with pytest.raises(SelfRepairError, match="L0H0"):
        measure(mamba, corpus(), heads="L0H0", progress=False)
    with pytest.raises(SelfRepairError, match="single head"):
        measure(mamba, corpus(), positions="own", progress=False)


def test_pages_and_check_name_mixers(mamba, measured, tmp_path):
    write_report([measured[0]], tmp_path / "report.html")
    assert "L2.mixer" in (tmp_path / "report.html").read_text()
    assert "no heads" in _parts(mamba) and "layer 2: backbone.layers.2.mixer" in _parts(mamba)
    assert "MLP writes" in _parts(load(build("jetmoe"))) and all(proof.holds for proof in prove(mamba))


def test_kinship_goes_by_the_mixers_weights(mamba):
    sample = weights_sample(mamba.anatomy)
    assert len(sample) >= ENTRIES and sample == weights_sample(load(build("mamba")).anatomy)


def test_heads_that_only_a_mixer_reads_are_none():
    """Zamba's attention writes into what the state space reads, never into the stream."""
    anatomy = load(build("zamba")).anatomy
    assert not anatomy.heads and all(block.has_mixer and not block.mlps for block in anatomy.blocks)
    assert [type(block.module).__name__ for block in anatomy.blocks][1::2] == ["ZambaHybridLayer"] * 2

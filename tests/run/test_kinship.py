"""Heads of two models are subtracted one by one only where they are the same heads."""

from __future__ import annotations

import copy

import pytest
import torch

from loading.fixtures import selfrepair as selfrepair
from selfrepair import compare, load, measure
from selfrepair.model.kinship import unrelated, weights_sample
from selfrepair.report.page.differences import page_differences
from selfrepair.results.run_folder import load_run
from support import corpus
from zoo import families


def model_facts(network, **changed):
    loaded = load(network)
    shape = {"layers": loaded.anatomy.layers, "heads": loaded.anatomy.heads}
    return (
        shape | {"weights": loaded.digest, "weights_sample": weights_sample(loaded.anatomy), "source": None} | changed
    )


def fine_tuned(network, amount=0.2):
    tuned, noise = copy.deepcopy(network), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += amount * weight.std() * torch.randn(weight.shape, generator=noise).to(weight)
    return tuned


def quantised(network, levels=7):
    rounded = copy.deepcopy(network)
    with torch.no_grad():
        for weight in rounded.parameters():
            step = weight.abs().max() / levels
            weight.copy_((weight / step).round() * step)
    return rounded


def trained_apart(network, seed=7):
    other, draws = copy.deepcopy(network), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in other.parameters():
            weight.copy_(weight.flatten()[torch.randperm(weight.numel(), generator=draws)].reshape(weight.shape))
    return other


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("version", [copy.deepcopy, fine_tuned, quantised])
def test_versions_of_a_model_have_the_same_heads(name, version):
    network = families.build(name)
    assert unrelated(model_facts(network), model_facts(version(network))) == ""


@pytest.mark.parametrize("name", ["llama", "gpt2"])
@pytest.mark.parametrize("seed", range(3))
def test_models_that_were_trained_apart_have_not(name, seed):
    network = families.build(name)
    assert "trained apart" in unrelated(model_facts(network), model_facts(trained_apart(network, seed)))


def test_revisions_of_one_model_are_versions_whatever_their_weights():
    network = families.build("llama")
    first, last = ({"model": "EleutherAI/some", "revision": step} for step in ("step1000", "step143000"))
    early, late = model_facts(network, source=first), model_facts(trained_apart(network), source=last)
    assert unrelated(early, late) == ""
    assert unrelated(early, late | {"source": {"model": "somebody/else", "revision": "step143000"}})


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    network = families.build("llama")
    made = {}
    for name, version in (("base", copy.deepcopy), ("tuned", fine_tuned), ("other", trained_apart)):
        made[name] = tmp_path_factory.mktemp("runs") / name
        settings = {"filters": ["all"], "replicates": 8, "heads": [(1, 0), (2, 1)], "progress": False}
        measure(load(version(network)), corpus(), **settings, out=made[name])
    return made


def test_compare_subtracts_heads_of_versions_alone(folders):
    tuned, other = (compare(folders["base"], folders[name], "all") for name in ("tuned", "other"))
    assert tuned.heads is not None and tuned.unrelated == ""
    assert other.heads is None and "trained apart" in other.unrelated
    assert float(other.change.low) <= float(other.change.value)  # what is pooled is compared all the same
    assert compare(folders["base"], folders["other"], "all", same_heads=True).heads is not None


def test_so_do_the_page_and_the_command(folders, selfrepair):
    for name, subtracted in (("tuned", True), ("other", False)):
        places = [folders["base"], folders[name]]
        for found in (
            page_differences([*map(load_run, places)], places),
            page_differences([*map(load_run, places)], [None] * 2),
        ):
            assert bool(found[0]["heads"]) == subtracted and found[0]["pooled"]
        told = selfrepair("compare", *places, "--filter", "all", "--number", "self_repair")
        assert told.code == 0 and ("Heads that differ most" in told.out) == subtracted
        assert ("--same-heads subtracts them" in " ".join(told.out.split())) != subtracted
    again = selfrepair("compare", *places, "--filter", "all", "--number", "self_repair", "--same-heads")
    assert "Heads that differ most" in again.out

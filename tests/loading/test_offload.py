"""Weights on disk: the same model, the same numbers, and memory for a block or two."""

import errno
import re
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from loading import tiny_models
from selfrepair import SelfRepairError, load, measure
from selfrepair.ablation.sites import Head, all_heads
from selfrepair.engine import DeltaEngine, ReplayEngine, choice
from selfrepair.engine.trial import RunSize
from selfrepair.model import offload
from support import TOKENS, corpus, gap, sweep
from zoo import families


@pytest.fixture(autouse=True)
def scratch(tmp_path, monkeypatch):
    """Scratch files go where the test is."""
    monkeypatch.setenv("SELFREPAIR_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "offload"


@pytest.fixture(scope="session")
def halved(tmp_path_factory):
    """By name of a zoo model: its folder, with weights in bfloat16."""
    root = tmp_path_factory.mktemp("halved")

    def folder(name: str) -> Path:
        return tiny_models.save_network(families.build(name).bfloat16(), root / name)

    return folder


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    """Blocks of 4 MB, embeddings of 0.1 MB."""
    folder = tmp_path_factory.mktemp("large")
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=97, hidden_size=256, intermediate_size=1024, num_hidden_layers=8, num_attention_heads=4
    )
    return tiny_models.save_network(LlamaForCausalLM(config), folder)


@pytest.mark.parametrize("name", families.FAMILIES)
def test_it_is_the_same_model(saved, name):
    whole, offloaded = load(saved(name)), load(saved(name), offload=True)
    assert offloaded.offloaded and not whole.offloaded
    assert offloaded.digest == whole.digest
    with whole.running():
        assert torch.equal(offloaded.logits(TOKENS), whole.logits(TOKENS))


@pytest.mark.parametrize("name", ["gpt2", "gemma3", "gpt_neox_parallel", "qwen2_moe", "bloom"])
def test_weights_are_widened_on_their_way_to_disk(halved, name):
    """... and what is no weight (Gemma's embedding scale, rotary tables) never was narrow."""
    folder = halved(name)
    whole, offloaded = load(folder), load(folder, offload=True)
    assert {weight.dtype for weight in offloaded.network.parameters()} == {torch.float32}
    for (one, buffer), (other, kept) in zip(
        whole.network.named_buffers(), offloaded.network.named_buffers(), strict=True
    ):
        assert one == other and torch.equal(buffer, kept)
    with whole.running():
        assert torch.equal(offloaded.logits(TOKENS), whole.logits(TOKENS))


@pytest.mark.parametrize("engine", [DeltaEngine, ReplayEngine])
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_effects_are_the_same(saved, name, engine):
    whole, offloaded = load(saved(name)), load(saved(name), offload=True)
    ours, theirs = (sweep(engine(fold=2), model, "resample", None) for model in (offloaded, whole))
    assert all(gap(ours[unit], theirs[unit]) == 0 for unit in theirs)


def test_weights_at_low_precision_do_not_pile_up(large):
    model = load(large, offload=True)
    engine = DeltaEngine("int8")
    sweep(engine, model, "resample", [Head(0, 0), Head(5, 1)])
    assert not any(weights._prepared for weights in engine._weights.values())


def resident(model) -> int:
    """Bytes of the scratch file that are mapped to memory now."""
    start = min(weight.data_ptr() for weight in model.network.parameters())
    size = 0
    for mapping in re.split(r"\n(?=[0-9a-f]+-[0-9a-f]+ )", Path("/proc/self/smaps").read_text()):
        low, high = (int(address, 16) for address in re.match(r"([0-9a-f]+)-([0-9a-f]+)", mapping).groups())
        if low <= start < high:
            size += 1024 * int(re.search(r"Rss:\s+(\d+)", mapping)[1])
    return size


@pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="only Linux says what is in memory")
def test_only_a_block_or_two_are_in_memory(large, monkeypatch):
    model = load(large, offload=True)
    block = sum(weight.nbytes for weight in model.anatomy.blocks[0].module.parameters())
    total = sum(weight.nbytes for weight in model.network.parameters())
    most = []
    for layer in model.anatomy.blocks:
        layer.module.register_forward_hook(lambda *_: most.append(resident(model)))
    sweep(DeltaEngine(fold=4), model, "resample", all_heads(model.anatomy)[::5])
    assert len(most) > 16 and max(most) > 0.9 * block
    assert max(most) < 2.3 * block < 0.4 * total
    monkeypatch.setattr(offload.Offload, "_advise", lambda *_: None)  # the check can fail
    sweep(DeltaEngine(fold=4), model, "resample", [Head(0, 0)])
    assert most[-1] > 0.9 * total


def test_a_run_says_how_to_load_the_model_again(saved):
    model = load(saved("llama"), offload=True)
    windows = corpus(lengths=(9,) * 7, documents=range(7))
    run = measure(model, windows, batch=3, replicates=10, progress=False)
    assert run.plan["model"]["source"]["offload"] is True
    again = load(**run.plan["model"]["source"])
    assert again.offloaded and again.digest == model.digest


def test_blocks_are_read_once_for_all_runs(saved):
    """A replay would read all blocks above again for every chunk of heads, so little work is no reason for one."""
    model = load(saved("llama"), offload=True)
    with model.running():
        chosen = choice.choose(model, TOKENS, all_heads(model.anatomy), RunSize(1.0, 1.0))
    assert chosen.engine.name == "delta" and "read once" in chosen.reason


def test_nothing_stays_on_disk(saved, scratch):
    load(saved("llama"), offload=True)
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize("where", ["disk_usage", "posix_fallocate"])
def test_a_full_disk_is_a_message(saved, monkeypatch, where):
    if where == "disk_usage":
        usage = offload.shutil.disk_usage("/")._replace(free=10)
        monkeypatch.setattr(offload.shutil, "disk_usage", lambda _: usage)
    else:
        full = OSError(errno.ENOSPC, "No space left on device")
        monkeypatch.setattr(offload.os, "posix_fallocate", lambda *_: (_ for _ in ()).throw(full))
    with pytest.raises(SelfRepairError, match=r"no room for(.|\n)*SELFREPAIR_CACHE"):
        load(saved("llama"), offload=True)


def test_what_cannot_be_offloaded(saved):
    with pytest.raises(SelfRepairError, match="loaded by name"):
        load(families.build("llama"), offload=True)
    with pytest.raises(SelfRepairError, match=r"the device is 'cuda'(.|\n)*--offload"):
        load(saved("llama"), offload=True, device="cuda")


def test_from_the_command_line(saved, selfrepair, tmp_path):
    done = selfrepair("run", saved("gpt2"), "--offload", "--tokens", 120, "--length", 24, "--no-plots", "--no-page",
                      "--out", tmp_path / "run")  # fmt: skip
    assert done.code == 0, done.err
    assert selfrepair("check", saved("gpt2"), "--offload").code == 0

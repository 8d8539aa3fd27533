"""Models as users name them: objects, folders, precisions, devices, revisions."""

import json
from pathlib import Path

import pytest
import torch

from loading import tiny_models
from selfrepair import LanguageModel, SelfRepairError, load
from selfrepair.model import load as loading
from zoo import families


def test_an_object_in_memory_with_its_tokenizer():
    network, tokenizer = families.build("llama"), tiny_models.tokenizer()
    model = load(network, tokenizer)
    assert isinstance(model, LanguageModel)
    assert model.network is network and model.tokenizer is tokenizer
    assert "3 layers x 4 heads, float32" in repr(model)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["gpt2", "gemma2"])
def test_an_object_of_half_precision_is_refused_with_the_way_out(name, dtype):
    network = families.build(name).to(dtype)
    with pytest.raises(SelfRepairError, match=rf"weights are {str(dtype)[6:]}.*\n.*model\.float\(\)"):
        load(network)
    load(network.float())


def test_an_object_that_is_training_is_put_in_eval_mode():
    assert not load(families.build("gpt2").train()).network.training


@pytest.mark.parametrize("name", ["llama", "gpt2", "qwen2_moe"])
def test_a_folder_gives_the_weights_that_were_saved(saved, name):
    original, model = families.build(name), load(saved(name))
    assert model.name == name and model.tokenizer.bos_token == "<s>"
    tokens = families.tokens()
    with torch.no_grad():
        torch.testing.assert_close(model.network(tokens).logits, original(tokens).logits)


def test_float64(llama):
    model = load(str(llama), dtype="float64")
    assert model.dtype == torch.float64
    assert {value.dtype for value in model.network.parameters()} == {torch.float64}


@pytest.mark.parametrize("dtype", ["float16", "double", ""])
def test_unknown_dtypes_are_refused(llama, dtype):
    with pytest.raises(SelfRepairError, match="float32, float64"):
        load(llama, dtype=dtype)


@pytest.mark.parametrize("device", ["bogus", "cuda:99"])
def test_devices_that_are_not_there_are_refused(llama, device):
    with pytest.raises(SelfRepairError, match=f"device '{device}'.*\nTry --device cpu"):
        load(llama, device=device)


def test_the_attention_implementation_is_passed_on(llama):
    assert load(llama, attention="eager").network.config._attn_implementation == "eager"


def test_a_revision_reaches_the_hub(monkeypatch):
    seen = []

    class Auto:
        @staticmethod
        def from_pretrained(place, **given):
            seen.append((place, given.get("revision"), given["trust_remote_code"]))
            raise OSError("no network in this test")

    monkeypatch.setattr("transformers.AutoTokenizer", Auto)
    with pytest.raises(SelfRepairError, match=r"owner/model.*no network in this test"):
        load("owner/model", revision="step3000")
    assert seen == [("owner/model", "step3000", False)]


def test_a_folder_has_no_revisions(llama):
    with pytest.raises(SelfRepairError, match="no revisions"):
        load(llama, revision="main")


def test_code_that_comes_with_a_model_is_never_run(llama, tmp_path):
    folder, trace = tiny_models.save("llama", tmp_path / "model"), tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "code.py").write_text(f"open({str(trace)!r}, 'w')\n")
    (folder / "config.json").write_text(json.dumps(config))
    load(folder)
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "unheard-of"}))
    with pytest.raises(SelfRepairError):
        load(folder)
    assert not trace.exists()


def test_trust_remote_code_is_off_wherever_it_is_named():
    source = Path(loading.__file__).parents[1]
    named = [line for path in source.rglob("*.py") for line in path.read_text().splitlines() if "trust_remote" in line]
    assert named and all("trust_remote_code=False" in line for line in named)


def test_the_digest_is_the_same_for_the_same_weights(llama):
    threads = torch.get_num_threads()
    first = load(llama).digest
    torch.set_num_threads(threads % 2 + 1)
    try:
        assert load(llama).digest == first == loading.weights_digest(families.build("llama"))
    finally:
        torch.set_num_threads(threads)


def test_the_digest_changes_with_every_tensor():
    network = families.build("gpt2")
    seen = {loading.weights_digest(network)}
    for number, value in enumerate(network.state_dict().values()):
        flat = value.view(-1)
        index = number % flat.numel()
        before = flat[index].clone()
        flat[index] = torch.nextafter(before, torch.tensor(torch.inf))  # the smallest change there is
        seen.add(loading.weights_digest(network))
        flat[index] = before
    assert len(seen) == 1 + len(network.state_dict())


def test_the_digest_changes_when_weights_change_places():
    network = families.build("gpt2")
    first = loading.weights_digest(network)
    wide = network.transformer.h[1].mlp.c_fc.weight.data.view(-1)
    wide[[701, 1203]] = wide[[1203, 701]]
    assert loading.weights_digest(network) != first

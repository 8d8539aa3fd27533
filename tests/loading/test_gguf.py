"""GGUF files."""

import importlib.util

import pytest
import torch
import transformers as hf

from loading import tiny_models
from selfrepair import SelfRepairError, load
from zoo import families


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    pytest.importorskip("gguf")
    return tiny_models.write_gguf(families.build("llama"), tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_a_gguf_file_gives_the_weights_that_were_written(file):
    model, original = load(file), families.build("llama")
    assert model.name == "tiny" and model.dtype == torch.float32
    tokens = families.tokens()
    with torch.no_grad():
        torch.testing.assert_close(model.network(tokens).logits, original(tokens).logits)
    assert model.tokenizer("ab")["input_ids"][-1] == families.VOCAB - 1


KINDS = (
    *("F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S", "IQ1_M"),
    *("IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4"),
)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_numbers_is_what_ggml_reads_in_it(kind, tmp_path):
    pytest.importorskip("gguf")
    torch.manual_seed(2)
    sizes = {"hidden_size": 256, "intermediate_size": 256, "num_attention_heads": 4, "num_key_value_heads": 2}
    more = {"head_dim": 64, "vocab_size": families.VOCAB, "num_hidden_layers": 1, "max_position_embeddings": 64}
    network = hf.LlamaForCausalLM(hf.LlamaConfig(**sizes, **more))
    model = load(tiny_models.write_gguf(network, tmp_path / "model.gguf", kind))
    for name, value in network.state_dict().items():
        assert torch.equal(model.network.state_dict()[name], value), name
    done = "measured in" if kind.endswith("F16") else "dequantised to"
    assert model.weights == f"GGUF {kind} and F32 on file, {done} float32"


def test_float64(file):
    assert load(file, dtype="float64").dtype == torch.float64


def test_one_of_them_can_be_saved_and_loaded_again(file, tmp_path):
    model = load(file)
    model.network.save_pretrained(tmp_path)
    model.tokenizer.save_pretrained(tmp_path)
    assert load(tmp_path).digest == model.digest


def test_without_the_package_the_message_names_it(file, monkeypatch):
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "gguf" else find_spec(name, *rest)
    )
    with pytest.raises(SelfRepairError, match=r"'gguf', which is not installed(.|\n)*pip install 'selfrepair\[gguf\]'"):
        load(file)


@pytest.mark.parametrize("content", [b"", b"GGUF" + b"\x01" * 300, b"no such thing" * 50])
def test_a_garbled_file_is_named(content, tmp_path):
    pytest.importorskip("gguf")
    (tmp_path / "bad.gguf").write_bytes(content)
    with pytest.raises(SelfRepairError, match=r"bad\.gguf' could not be loaded.*\n.*take it again"):
        load(tmp_path / "bad.gguf")


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(SelfRepairError, match=r"no file .*none\.gguf"):
        load(tmp_path / "none.gguf")

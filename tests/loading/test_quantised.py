"""Quantised checkpoints: dequantised as they are read, or refused with what to give instead."""

import json

import pytest
import torch
import transformers as hf
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from loading import quantised, tiny_models
from selfrepair import SelfRepairError, load
from zoo import families

COMPRESSED = {"quant_method": "compressed-tensors", "format": "of its own"}
CHECKPOINTS = {
    "gptq": (quantised.gptq(4), {"quant_method": "gptq", "bits": 4, "group_size": 32}),
    "gptq, 8 bits": (quantised.gptq(8), {"quant_method": "gptq", "bits": 8, "group_size": 32}),
    "gptq, 2 bits, any order": (quantised.gptq(2, False), {"quant_method": "gptq", "bits": 2, "desc_act": True}),
    "gptq_v2": (quantised.gptq(4, v2=True), {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"}),
    "awq": (quantised.awq, {"quant_method": "awq", "bits": 4, "group_size": 32, "version": "gemm"}),
    "fp8": (quantised.fp8((32, 32)), {"quant_method": "fp8", "weight_block_size": [32, 32]}),
    "fp8, ragged blocks": (quantised.fp8((40, 40)), {"quant_method": "fp8", "weight_block_size": [40, 40]}),
    "fp8, one block": (quantised.fp8((128, 128)), {"quant_method": "fp8", "weight_block_size": [128, 128]}),
    "fbgemm": (
        quantised.scaled_rows(torch.float8_e4m3fn, ".weight_scale"),
        {"quant_method": "fbgemm_fp8", "activation_scale_ub": 1200.0},
    ),
    "float-quantized": (quantised.scaled_rows(torch.float8_e4m3fn, ".weight_scale"), COMPRESSED),
    "int-quantized": (quantised.scaled_rows(torch.int8, ".weight_scale"), COMPRESSED),
    "pack-quantized": (quantised.packed(4, False), COMPRESSED),
    "pack-quantized, 8 bits": (quantised.packed(8, False), COMPRESSED),
    "pack-quantized, zeros": (quantised.packed(4, True), COMPRESSED),
    "nvfp4-pack-quantized": (quantised.nvfp4, COMPRESSED),
    "bitsandbytes int8": (quantised.int8_rows, {"quant_method": "bitsandbytes", "load_in_8bit": True}),
    "nf4": (quantised.nf4(False), {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}),
    "nf4 twice": (quantised.nf4(True), {"load_in_4bit": True, "bnb_4bit_use_double_quant": True}),
}


@pytest.mark.parametrize("what", CHECKPOINTS)
def test_weights_are_what_the_format_says(what, tmp_path):
    quantise, settings = CHECKPOINTS[what]
    network = quantised.llama()
    loaded = load(quantised.checkpoint(network, quantise, settings, tmp_path))
    for (name, value), (_, found) in zip(
        network.state_dict().items(), loaded.network.state_dict().items(), strict=True
    ):
        torch.testing.assert_close(found, value, rtol=2e-6, atol=1e-9, msg=lambda text, name=name: f"{name}: {text}")
    assert loaded.weights.endswith("on file, dequantised to float32")
    assert loaded.weights.startswith(settings.get("quant_method", "bitsandbytes"))


def test_experts_and_scales_of_their_own(tmp_path):
    """Experts lie one by one in the file, and together in the model."""
    network = families.build("qwen2_moe")
    tiny_models.save_network(network, tmp_path)
    file = tmp_path / "model.safetensors"
    stored, seen = {}, []
    for name, value in load_file(file).items():
        if ".experts." in name:
            parts, dense = quantised.fp8((16, 16))(value)
            stored |= {name.removesuffix(".weight") + end: part for end, part in parts.items()}
            seen.append((name, dense))
        else:
            stored[name] = value
    save_file(dict(seen) | {n: v for n, v in stored.items() if ".experts." not in n}, file)
    expected = load(tmp_path).digest
    config = json.loads((tmp_path / "config.json").read_text())
    settings = {"quant_method": "fp8", "weight_block_size": [16, 16]}
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": settings}))
    save_file(stored, file, {"format": "pt"})
    assert len(seen) > 10 and load(tmp_path).digest == expected


def gpt_oss():
    torch.manual_seed(5)
    sizes = {"hidden_size": 64, "intermediate_size": 32, "num_attention_heads": 4, "num_key_value_heads": 2}
    more = {"head_dim": 16, "vocab_size": 97, "num_hidden_layers": 2, "num_local_experts": 3, "num_experts_per_tok": 2}
    return hf.GptOssForCausalLM(hf.GptOssConfig(**sizes, **more, max_position_embeddings=64)).float().eval()


def test_experts_of_gpt_oss(tmp_path):
    network = gpt_oss()
    tiny_models.save_network(network, tmp_path)
    stored = {}
    for name, value in network.state_dict().items():
        if name.endswith(("gate_up_proj", "down_proj")):
            parts, dense = quantised.mxfp4(value)
            value.copy_(dense)
            stored |= {name + end: part.contiguous() for end, part in parts.items()}
        else:
            stored[name] = value
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"quantization_config": {"quant_method": "mxfp4"}}))
    save_file(stored, tmp_path / "model.safetensors", {"format": "pt"})
    loaded = load(tmp_path)
    assert loaded.weights == "mxfp4 on file, dequantised to float32"
    for name, value in network.state_dict().items():
        assert torch.equal(loaded.network.state_dict()[name], value), name


@pytest.mark.parametrize("what", ["fp8", "mxfp4"])
def test_transformers_own_dequantisation_gives_the_same(what, tmp_path):
    if what == "fp8":
        from transformers import FineGrainedFP8Config

        settings = {"quant_method": "fp8", "weight_block_size": [16, 16]}  # of other blocks than whole ones it is wrong
        folder = quantised.checkpoint(quantised.llama(), quantised.fp8((16, 16)), settings, tmp_path)
        theirs = hf.AutoModelForCausalLM.from_pretrained(
            folder, dtype=torch.float32, quantization_config=FineGrainedFP8Config(dequantize=True)
        )
        for name, value in load(folder).network.state_dict().items():
            torch.testing.assert_close(theirs.state_dict()[name], value, rtol=1e-6, atol=0)
    else:
        from transformers.integrations.mxfp4 import convert_moe_packed_tensors

        parts, dense = quantised.mxfp4(gpt_oss().model.layers[0].mlp.experts.gate_up_proj.detach())
        theirs = convert_moe_packed_tensors(parts["_blocks"], parts["_scales"], dtype=torch.float32)
        assert torch.equal(theirs, dense)


OTHERS = {
    "hqq": ({"quant_method": "hqq"}, ["quantised (hqq)", "only awq, bitsandbytes", "quantised from"]),
    "gptq of 3 bits": ({"quant_method": "gptq", "bits": 3}, ["not 3 bits in gptq"]),
    "marlin": ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, ["4 bits in marlin"]),
    "awq for vectors": ({"quant_method": "awq", "bits": 4, "version": "gemv"}, ["not 4 bits in gemv"]),
    "sparse": (COMPRESSED | {"sparsity_config": {"format": "sparse-24-bitmask"}}, ["without their zeros"]),
    "rotated": (COMPRESSED | {"transform_config": {"config_groups": {"u": {}}}}, ["rotated"]),
    "bitnet": ({"quant_method": "bitnet"}, ["activations of 8 bits"]),
    "higgs": ({"quant_method": "higgs"}, [".dequantize().save_pretrained(folder)"]),
}


@pytest.mark.parametrize("what", OTHERS)
def test_others_are_refused_with_what_to_give(what, tmp_path):
    settings, said = OTHERS[what]
    folder = quantised.checkpoint(quantised.llama(), quantised.awq, settings, tmp_path)
    with pytest.raises(SelfRepairError) as refused:
        load(folder)
    assert not [words for words in said if words not in str(refused.value)], str(refused.value)


@pytest.mark.parametrize("settings", [None, {"quant_method": "fp8"}])
def test_small_numbers_without_their_scales_are_not_taken_for_weights(settings, tmp_path):
    folder = quantised.checkpoint(quantised.llama(), quantised.fp8((32, 32)), settings, tmp_path)
    with safe_open(folder / "model.safetensors", "pt") as file:
        left = {name: file.get_tensor(name) for name in file.keys() if not name.endswith("_inv")}  # noqa: SIM118
    save_file(left, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(SelfRepairError, match=r"stored as F8_E4M3 in model\.safetensors, without the scales"):
        load(folder)


def test_scales_for_another_number_of_blocks(tmp_path):
    settings = {"quant_method": "fp8", "weight_block_size": [32, 32]}
    folder = quantised.checkpoint(quantised.llama(), quantised.fp8((13, 13)), settings, tmp_path)
    with pytest.raises(SelfRepairError, match=r"could not be loaded.*5 scales along a dimension of 64 numbers"):
        load(folder)

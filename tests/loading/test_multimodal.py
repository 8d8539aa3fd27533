"""Classes that read images too, measured on text alone: as objects, and by the folder that they were saved in.

The truth is the whole class's own forward of token ids, before it was saved.
"""

import copy
import json

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from census.forwards import Part, effects, texts
from census.small import build
from loading import tiny_models
from selfrepair import Head, RefusedModel, ReplayEngine, SelfRepairError, each, load
from selfrepair.engine.clean import clean_run, head_outputs

NAMES = (
    *("gemma3", "gemma4", "llama4", "mistral3", "qwen2_vl", "qwen2_5_vl", "qwen3_vl", "internvl", "idefics2"),
    *("idefics3", "smolvlm", "llava", "llava_next", "qwen3_5"),
)


def whole(name):
    """A small random model of the whole class, float32."""
    return build(name if name in ("gemma3", "gemma4") else f"image+text {name}").float()


def written(network, folder, dtype=torch.float32):
    """A copy of it at that precision, as `save_pretrained` writes it; its own weights are rounded to it."""
    copy.deepcopy(network).to(dtype).save_pretrained(folder)
    with torch.no_grad():
        for value in network.state_dict().values():
            value.copy_(value.to(dtype))
    tiny_models.tokenizer().save_pretrained(folder)
    return folder


def logits(network):
    with torch.no_grad():
        return network(texts()[0], use_cache=False).logits


@pytest.fixture(scope="module", params=NAMES)
def given(request):
    network = whole(request.param)
    try:
        logits(network)
    except AttributeError as problem:  # Llama 4 of transformers 5.24 asks text alone for its images
        pytest.skip(f"the whole class does not run on text alone: {problem}")
    return network


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_folder_gives_what_the_whole_class_computes_of_text(given, dtype, tmp_path):
    folder = written(given, tmp_path, dtype)
    loaded = load(folder)
    assert type(loaded.network) is type(given)
    torch.testing.assert_close(logits(loaded.network), logits(given), rtol=0, atol=0)
    assert loaded.digest == load(given).digest
    assert {value.dtype for value in loaded.network.parameters()} == {torch.float32}
    name = str(dtype).removeprefix("torch.")
    assert loaded.weights == f"{name} on file" + ("" if name == "float32" else ", measured in float32")


def test_effects_are_those_of_the_whole_class(given, tmp_path):
    model = load(written(given, tmp_path), dtype="float64")
    blocks = model.anatomy.blocks
    names = {module: name for name, module in model.network.named_modules()}
    places = {Head(layer, 1): (names[b.projection], b.heads) for layer, b in enumerate(blocks) if b.heads}
    double = given.double()
    parts = [Part(double.get_submodule(name), 1, heads, is_input=True) for name, heads in places.values()]
    truth = dict(zip(places, effects(double, parts), strict=True))
    given.float()
    tokens, donors = texts()
    with model.running():
        outputs, found = head_outputs(model, donors), {}
        clean, heads = clean_run(model, tokens), each(truth)
        for ledger in ReplayEngine(fold=2).sweep(model, clean, heads, lambda port: outputs[port.layer], False):
            for row, intervention in enumerate(ledger.interventions):
                found[intervention.replaced[0]] = ledger.total_effect[row]
    size = max(float(value.abs().max()) for value in truth.values())
    assert size > 0.01 and set(found) == set(truth)
    error = max(float((found[head] - value).abs().max()) for head, value in truth.items())
    assert error < 1e-7 * size  # scales of embeddings were rounded to float32 in the object


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "gemma3"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_weights_under_the_names_of_other_versions(name, dtype, tmp_path):
    """Versions of transformers named the parts of these classes differently; files of each are around."""
    network = whole(name)
    folder = written(network, tmp_path, dtype)
    expected = logits(network)
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as content:
        as_written = set(content.keys())
    own = {key: value.to(dtype).clone() for key, value in network.state_dict().items() if key != "lm_head.weight"}
    if not network.config.tie_word_embeddings:
        own["lm_head.weight"] = network.lm_head.weight.to(dtype).clone()
    assert set(own) != as_written, "both ways of naming weights are tried"
    save_file(own, file, {"format": "pt"})
    assert torch.equal(logits(load(folder).network), expected)


def test_the_class_for_text_alone_is_taken_where_the_configuration_names_it(tmp_path):
    import transformers as hf

    network = hf.Qwen3_5ForCausalLM(whole("qwen3_5").config.get_text_config())
    assert type(load(written(network, tmp_path)).network) is hf.Qwen3_5ForCausalLM


def test_a_weight_that_is_missing_is_named(tmp_path):
    folder = written(whole("llava"), tmp_path)
    (file,) = folder.glob("*.safetensors")
    with safe_open(file, "pt") as content:
        weights = {key: content.get_tensor(key) for key in content.keys()}  # noqa: SIM118
    del weights[next(key for key in weights if key.endswith("layers.1.self_attn.o_proj.weight"))]
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(SelfRepairError, match=r"layers\.1\.self_attn\.o_proj\.weight"):
        load(folder)


@pytest.mark.parametrize(("name", "said"), [("paligemma", "causality"), ("mllama", "blocks")])
def test_those_that_are_refused_name_why(name, said, tmp_path):
    with pytest.raises(RefusedModel) as refused:
        load(written(whole(name), tmp_path))
    assert refused.value.identity == said


def test_an_encoder_decoder_is_refused_by_name_too(tmp_path):
    folder = written(whole("llava"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"is_encoder_decoder": True}))
    with pytest.raises(SelfRepairError, match="encoder-decoder"):
        load(folder)

"""Model objects as users hold them: compiled in part, offloaded, wrapped, quantised, with adapters. Measured, or
refused in words that say what to give instead."""

import copy
import functools
import json
from pathlib import Path

import pytest
import torch
import transformers as hf
from torch import nn

from loading import tiny_models
from model.plain_effects import largest_error, llama
from selfrepair import RefusedModel, SelfRepairError, load
from selfrepair.engine import ReplayEngine

compiled = functools.partial(torch.compile, backend="eager")


def each_layer(change):
    def apply(network):
        for layer in network.model.layers:
            change(layer)
        return network

    return apply


def listed(network):
    network.model.layers = nn.ModuleList([compiled(layer) for layer in network.model.layers])
    return network


def with_forward(module):
    module.forward = compiled(module.forward)


def with_compiled(name):
    return each_layer(lambda layer: setattr(layer, name, compiled(getattr(layer, name))))


COMPILED = {
    "the model": compiled,
    "the model in place": lambda network: (network.compile(backend="eager"), network)[1],
    "the model's forward": lambda network: (with_forward(network), network)[1],
    "layers in place": each_layer(lambda layer: layer.compile(backend="eager")),
    "attention in place": each_layer(lambda layer: layer.self_attn.compile(backend="eager")),
    "layers' forward": each_layer(with_forward),
    "attention's forward": each_layer(lambda layer: with_forward(layer.self_attn)),
    "layers in a list": listed,
    "MLPs": with_compiled("mlp"),
    "attention": with_compiled("self_attn"),
    "the trunk, its layers too": lambda network: (setattr(listed(network), "model", compiled(network.model)), network)[
        1
    ],
}


@pytest.mark.parametrize("what", COMPILED)
def test_compiled_parts_are_measured_on_their_eager_code(what):
    plain = llama()
    given = COMPILED[what](llama())
    before = [(name, set(vars(module))) for name, module in given.named_modules()]
    loaded = load(given)
    assert loaded.digest == load(plain).digest and loaded.name == load(plain).name
    assert largest_error(loaded, ReplayEngine(fold=2), plain) < 1e-5
    shared = {value.data_ptr() for value in given.parameters()}
    assert {value.data_ptr() for value in loaded.network.parameters()} == shared
    assert [(name, set(vars(module))) for name, module in given.named_modules()] == before


def test_a_model_without_compiled_parts_is_not_copied():
    network = llama()
    assert load(network).network is network


def test_a_wrapper_around_a_compiled_forward_stays():
    """`functools.wraps` copies the mark of a compiled function; what the wrapper itself does must not be left out."""
    network = llama()
    for layer in network.model.layers:
        inner = compiled(layer.mlp.forward)

        @functools.wraps(inner)
        def doubled(hidden, inner=inner):
            return 2 * inner(hidden)

        layer.mlp.forward = doubled
    with pytest.raises(RefusedModel, match="keeps hold of the modules") as refused:
        load(network)
    assert "Load the model before it is compiled" in refused.value.fix


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_patched_forward_does_not_run_the_original_in_the_copies_that_are_studied(dtype):
    network = llama().to(getattr(torch, dtype))
    for layer in network.model.layers:
        inner = layer.self_attn.forward
        layer.self_attn.forward = lambda *args, inner=inner, **kwargs: inner(*args, **kwargs)
    with pytest.raises(RefusedModel, match="'forward' of 'self_attn' was replaced"):
        load(network)


@pytest.mark.parametrize("name", ["llama", "gpt2", "gptj"])
def test_models_that_return_tuples(name):
    from zoo import families

    network = copy.deepcopy(families.build(name))
    network.config.return_dict = False
    loaded = load(network)
    assert network.config.return_dict is False, "the user's object stays as it is"
    assert largest_error(loaded, ReplayEngine(fold=2), families.build(name)) < 1e-5


def test_a_folder_whose_configuration_asks_for_tuples(tmp_path):
    folder = tiny_models.save("llama", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"return_dict": False}))
    assert load(folder).digest == load(llama()).digest


# -------------------------------------------------------------------------------------------------- refused, in words


class ValueHead(nn.Module):
    """As in trl: a scalar head beside a language model."""

    def __init__(self, model):
        super().__init__()
        self.pretrained_model, self.config, self.v_head = model, model.config, nn.Linear(40, 1)

    def forward(self, *args, **kwargs):
        return self.pretrained_model(*args, **kwargs)


class HookedTransformer(nn.Module):
    """As in TransformerLens: a model with weights of its own layout and no Hugging Face interface."""

    def __init__(self):
        super().__init__()
        self.cfg, self.W_E = {"n_layers": 2}, nn.Parameter(torch.zeros(97, 40))


class Pipeline:
    """As in transformers: holds a model and its tokenizer."""

    def __init__(self):
        self.model, self.tokenizer = llama(), tiny_models.tokenizer()


def t5():
    sizes = {"d_model": 40, "d_kv": 10, "d_ff": 52, "num_layers": 1, "num_heads": 4, "vocab_size": 97}
    return hf.T5ForConditionalGeneration(hf.T5Config(**sizes))


WRONG = {
    "data parallel": (lambda: nn.DataParallel(llama()), ["DataParallel", "model.module."]),
    "a value head": (lambda: ValueHead(llama()), ["ValueHead", "model.pretrained_model."]),
    "wrapped twice": (lambda: nn.DataParallel(ValueHead(llama())), ["model.module.pretrained_model."]),
    "TransformerLens": (HookedTransformer, ["HookedTransformer is not a Hugging Face", "LlamaForCausalLM"]),
    "a plain module": (lambda: nn.Linear(3, 3), ["Linear is not a Hugging Face", "LlamaForCausalLM"]),
    "a scripted module": (lambda: torch.jit.script(nn.Linear(3, 3)), ["TorchScript"]),
    "an encoder-decoder": (t5, ["T5ForConditionalGeneration", "encoder-decoder", "BartForCausalLM"]),
    "no head": (lambda: llama().model, ["no unembedding", "language-modelling head"]),
    "a pipeline": (Pipeline, ["got Pipeline", "load(it.model, it.tokenizer)"]),
    "a tokenizer": (tiny_models.tokenizer, ["second argument"]),
    "a class": (lambda: hf.LlamaForCausalLM, ["the class LlamaForCausalLM", "LlamaForCausalLM.from_pretrained"]),
    "nothing": (lambda: None, ["got NoneType"]),
    "a dictionary of weights": (lambda: llama().state_dict(), ["got OrderedDict"]),
    "a path to nothing": (lambda: Path("/no/such/folder"), ["neither a folder"]),
}


@pytest.mark.parametrize("what", WRONG)
def test_other_objects_are_refused_with_what_to_give(what):
    make, said = WRONG[what]
    with pytest.raises(SelfRepairError) as refused:
        load(make())
    assert not [words for words in said if words not in str(refused.value)], str(refused.value)


def on_meta(names):
    """Weights that accelerate has put elsewhere."""

    def apply(network):
        for name, value in list(network.named_parameters()):
            if names in name:
                owner, _, own = name.rpartition(".")
                setattr(network.get_submodule(owner), own, nn.Parameter(value.to("meta"), requires_grad=False))
        return network

    return apply


class Int8(nn.Linear):
    """As in bitsandbytes: a weight of whole numbers and a scale."""

    def __init__(self, linear):
        super().__init__(linear.in_features, linear.out_features, bias=False)
        self.weight = nn.Parameter((linear.weight * 50).to(torch.int8), requires_grad=False)

    def forward(self, x):
        return nn.functional.linear(x, self.weight.float() / 50)


class Packed(nn.Module):
    """As in GPTQ: no weight at all."""

    def __init__(self, linear):
        super().__init__()
        self.register_buffer("qweight", linear.weight.to(torch.int32))


@pytest.mark.filterwarnings("ignore")
def dynamic_int8(network):
    return torch.ao.quantization.quantize_dynamic(network, {nn.Linear}, dtype=torch.qint8)


WEIGHTS = {
    "all offloaded": (on_meta(""), ["not in memory", "offload=True", "--offload"]),
    "one layer offloaded": (on_meta("layers.1."), ["'model.layers.1.self_attn.q_proj.weight'", "--offload"]),
    "dynamic int8": (dynamic_int8, ["quantised (Linear)", "before quantisation"]),
    "bitsandbytes": (
        each_layer(lambda layer: setattr(layer.mlp, "up_proj", Int8(layer.mlp.up_proj))),
        ["'model.layers.0.mlp.up_proj' are quantised (Int8)"],
    ),
    "GPTQ": (
        each_layer(lambda layer: setattr(layer.mlp, "up_proj", Packed(layer.mlp.up_proj))),
        ["'model.layers.0.mlp.up_proj' are quantised (Packed)"],
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", WEIGHTS)
def test_weights_that_cannot_be_measured(what):
    change, said = WEIGHTS[what]
    with pytest.raises(SelfRepairError) as refused:
        load(change(llama()))
    assert not [words for words in said if words not in str(refused.value)], str(refused.value)


class Adapted(nn.Module):
    """As in PEFT: a linear map with a low-rank addition beside it."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        self.lora_A = nn.Linear(base_layer.in_features, 2, bias=False)
        self.lora_B = nn.Linear(2, base_layer.out_features, bias=False)

    @property
    def weight(self):
        return self.base_layer.weight

    @property
    def bias(self):
        return self.base_layer.bias

    def forward(self, x):
        return self.base_layer(x) + self.lora_B(self.lora_A(x))


def adapted(*names):
    def change(layer):
        for name in names:
            owner, _, own = name.rpartition(".")
            setattr(layer.get_submodule(owner), own, Adapted(layer.get_submodule(name)))

    return change


def test_adapters_on_the_output_projection_or_the_unembedding_are_to_be_merged():
    for network in (each_layer(adapted("self_attn.o_proj"))(llama()), llama()):
        if not any(isinstance(module, Adapted) for module in network.modules()):
            network.lm_head = Adapted(network.lm_head)
        with pytest.raises(RefusedModel, match=r"model\.merge_and_unload\(\)"):
            load(network)


def test_adapters_elsewhere_are_measured_as_they_are():
    network = each_layer(adapted("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj"))(llama())
    assert largest_error(load(network), ReplayEngine(fold=2), network) < 1e-5


def test_a_configuration_that_refuses_to_tell():
    """As transformers' own does where layers differ in what is asked for."""
    network = llama()
    asked = []

    class Reticent(type(network.config)):
        def __getattribute__(self, name):
            if asked and name in ("max_position_embeddings", "final_logit_softcapping", "num_attention_heads"):
                raise RuntimeError("layers differ")
            return super().__getattribute__(name)

    network.config.__class__ = Reticent
    asked.append(True)
    assert largest_error(load(network), ReplayEngine(fold=2), llama()) < 1e-5

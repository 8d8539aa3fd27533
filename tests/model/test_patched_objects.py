"""Model objects that are compiled by class, wrapped layer by layer, scripted in part, hooked, or of mixed precision."""

import copy
import functools

import pytest
import torch
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import checkpoint_wrapper
from transformers.models.llama import modeling_llama

from model.plain_effects import largest_error, llama
from selfrepair import RefusedModel, SelfRepairError, load, measure
from selfrepair.engine import DeltaEngine, ReplayEngine
from selfrepair.text import windows
from zoo import families

compiled = functools.partial(torch.compile, backend="eager")


@pytest.mark.parametrize(
    "part", ["LlamaDecoderLayer", "LlamaAttention", "LlamaMLP", "LlamaRMSNorm", "LlamaForCausalLM"]
)
def test_classes_whose_forward_is_compiled(part, monkeypatch):
    given, kind = llama(), getattr(modeling_llama, part)
    with monkeypatch.context() as patch:
        patch.setattr(kind, "forward", compiled(compiled(kind.forward)))
        loaded = load(given)
        assert loaded.network is not given and not [module for module in given.modules() if "forward" in vars(module)]
    assert largest_error(loaded, ReplayEngine(fold=2), llama()) < 1e-5


class PassingOn(nn.Module):
    """What every layer is put in: it hands all on."""

    def __init__(self, module):
        super().__init__()
        self.module = module

    def forward(self, *args, **kwargs):
        return self.module(*args, **kwargs)

    def __getattr__(self, name):
        return getattr(super().__getattr__("module"), name) if name != "module" else super().__getattr__(name)


@pytest.mark.parametrize("wrapper", [PassingOn, nn.DataParallel, checkpoint_wrapper])
@pytest.mark.parametrize("engine", [ReplayEngine, DeltaEngine])
def test_wrapped_layers_are_measured(wrapper, engine):
    def wrapped():
        network = llama()
        network.model.layers = nn.ModuleList([wrapper(layer) for layer in network.model.layers])
        return network

    plain = wrapped()  # the plain forwards need the same paths
    assert torch.equal(plain(torch.arange(5)[None]).logits, llama()(torch.arange(5)[None]).logits)
    assert largest_error(load(wrapped()), engine(), plain) < 1e-5


def test_weights_made_in_inference_mode():
    with torch.inference_mode():
        network = copy.deepcopy(families.build("llama"))
    assert largest_error(load(network), ReplayEngine(fold=2), llama()) < 1e-5


class Transparent(nn.Module):
    """As wrappers that pass everything on, but answer in their own way."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, *args, **kwargs):
        return (self.model(*args, **kwargs).logits,)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("model"), name)


class ReadsNothing(nn.Module):
    @property
    def config(self):
        raise RuntimeError("no configuration")

    def get_output_embeddings(self):
        return None

    get_input_embeddings = get_output_embeddings


class Silent:
    def __getattr__(self, name):
        raise RuntimeError(f"nothing is called {name}")


def changed(change):
    def make():
        network = llama()
        change(network)
        return network

    return make


@pytest.mark.filterwarnings("ignore")
def scripted(network):
    network.model.layers[1].mlp.up_proj = torch.jit.trace(network.model.layers[1].mlp.up_proj, torch.zeros(1, 40))


def in_eval_fails(network):
    class Stubborn(type(network)):
        def train(self, _mode=True):
            raise AssertionError("always in training")

    network.__class__ = Stubborn


def doubled(module):
    module.register_forward_hook(lambda _module, _args, output: 2 * output)


def buffer_elsewhere(network):
    network.model.rotary_emb.inv_freq = network.model.rotary_emb.inv_freq.to("meta")


REFUSED = {
    "a wrapper that returns tuples": (
        lambda: Transparent(llama()),
        ["Transparent wraps", "model.model."],
    ),
    "a scripted part": (
        changed(scripted),
        ["'model.layers.1.mlp.up_proj' of the model is a TorchScript"],
    ),
    "no eval mode": (changed(in_eval_fails), ["finding its eval mode", "AssertionError: always in training"]),
    "a property that raises": (ReadsNothing, ["finding what kind of model it is", "no configuration"]),
    "an object that raises": (Silent, ["finding what kind of object it is", "nothing is called"]),
    "two precisions": (changed(lambda network: network.lm_head.double()), ["float32, float64", "model.float()"]),
    "a buffer elsewhere": (changed(buffer_elsewhere), ["'model.rotary_emb.inv_freq' is not in memory", "offload=True"]),
    "a hook on the projection": (
        changed(lambda network: doubled(network.model.layers[0].self_attn.o_proj)),
        ["output projection", "Hooks are registered (1, one on 'model.layers.0.self_attn.o_proj')"],
    ),
    "a hook on the final norm": (
        changed(lambda network: doubled(network.model.norm)),
        ["final norm", "Hooks are registered (1, one on 'model.norm')"],
    ),
    "an unembedding in parts": (
        changed(lambda network: setattr(network, "lm_head", nn.Sequential(network.lm_head))),
        ["an unembedding without a weight (Sequential)", "Give a model"],
    ),
    "blocks that are shared": (
        changed(lambda network: network.model.layers.__setitem__(1, network.model.layers[0])),
        ["no list of decoder blocks", "shared"],
    ),
}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_says_what_to_do(what):
    make, said = REFUSED[what]
    with pytest.raises(SelfRepairError) as refused:
        load(make())
    assert refused.value.fix and not [words for words in said if words not in str(refused.value)], str(refused.value)


def test_hooks_that_transformers_registers_are_not_blamed():
    network = llama()
    network(torch.arange(5)[None], output_hidden_states=True)
    assert any(module._forward_hooks for module in network.modules()), "it collects hidden states with hooks"
    network.model.norm = nn.Tanh()
    with pytest.raises(RefusedModel, match="final norm") as refused:
        load(network)
    assert "Hooks are registered" not in refused.value.fix


@pytest.mark.parametrize("error", [RuntimeError("beyond the table"), MemoryError()])
def test_what_fails_on_the_text_is_told_before_the_sweep(error):
    """A model that can read the probes, but not the windows."""
    from loading import tiny_models

    network = llama()

    class Short(type(network.model.embed_tokens)):
        def forward(self, tokens):
            if tokens.shape[-1] > 12:
                raise error
            return super().forward(tokens)

    network.model.embed_tokens.__class__ = Short
    made = windows(tiny_models.tokenizer(), tokens=64, length=16)
    with pytest.raises(RefusedModel, match="an engine, on the first windows") as refused:
        measure(load(network), made, progress=False)
    assert refused.value.__cause__ is error

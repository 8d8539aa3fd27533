"""The test ground, tested: the oracle's ledger closes, its tables are right, planted numbers come out."""

from __future__ import annotations

import ast
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from zoo import families, oracle, planted
from zoo.anatomy import ANATOMY, value_constants

TOKENS, DONORS = families.tokens(seed=0), families.tokens(seed=1)
ABLATED = [(0, 1), (1, 3), (2, 0)]  # (layer, head)


@pytest.fixture(scope="module")
def model_of():
    models = {}

    def get(name):
        if name not in models:
            models[name] = families.build(name).double()
        return models[name]

    return get


every_family = pytest.mark.parametrize("name", families.FAMILIES)


def test_shares_no_code_with_the_package():
    for path in Path(__file__).parent.joinpath("zoo").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not any(n.split(".")[0] == "selfrepair" for n in names), path


# ------------------------------------------------------------------------------------------------ families


def test_the_table_covers_every_family():
    assert set(ANATOMY) == set(families.FAMILIES)
    assert set(families.REFUSAL) == set(families.REFUSED)


@pytest.mark.parametrize("name", [*families.FAMILIES, *families.REFUSED])
def test_models_are_random_live_and_reproducible(name):
    model, again = families.build(name), families.build(name)
    assert not model.training
    for (path, p), q in zip(model.named_parameters(), again.parameters(), strict=True):
        assert p.dtype is torch.float32 and torch.equal(p, q), path
        assert p.numel() == 1 or p.std() > 0.01, path
        assert p.unique().numel() > 0.9 * p.numel(), path  # no zeros, ones or copies left from initialisation
    with torch.no_grad():
        logits = model(TOKENS).logits
    assert logits.isfinite().all()
    assert 1 < logits.std() < 5


@every_family
def test_every_parameter_matters(name):
    """But for biases that a softmax or a clip makes irrelevant, no parameter is a dead letter."""
    model = families.build(name)
    model(TOKENS).logits.square().sum().backward()
    for path, p in model.named_parameters():
        if "k_proj.bias" not in path:
            assert p.grad is not None and p.grad.abs().max() > 1e-5, path


@pytest.mark.parametrize("name", [n for n in families.MIXTURES if n in families.FAMILIES])
def test_experts_agree_with_the_librarys_own_kernel(name):
    eager, grouped = families.build(name), families.build(name, experts="grouped_mm")
    with torch.no_grad():
        assert torch.allclose(eager(TOKENS).logits, grouped(TOKENS).logits, atol=2e-5)


@pytest.mark.parametrize("name", ["gpt_neo", "mistral", "qwen2", "gemma2", "gemma3", "phi3", "starcoder2"])
def test_windows_are_shorter_than_the_text(name, model_of):
    """Some layer's head does not see the first token from the last position."""
    model, anatomy, changed = model_of(name), ANATOMY[name], TOKENS.clone()
    changed[:, 0] = (changed[:, 0] + 1) % families.VOCAB
    moved = (oracle.trace(model, anatomy, changed).z - oracle.trace(model, anatomy, TOKENS).z).abs().amax((1, 3, 4))
    first_layer_with_window = int(name in ("gpt_neo", "qwen2"))
    assert (moved[0, -1] == 0) == (first_layer_with_window == 0)


# -------------------------------------------------------------------------------------------------- oracle


@every_family
def test_computes_in_float64(name, model_of):
    """The mode itself objects to any float32 tensor; what it changes is of the size of float32 rounding."""
    model = model_of(name)
    with torch.no_grad():
        mixed = model(TOKENS, use_cache=False).logits
    gap = (oracle.plain_logits(model, TOKENS) - mixed).abs().max()
    assert gap < 1e-4
    single = families.build(name)
    with torch.no_grad():
        assert (single(TOKENS).logits - mixed).abs().max() < 2e-4


def test_the_mode_is_needed_and_restores():
    model = families.build("llama").double()
    with torch.no_grad():
        mixed = model(TOKENS).logits
    assert 1e-9 < (oracle.plain_logits(model, TOKENS) - mixed).abs().max() < 1e-5
    assert torch.get_default_dtype() is torch.float32
    assert torch.zeros(1).float().dtype is torch.float32


def test_the_mode_objects_to_single_precision():
    single = torch.zeros(2)
    with pytest.raises(AssertionError, match="float32"), oracle.in_float64():
        single + 1
    with pytest.raises(TypeError, match="double"):
        oracle.plain_logits(families.build("llama"), TOKENS)


@every_family
def test_norms_follow_their_formula(name, model_of):
    """Final norm and post-norms against numpy, to 1e-13: rounding to float32 inside would show as 1e-8."""
    model, anatomy = model_of(name), ANATOMY[name]
    norms = [model.get_submodule(anatomy.final_norm)]
    if anatomy.post_attention_norm:
        norms += [anatomy.part(model, 1, "post_attention_norm"), anatomy.part(model, 1, "post_mlp_norm")]
    x = torch.randn(3, families.WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    for norm in norms:
        with oracle.in_float64():
            got = norm(x).numpy()
        v = x.numpy()
        if anatomy.norm == "layer":
            v = v - v.mean(-1, keepdims=True)
        gain, bias = (
            anatomy.gain(norm, families.WIDTH).numpy(),
            anatomy.norm_bias(norm, families.WIDTH).numpy(),
        )
        want = v / np.sqrt((v * v).mean(-1, keepdims=True) + anatomy.eps(norm)) * gain + bias
        assert np.abs(got - want).max() < 1e-13
        assert (anatomy.apply(norm, x) - torch.from_numpy(got)).abs().max() < 1e-13


@every_family
def test_hand_table_names_the_right_parts(name, model_of):
    """Heads and bias make the attention's write, all writes the final residual, its read-out the logits."""
    model, anatomy = model_of(name), ANATOMY[name]
    run = oracle.trace(model, anatomy, TOKENS)
    first = []
    handle = anatomy.block(model, 0).register_forward_pre_hook(lambda _m, args: first.append(args[0].clone()))
    oracle.plain_logits(model, TOKENS)
    handle.remove()
    stream = first[0]
    for layer in range(families.LAYERS):
        heads = [run.z[layer, :, :, h] @ anatomy.w_o(model, layer, h) for h in range(anatomy.heads)]
        bias = getattr(anatomy.part(model, layer, "o_proj"), "bias", None)
        whole = sum(heads) + (0 if bias is None else bias.detach())
        assert (whole - run.attention[layer]).abs().max() < 1e-12
        if anatomy.post_attention_norm:
            whole = anatomy.apply(anatomy.part(model, layer, "post_attention_norm"), whole)
        stream = stream + whole * anatomy.residual_multiplier + run.mlps[layer]
    assert (stream - run.residual).abs().max() < 1e-11
    targets = torch.randint(0, families.VOCAB, TOKENS.shape, generator=torch.Generator().manual_seed(3))
    u, beta = oracle.directions(model, anatomy, targets)
    scale = anatomy.scale(model.get_submodule(anatomy.final_norm), stream)
    linear = oracle.linear_logits(run.logits, anatomy.soft_cap)
    want = (linear - linear.mean(-1, keepdim=True)).gather(-1, targets[..., None])[..., 0]
    assert ((u * stream).sum(-1) / scale + beta - want).abs().max() < 1e-11


@every_family
def test_value_constants(name, model_of):
    """With every attention's input forced to its pre-norm's bias, each head puts out its constant."""
    model, anatomy = model_of(name), ANATOMY[name]
    constants = value_constants(model, anatomy)
    with ExitStack() as stack:
        for layer in range(families.LAYERS):
            if anatomy.attention_norm is None:  # OLMo-2: zeros straight into q, k and v
                for projection in ("q_proj", "k_proj", "v_proj"):
                    module = anatomy.part(model, layer, "attention").get_submodule(projection)
                    stack.callback(module.register_forward_pre_hook(lambda _m, a: (torch.zeros_like(a[0]),)).remove)
                continue
            norm = anatomy.part(model, layer, "attention_norm")
            beta = anatomy.norm_bias(norm, families.WIDTH)
            hook = norm.register_forward_hook(lambda _m, _a, out, beta=beta: beta.expand_as(out).clone())
            stack.callback(hook.remove)
        z = oracle.trace(model, anatomy, TOKENS).z
    assert (z - constants[:, None, None]).abs().max() < 1e-12
    biasless = {"llama", "mistral", "phi3", "olmo", "gemma", "gemma2", "mixtral", "qwen3_moe"}
    assert (constants.abs().max() == 0) == (name in biasless)


@every_family
@pytest.mark.parametrize(("layer", "head"), ABLATED)
def test_ledger_closes(name, layer, head, model_of):
    model, anatomy = model_of(name), ANATOMY[name]
    book = oracle.ledger(model, anatomy, TOKENS, layer, head, oracle.resampled(model, anatomy, DONORS, layer, head))
    assert book.residual.abs().max() < 1e-10
    assert book.total_effect.abs().max() > 0.02
    # what comes before, or beside, the ablated head does not change at all
    assert (
        (book.heads[: layer + 1] == 0).all() and (book.mlps[:layer] == 0).all() and (book.post_norms[:layer] == 0).all()
    )
    assert (book.mlps[layer] == 0).all() == anatomy.parallel
    assert (book.post_norms[layer] != 0).any() == (anatomy.post_attention_norm is not None)
    if layer == families.LAYERS - 1 and anatomy.parallel:
        assert torch.allclose(book.self_repair, book.norm, atol=1e-12)


@every_family
def test_own_output_is_no_ablation_and_zero_means_the_constant(name, model_of):
    model, anatomy, layer, head = model_of(name), ANATOMY[name], 1, 2
    own = oracle.ledger(model, anatomy, TOKENS, layer, head, oracle.resampled(model, anatomy, TOKENS, layer, head))
    assert own.total_effect.abs().max() < 1e-12 and own.self_repair.abs().max() < 1e-12
    zero = oracle.ledger(model, anatomy, TOKENS, layer, head, oracle.zeroed(model, anatomy, layer, head))
    assert zero.ablated_direct_effect.abs().max() == 0
    assert zero.residual.abs().max() < 1e-10


@pytest.mark.parametrize("name", ["gpt2", "gemma2", "granite"])
def test_total_effect_is_two_plain_forwards(name, model_of):
    model, anatomy, layer, head = model_of(name), ANATOMY[name], 1, 0
    donor = oracle.resampled(model, anatomy, DONORS, layer, head)
    projection = anatomy.part(model, layer, "o_proj")
    effect = oracle.total_effect(model, TOKENS, projection, head, anatomy.head_dim, donor, anatomy.soft_cap)
    assert torch.equal(effect, oracle.ledger(model, anatomy, TOKENS, layer, head, donor).total_effect)


def test_the_oracle_can_fail():
    """A transposed square W_O, a wrong norm, a forgotten multiplier, a forgotten post-norm: it opens."""

    def residual(name, **wrong):
        model = families.build(name).double()
        donor = oracle.resampled(model, ANATOMY[name], DONORS, 1, 0)
        return oracle.ledger(model, replace(ANATOMY[name], **wrong), TOKENS, 1, 0, donor).residual.abs().max()

    assert residual("gpt2", conv1d=False) > 1e-3
    assert residual("stablelm", norm="rms") > 1e-3
    assert residual("granite", residual_multiplier=1.0) > 1e-3
    assert residual("cohere", logit_multiplier=1.0) > 1e-3
    assert residual("gemma2", soft_cap=None) > 1e-3
    assert residual("gemma2", one_plus_weight=False) > 1e-3
    assert residual("gemma3", post_attention_norm=None) > 1e-3
    assert residual("bloom", mlp="mlp") > 1e-3


# ------------------------------------------------------------------------------------------------- planted


@pytest.mark.parametrize(
    ("name", "operator"),
    [
        (name, operator)
        for name in planted.PLANTED
        for operator in ("resample", "zero")
        if (name, operator) != ("constant_writer", "zero")  # that does remove something
    ],
)
def test_planted_numbers_come_out(name, operator):
    case = planted.PLANTED[name]()
    if operator == "zero":
        replacement = oracle.zeroed(case.model, case.anatomy, case.layer, case.head)
    else:
        replacement = oracle.resampled(case.model, case.anatomy, case.donors, case.layer, case.head)
    book = oracle.ledger(case.model, case.anatomy, case.tokens, case.layer, case.head, replacement)

    def at(x):
        return x[..., 0, case.position]

    close = {"abs": 1e-9}
    assert at(book.direct_effect).item() == pytest.approx(case.direct_effect, **close)
    assert at(book.ablated_direct_effect).item() == pytest.approx(case.ablated_direct_effect, **close)
    assert at(book.total_effect).item() == pytest.approx(case.total_effect, **close)
    assert at(book.self_repair).item() == pytest.approx(case.self_repair, **close)
    assert at(book.norm).item() == pytest.approx(case.norm, **close)
    assert at(book.residual).abs().item() < 1e-10
    heads, mlps = at(book.heads), at(book.mlps)
    for place in np.ndindex(*heads.shape):
        assert heads[place].item() == pytest.approx(case.head_lines.get(place, 0.0), **close), place
    for layer in range(len(mlps)):
        assert mlps[layer].item() == pytest.approx(case.mlp_lines.get(layer, 0.0), **close), layer
    for place, effect in case.clean_heads.items():
        assert at(book.clean_heads)[place].item() == pytest.approx(effect, **close), place
    assert case.heads + case.mlps + case.norm == pytest.approx(case.self_repair, abs=1e-12)


def test_the_prototypes_numbers():
    case = planted.backup_and_erasure(r=0.6, c=0.3)
    assert case.repaired_share == pytest.approx(0.72)
    assert (case.heads, case.mlps) == (pytest.approx(0.6), pytest.approx(0.12))
    assert planted.norm_only().norm > 1
    assert planted.copy_suppressor().self_repair == pytest.approx(0.34)
    assert planted.two_writers().self_repair == planted.either_will_do().self_repair == 0


def test_planted_models_run_in_single_precision():
    for make in planted.PLANTED.values():
        case = make()
        wide = oracle.plain_logits(case.model, case.tokens)
        with torch.no_grad():
            assert torch.allclose(case.model.float()(case.tokens).logits.double(), wide, atol=1e-5)

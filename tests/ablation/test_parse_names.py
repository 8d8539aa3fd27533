"""Every spelling of components in the field stands for the same sites, and slips are refused in words."""

from __future__ import annotations

import json
import re
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfrepair import At, Attention, Head, Intervention, Mlp, Neuron, SelfRepairError, Site
from selfrepair.ablation.edges import Edge, parse_edge
from selfrepair.ablation.name_lists import NameExpanded
from selfrepair.ablation.names import named_heads, parse_groups, parse_names, parse_units, resolve
from selfrepair.ablation.shape import Shape, shape_of
from selfrepair.ablation.site_names import parse_site
from selfrepair.ablation.sites import AtSpan
from selfrepair.ablation.spellings import End
from support import language_model

HEADS = [
    *("L{l}H{h}", "l{l}h{h}", "{l}.{h}", "a{l}.h{h}", "a{l}.{h}", "A{l}.{h}", "head_{l}.{h}", "head {l}.{h}"),
    *("{l}:{h}", "({l}, {h})", "[{l}, {h}]", "L{l}.{h}", "AttentionHead(Layer-{l},Head-{h},Token-all)"),
    *("blocks.{l}.attn.hook_z[:, :, {h}]", "blocks.{l}.attn.hook_result[:, :, {h}]"),
    *("blocks.{l}.attn.hook_z[..., {h}, :]", "transformer.h.{l}.attn.c_proj[{h}]"),
    *("model.layers.{l}.self_attn.o_proj[{h}]", "gpt_neox.layers.{l}.attention.dense[{h}]"),
    "model.layers[{l}].self_attn.o_proj[{h}]",
]
MLPS = [
    *("m{l}", "MLP {l}", "mlp{l}", "L{l}.mlp", "blocks.{l}.hook_mlp_out", "blocks.{l}.hook_mlp_out[:]"),
    *("model.layers.{l}.mlp", "transformer.h.{l}.mlp"),
]
ATTENTION = [
    *("L{l}", "attn{l}", "attn {l}", "L{l}.attn", "blocks.{l}.hook_attn_out", "blocks.{l}.attn.hook_z"),
    *("model.layers.{l}.self_attn", "transformer.h.{l}.attn.c_proj"),
]
NEURONS = [
    *(
        "L{l}N{n}",
        "l{l}n{n}",
        "L{l}.N{n}",
        "blocks.{l}.mlp.hook_post[:, :, {n}]",
        "model.layers.{l}.mlp.down_proj[{n}]",
    ),
]
FORMS = [(form, "head") for form in HEADS] + [(form, "mlp") for form in MLPS]
FORMS += [(form, "attention") for form in ATTENTION] + [(form, "neuron") for form in NEURONS]


def site_of(kind: str, layer: int, number: int) -> Site:
    return {
        "head": Head(layer, number),
        "mlp": Mlp(layer),
        "attention": Attention(layer),
        "neuron": Neuron(layer, number),
    }[kind]


@pytest.mark.parametrize(("form", "kind"), FORMS)
def test_every_spelling_names_its_site(form, kind):
    for layer, number in ((0, 0), (9, 10), (31, 7)):
        assert parse_names(form.format(l=layer, h=number, n=number)) == [site_of(kind, layer, number)]


places = st.sampled_from(["", "@3", "@-1", "@-2,-1", "@end", "@S2"])
names = st.tuples(st.sampled_from(FORMS), st.integers(0, 95), st.integers(0, 95), places)


def made(drawn) -> tuple[str, str]:
    """A spelling, and what its site prints as."""
    (form, kind), layer, number, where = drawn
    return form.format(l=layer, h=number, n=number) + where, f"{site_of(kind, layer, number)}{where}"


@settings(max_examples=200, deadline=None)
@given(st.lists(names, min_size=1, max_size=4), st.sampled_from([", ", " ", ",", "; ", "\n"]))
def test_random_names_round_trip_in_every_spelling(drawn, separator):
    texts, printed = zip(*map(made, drawn), strict=True)
    expected = list(dict.fromkeys(printed))
    assert [str(site) for site in parse_names(separator.join(texts))] == expected
    assert [str(site) for site in parse_names(list(texts))] == expected
    assert [str(site) for site in parse_names(json.dumps(texts))] == expected
    assert [str(site) for site in parse_names("+".join(texts))] == expected
    assert [str(site) for site in parse_names(" ".join(expected))] == expected  # what is printed is read


def test_sites_print_what_parse_site_reads():
    for site in parse_names("9.6 L5 MLP 5 L11N584@-2,-1 9.9@3"):
        assert parse_site(str(site)) == site


@pytest.mark.parametrize(
    ("given_names", "expected"),
    [
        ([(9, 6), Head(9, 9), "a9.h1"], ["L9H6", "L9H9", "L9H1"]),
        ([9, 6], ["L9H6"]),
        ("[[9, 6], [9, 9]]", ["L9H6", "L9H9"]),
        ("(9,6) (9,9)", ["L9H6", "L9H9"]),
        ('{"movers": ["9.9", [9, 6]]}', ["L9H9", "L9H6"]),
        ({"movers": "9.9 9.6", "other": (10, 0)}, ["L9H9", "L9H6", "L10H0"]),
        (np.array([[9, 6], [9, 9]]), ["L9H6", "L9H9"]),
        ("L8-L10", ["L8.attn", "L9.attn", "L10.attn"]),
        ("L8 - L9, 9.6", ["L8.attn", "L9.attn", "L9H6"]),
        ("9.6@3, 5, 9.9", ["L9H6@3,5", "L9H9"]),
        ("9.6@3, 9.9", ["L9H6@3", "L9H9"]),
        ("MLP 5@S2 L5.mlp 9.6", ["L5.mlp@S2", "L5.mlp", "L9H6"]),
        ("blocks.9.attn.hook_z[:, -1, 6]", ["L9H6@-1"]),
        ("AttentionHead(Layer-9,Head-6,Token-last_token)", ["L9H6@end"]),
        ("AttentionHead(Layer-9,Head-6,Token-[8])", ["L9H6@8"]),
        ("9.6, 9.6", ["L9H6"]),
        ("9.10 9.1", ["L9H10", "L9H1"]),
    ],
)
def test_lists(given_names, expected):
    assert [str(site) for site in parse_names(given_names)] == expected


def test_files_are_read_and_names_in_them_open_no_others(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("# movers\nmovers=9.9, 9.6  # both\n10.0\n", encoding="utf-8")
    assert parse_groups(f"@{path}") == {"movers": (Head(9, 9), Head(9, 6), Head(10, 0))}
    path.write_text('{"movers": [9.10]}', encoding="utf-8")
    with pytest.raises(SelfRepairError, match=r"9\.10 is a number; did you mean '9\.10' or '9\.1'\? Quote it"):
        parse_names(f"@{path}")
    inner = tmp_path / "inner.txt"
    inner.write_text("9.6", encoding="utf-8")
    path.write_text(f"@{inner}", encoding="utf-8")
    with pytest.raises(SelfRepairError):
        parse_names(f"@{path}")
    with pytest.raises(SelfRepairError):
        parse_names([f"@{inner}"])
    with pytest.raises(SelfRepairError, match="cannot be read"):
        parse_names("@nowhere.txt")


@pytest.mark.parametrize("number", [9.1, 9.10, np.float64(9.1), [9.1], {"movers": [9.1]}, ["9.6", 9.1], "[9.1]"])
def test_a_number_is_never_a_head(number):
    with pytest.raises(SelfRepairError) as refused:
        parse_names(number)
    assert refused.value.problem == "9.1 is a number; did you mean '9.10' or '9.1'? Quote it."
    with pytest.raises(SelfRepairError, match=r"9\.1 is a number"):
        named_heads([9.1])


@pytest.mark.parametrize("number", [9, True, [9], "[9]", [9, 6, 4], [9, True]])
def test_no_other_number_is_a_name(number):
    with pytest.raises(SelfRepairError, match="is a number"):
        parse_names(number)


def test_groups_and_sets_are_units():
    text = "movers=9.9,9.6,10.0 suppressors=10.7+11.10"
    assert parse_units(text) == {
        "movers": (Head(9, 9), Head(9, 6), Head(10, 0)),
        "suppressors": (Head(10, 7), Head(11, 10)),
    }
    units = parse_units("9.9+9.6+10.0, MLP 5@S2, L11N584")
    assert list(units) == ["L9H9+L9H6+L10H0", "L5.mlp@S2", "L11N584"]
    assert parse_units("9.9 + MLP 5") == {"L9H9+L5.mlp": (Head(9, 9), Mlp(5))}
    assert parse_groups("9.9 movers=9.6") == {"": (Head(9, 9),), "movers": (Head(9, 6),)}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("ninth", "'ninth' is not a component"),
        ("9", "'9' is not a component"),
        ("L9H6@", "gives no position"),
        ("L9H6@1.5", "neither a position nor the name"),
        ("blocks.9.attn.hook_z[:, :, 6", "Brackets do not match"),
        ("blocks.9.attn.hook_z[2, :, 6]", "is not a component"),
        ("blocks.9.attn.hook_pattern[:, 6]", "is not a component"),
        ("blocks.9.hook_resid_mid", "is not a component"),
        ("model.layers.5.mlp[7]", "is not a component"),
        ("model.layers.5.mlp.up_proj[7]", "is not a component"),
        ("model.layers.5.self_attn.q_proj[7]", "is not a component"),
        ("14_63905_10", "a latent .*\nAblate the MLP it describes \\(L14.mlp\\)"),
        ("gemma-2-2b/20-gemmascope-res-16k/10956", "a latent .*\nAblate the MLP it describes \\(L20.mlp\\)"),
        ("flat:114", "takes the number of heads"),
        ("a9.h9->a10.h0<q>", "is an edge"),
        ("logits", "an end of the model"),
        ("MLP 5.q", "only heads have inputs"),
        ("L9H6.k", "which is not known without its model"),
        ("L9-L8", "no heads L9-L8|no L9-L8"),
        ("L0-L999999999", "There is no L0-L999999999"),
        ("", "No components"),
        ([], "No components"),
        (None, "is not a component"),
        (b"L9H6", "is not a component"),
        ([[[[[[[[[[[[[[[[[[[[[[["9.6"]]]]]]]]]]]]]]]]]]]]]]], "nested too deeply"),
    ],
)
def test_what_names_nothing_is_refused(text, said):
    with pytest.raises(SelfRepairError, match=said):
        parse_names(text)


GPT2 = Shape((12,) * 12, key_heads=12, neurons=(3072,) * 12)
GROUPED = Shape((9,) * 30, key_heads=3)


def test_a_model_has_its_heads():
    assert parse_names("flat:114", GPT2) == [Head(9, 6)]
    assert parse_names("9.6 MLP 11 L11N3071 L11", [12] * 12) == [Head(9, 6), Mlp(11), Neuron(11, 3071), Attention(11)]
    for name, message in {
        "9.12": "no heads L9H12.*Layers and heads are counted from 0",
        "L12.mlp": "no L12.mlp.*Layers and heads are counted from 0",
        "flat:144": "no flat:144.*counted from 0",
        "11.584": "no heads L11H584.*Neuron 584 of layer 11 is written L11N584",
        "L11N3072": "no L11N3072",
        "9.14@S2": "no heads L9H14",
        "L8-L12": "no L8-L12",
    }.items():
        with pytest.raises(SelfRepairError) as refused:
            parse_names(name, GPT2)
        assert re.search(message, str(refused.value).replace("\n", " ")), refused.value
    with pytest.raises(SelfRepairError) as far:
        parse_names("9.14", GPT2)
    assert "counted from 0" not in str(far.value)


def test_shared_keys_stand_for_all_heads_that_share_them():
    with pytest.warns(NameExpanded, match="keys of L20H4. Those are shared by L20H3, L20H4, L20H5"):
        assert parse_names("L20H4.k", GROUPED) == [Head(20, 3), Head(20, 4), Head(20, 5)]
    with pytest.warns(NameExpanded, match="values"):
        assert parse_names("a20.h8<v>@-1", GROUPED) == [At(Head(20, head), (-1,)) for head in (6, 7, 8)]
    with pytest.warns(NameExpanded, match="whole output of this head"):
        assert parse_names("A9.6.Q", GPT2) == [Head(9, 6)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_names("L20H4", GROUPED) == [Head(20, 4)]


def test_spans_are_resolved_prompt_by_prompt():
    (at_span, at_end, last, everywhere) = parse_names("9.6@S2 9.6@end 9.6@-1 MLP 5")
    spans = {"S2": (4, 6)}
    assert isinstance(at_span, AtSpan) and at_span.positions == ()  # none until it is resolved; engines refuse it
    assert resolve(at_span, spans, 13) == At(Head(9, 6), (4, 5))
    assert resolve(at_end, spans, 13) == At(Head(9, 6), (13,))
    assert resolve(at_end, {"end": (2, 3)}, 13) == At(Head(9, 6), (2,))
    assert resolve(last, spans, 13) == last
    assert resolve(last, spans, 13, length=14) == At(Head(9, 6), (13,))
    assert resolve(everywhere, spans, 13, length=14) == Mlp(5)
    with pytest.raises(SelfRepairError, match=r"no span 'S1' for L9H6@S1.\nIt has: S2, end"):
        resolve(AtSpan(Head(9, 6), "S1"), spans, 13)
    with pytest.raises(SelfRepairError, match="no position 20"):
        resolve(At(Head(9, 6), (20,)), spans, 13, length=14)
    assert Intervention((at_span,)).name == "L9H6@S2"  # engines take it once it is resolved


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("a9.h9->a10.h0<q>", "L9H9->L10H0.q"),
        ("L9H9->L10H0.q", "L9H9->L10H0.q"),
        ("A9.9->A10.0.Q", "L9H9->L10H0.q"),
        ("a10.h0<q>->a9.h9", "L9H9->L10H0.q"),
        ("L10H0.q <- L9H9", "L9H9->L10H0.q"),
        ("9.9 -> 10.0", "L9H9->L10H0"),
        ("input->m0", "input->L0.mlp"),
        ("Resid Start->A0.1.V", "input->L0H1.v"),
        ("MLP 5->Resid End", "L5.mlp->logits"),
        ("m5->logits", "L5.mlp->logits"),
        ("a5.h1->m5", "L5H1->L5.mlp"),
        ("m5->a5.h1<k>", "L5H1->L5.mlp"),
        ("blocks.1.attn.hook_result[:, :, 10]blocks.0.hook_mlp_out[:]", "L0.mlp->L1H10"),
        ("blocks.1.hook_k_input[:, :, 10]blocks.0.attn.hook_result[:, :, 3]", "L0H3->L1H10.k"),
        ("blocks.0.attn.hook_result[:, :, 3]blocks.1.hook_mlp_in[:]", "L0H3->L1.mlp"),
        ("blocks.11.hook_resid_post[:]blocks.9.attn.hook_result[:, :, 9]", "L9H9->logits"),
        ("blocks.0.hook_q_input[:, :, 1]hook_embed[:]", "input->L0H1.q"),
    ],
)
def test_edges_go_from_the_earlier_to_the_later(text, printed):
    if text == "m5->a5.h1<k>":
        with pytest.raises(SelfRepairError, match="sends nothing"):
            parse_edge(text)
        return
    assert str(parse_edge(text)) == printed
    assert parse_edge(printed) == parse_edge(text)


def test_scores_do_not_make_another_edge():
    assert (
        parse_edge("m5->logits", score=0.5) == Edge(Mlp(5), End("logits")) and parse_edge("m5->m6", score=2).score == 2
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("9.9", "is not an edge"),
        ("9.9->9.6", "neither end comes before"),
        ("9.9->10.0->11.1", "is not an edge"),
        ("9.9@3->10.0", "all positions"),
        ("9.9.q->10.0", "sends nothing"),
        ("blocks.1.attn.hook_result[:, :, 10] and blocks.0.hook_mlp_out[:]", "is not an edge"),
    ],
)
def test_what_is_no_edge_is_refused(text, said):
    with pytest.raises(SelfRepairError, match=said):
        parse_edge(text)


def test_runs_take_heads_in_every_spelling():
    assert named_heads("a9.h6, blocks.9.attn.hook_z[:, :, 1] L8-L9 attn3 (7, 2)") == [
        *((9, 9, 6), (9, 9, 1), (8, 9, None), (3, 3, None), (7, 7, 2))
    ]
    for text in ("MLP 5", "L9N3", "9.6@3", "9.6@end"):
        with pytest.raises(SelfRepairError, match="is not a head"):
            named_heads(text)


def test_a_model_tells_its_shape():
    model = language_model("llama")
    anatomy = model.anatomy
    assert shape_of(model) == shape_of(anatomy)
    assert shape_of(anatomy).heads == tuple(anatomy.heads_by_layer)
    assert shape_of(anatomy).key_heads == model.network.config.num_key_value_heads
    with pytest.raises(SelfRepairError, match="counted from 0"):
        parse_names(f"L{anatomy.layers}H0", model)

"""Close-ups against plain forwards, for every family; passages; the budget; texts of tokens."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from comparing import rows

from plain_hybrids import Run, hybrid, lines
from selfrepair import load_run, measure
from selfrepair.ablation.sites import Mixer
from selfrepair.results.extras import FIRST_PART, MIXER, MLP
from selfrepair.run.closeups import attach
from selfrepair.run.closeups.make_closeups import COLUMNS, Closeup, affordable, closeup_candidates
from selfrepair.run.closeups.token_bytes import byte_alphabet, token_bytes
from selfrepair.run.gathering.best_effort import LeftOut
from selfrepair.run.measure import resume
from support import Head, corpus, language_model, oracle_replacement
from zoo import families, oracle
from zoo.anatomy import ANATOMY


@pytest.fixture(autouse=True)
def no_look_left_out():
    with warnings.catch_warnings():
        warnings.simplefilter("error", LeftOut)
        yield


def looked_at(name="gpt2", **options):
    return measure(language_model(name), corpus(), progress=False, replicates=10, **{"ablation": "zero", **options})


def log_probabilities(logits, row):
    return torch.log_softmax(logits[0, row["position"]], -1).numpy()


@pytest.mark.parametrize("name", families.FAMILIES)
def test_what_is_seen_is_what_plain_forwards_give(name):
    """Next-token probabilities before and after, the repairers, and the attention of the strongest one."""
    model, hand, windows = language_model(name), ANATOMY[name], corpus()
    seen = looked_at(name).extras.closeups.to_pylist()
    assert seen
    for row in seen[:: max(1, len(seen) // 3)]:
        unit, tokens = Head(row["layer"], row["head"]), torch.from_numpy(windows.tokens[[row["window"]]])
        in_place = oracle_replacement(model, hand, "zero", unit)
        runs = {"before": (), "after": (*unit, in_place)}
        for when, ablation in runs.items():
            found = log_probabilities(oracle.trace(model.network, hand, tokens, *ablation).logits, row)
            np.testing.assert_allclose(found[row[f"tokens_{when}"]], row[f"logprobs_{when}"], atol=1e-4)
            np.testing.assert_allclose(np.sort(found)[::-1][:10], row[f"logprobs_{when}"], atol=1e-4)
            target = windows.tokens[row["window"], row["position"] + 1]
            assert row[f"target_logprob_{when}"] == pytest.approx(found[target], abs=1e-4)
        book = oracle.ledger(model.network, hand, tokens, *unit, in_place)
        assert row["total_effect"] == pytest.approx(float(book.total_effect[0, row["position"]]), abs=1e-5)
        for layer, head, effect in zip(
            row["repairer_layers"], row["repairer_heads"], row["repairer_effects"], strict=True
        ):
            lines = book.mlps[layer] if head == MLP else book.heads[layer, head]
            assert effect == pytest.approx(float(lines[0, row["position"]]), abs=1e-5)
        assert_attention(model, tokens, row, book.heads[:, :, 0, row["position"]])


def assert_attention(model, tokens, row, heads):
    if row["attending_layer"] is None and not model.network._can_set_attn_implementation():
        return  # Falcon, with a fused kernel: it does not tell
    if row["attending_layer"] is None:
        assert float(heads.max()) <= 1e-9  # no head repaired
        return
    assert float(heads[row["attending_layer"], row["attending_head"]]) == pytest.approx(float(heads.max()), abs=1e-9)
    for weights in (row["attention_before"], row["attention_after"]):
        assert min(weights) >= 0 and sum(weights) == pytest.approx(1, abs=1e-4)
    used = model.network.config._attn_implementation
    model.network.set_attn_implementation("eager")
    try:
        with oracle.in_float64(strict=False):
            given = model.network(tokens, use_cache=False, output_attentions=True).attentions
    finally:
        model.network.set_attn_implementation(used)
    if given:
        theirs = given[row["attending_layer"]][0, row["attending_head"], row["position"]]
        np.testing.assert_allclose(theirs[row["attended_positions"]], row["attention_before"], atol=1e-5)


@pytest.mark.parametrize("entry", ["lfm2", "falcon_h1", "granitemoehybrid", "gemma4_text"])
def test_repairers_of_every_kind_are_those_of_plain_forwards(entry):
    """Mixers and parts of MLPs are listed with what they write more under plain hooks."""
    model, windows = hybrid(entry), corpus()
    layers = model.anatomy.layers_with_heads
    heads = [Head(layer, 1) for layer in dict.fromkeys((layers[0], layers[-1]))]
    run = measure(model, windows, heads=heads, ablation="zero", progress=False, replicates=10)
    seen = run.extras.closeups.to_pylist()
    kinds = {head for row in seen for head in row["repairer_heads"] if head < 0}
    parts = {FIRST_PART, FIRST_PART - 1} if entry in ("granitemoehybrid", "gemma4_text") else {MLP}
    assert kinds == parts | ({MIXER} if model.anatomy.has_mixers else set())
    for row in seen[:: max(1, len(seen) // 3)]:
        tokens = torch.from_numpy(windows.tokens[row["window"]])
        weights = torch.full((97,), -1 / 97, dtype=torch.float64)
        weights[tokens[row["position"] + 1]] += 1
        clean = Run(model, tokens[: row["position"] + 1], weights)
        head = Head(row["layer"], row["head"])  # its values have no constant in these families
        after = Run(model, tokens[: row["position"] + 1], weights, {head: torch.zeros(()).double()})
        assert row["total_effect"] == pytest.approx(after.value - clean.value, abs=1e-5)
        written = {named(model, site): line for site, line in lines(clean, after, [head]).items() if line}
        listed = dict(
            zip(zip(row["repairer_layers"], row["repairer_heads"], strict=True), row["repairer_effects"], strict=True)
        )
        largest = sorted(written, key=lambda name: -abs(written[name]))[:12]
        assert set(listed) == set(largest)
        assert all(listed[name] == pytest.approx(written[name], abs=1e-5) for name in largest)


def named(model, site):
    """A component as close-ups have it."""
    if isinstance(site, Head):
        return site.layer, site.head
    parts = len(model.anatomy.blocks[site.layer].mlps)
    code = MIXER if isinstance(site, Mixer) else MLP if parts == 1 else FIRST_PART - site.part
    return site.layer, code


def test_the_models_attention_is_as_it_was():
    model = language_model("llama")
    before = model.network.config._attn_implementation
    looked_at("llama")
    assert model.network.config._attn_implementation == before


def test_passages_are_whole_windows_and_the_kept_tokens_own_numbers():
    windows = corpus()
    run = looked_at(sample=10**6)
    passages = run.extras.passages.to_pandas()
    chosen = sorted(set(passages["window"]))
    assert chosen == [0, 2, 3, 5]
    each = windows.scored()[chosen].sum()
    assert len(passages) == each * run.heads.sizes["layer"] * run.heads.sizes["head"]
    kept = run.tokens_frame()
    both = kept.merge(passages, on=["layer", "head", "window", "position"], suffixes=("", "_passage"))
    assert len(both) == len(passages)  # the sample keeps everything here
    for name in ("direct_effect", "total_effect", "repair_mlps", "sigma_ratio"):
        np.testing.assert_array_equal(both[name], both[f"{name}_passage"])


def test_extras_come_back_from_the_folder_and_are_made_again_when_lost(tmp_path):
    place = tmp_path / "run"
    model = language_model("gpt2")
    run = measure(model, corpus(), ablation="zero", out=place, progress=False, replicates=10)
    again = load_run(place).extras
    assert again.closeups.to_pylist() == run.extras.closeups.to_pylist()
    assert again.passages.num_rows == run.extras.passages.num_rows
    assert again.vocabulary is None  # this model has no tokenizer
    (place / "closeups.parquet").unlink()
    assert resume(place, model, progress=False).extras.closeups.to_pylist() == run.extras.closeups.to_pylist()


def test_a_failing_look_costs_no_run(tmp_path, monkeypatch):
    def fails(*_arguments):
        raise RuntimeError("no attention here")

    monkeypatch.setattr(attach, "closeups", fails)
    with pytest.warns(LeftOut, match="no attention here"):
        run = measure(language_model("gpt2"), corpus(), out=tmp_path / "run", progress=False, replicates=10)
    assert run.outcome["status"] == "complete" and run.extras.closeups is None
    assert load_run(tmp_path / "run").extras.passages is not None


def test_candidates_are_each_heads_largest_effects():
    run = looked_at(sample=10**6)
    for looks in closeup_candidates(run.tokens.select(COLUMNS).to_batches(max_chunksize=50)):
        found = rows(run, Head(looks[0].layer, looks[0].head))
        size = np.abs(found["direct_effect"]) + np.abs(found["self_repair"])
        largest = np.sort(size)[::-1][:16]
        assert sum(closeup.size for closeup in looks) == pytest.approx(largest.sum(), rel=1e-5)


def test_the_budget_is_kept_and_open_windows_are_preferred():
    late = [Closeup(9, 0, 1, (3,), 5.0), Closeup(9, 0, 2, (4,), 5.1)]
    early = [Closeup(0, 0, 1, (3, 4), 1.0)]
    chosen = affordable([late, early], layers=10, donors=1, budget=0)
    spent = sum(10 - closeup.layer for closeup in chosen) + 20 * len({closeup.window for closeup in chosen})
    assert spent <= 4 * 20
    assert chosen[0].window == 2 and early[0] in chosen


class Pieces:
    """A tokenizer of four pieces."""

    texts = ("\N{REPLACEMENT CHARACTER}", " a", "\N{REPLACEMENT CHARACTER}", "b")
    pieces = ("âĤ", "Ġa", "<0xE2>", "▁b")

    def decode(self, tokens, **_options):
        return self.texts[tokens[0]]

    def convert_ids_to_tokens(self, token):
        return self.pieces[token]


def test_half_a_character_keeps_its_bytes():
    assert len(byte_alphabet()) == 256 and sorted(byte_alphabet().values()) == list(range(256))
    assert [token_bytes(Pieces(), token) for token in range(4)] == [b"\xe2\x82", b" a", b"\xe2", b" b"]

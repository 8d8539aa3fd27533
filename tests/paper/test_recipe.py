"""The paper's own recipe, from the formulas of its authors' code, known flaws included."""

import numpy as np
import pytest

from loading.tiny_models import tokenizer
from selfrepair import Zero, measure
from selfrepair.errors import SelfRepairError
from selfrepair.paper import make
from selfrepair.paper.inputs.recipe import NextBatch, original, original_amount, original_windows, recipe_named
from selfrepair.paper.inputs.recipe_windows import windows_for
from selfrepair.text.document import Document
from support import corpus, language_model


@pytest.mark.parametrize(("batch", "roll"), [(3, 0), (4, 1), (4, 2), (2, 1)])
def test_donors_are_rows_of_the_next_batch(batch, roll):
    """Row i of batch b gets row i - roll of batch b + 1; the last batch wraps to the first (docs/methods.md 6.2)."""
    text = corpus(lengths=(9,) * 12, documents=range(12))
    donors = NextBatch(batch, roll).draw_donors(text)
    rows = np.arange(12).reshape(-1, batch)
    wanted = np.concatenate([np.roll(rows[(b + 1) % len(rows)], roll) for b in range(len(rows))])
    assert donors[:, 0].tolist() == wanted.tolist()


def test_a_sweep_uses_these_donors_and_counts_position_0():
    text = corpus(lengths=(9,) * 6, documents=(0, 0, 0, 1, 1, 1))
    run = make.sweep(language_model("llama"), text, original(3), progress=False)
    assert [row[0] for row in run.windows["donors"].to_pylist()] == [3, 4, 5, 0, 1, 2]
    assert run.plan["text"]["first_position"] == 0
    assert int(run.heads["count"].sel(filter="all").max()) == 6 * 8
    assert int(run.heads["count"].sel(filter="top 2%").max()) == max(1, int(0.02 * 48))


def test_resampling_the_first_position_does_nothing():
    """docs/methods.md 6.3: the same token, nothing before it, so the donors' output is the clean one."""
    text = corpus(lengths=(9,) * 6)
    text.tokens[:, 0] = 1
    run = make.sweep(language_model("gpt2"), text, original(3), progress=False)
    rows = run.tokens_frame()
    first = rows[rows["position"] == 0]
    assert len(first) and np.abs(first["total_effect"]).max() < 1e-12


def test_the_default_recipe_leaves_it_out_and_draws_from_other_documents():
    text = corpus(lengths=(9,) * 6, documents=(0, 0, 1, 1, 2, 2))
    run = make.sweep(language_model("llama"), text, recipe_named("default", text), progress=False)
    donors = [row[0] for row in run.windows["donors"].to_pylist()]
    assert all(donor // 2 != window // 2 for window, donor in enumerate(donors))
    assert run.plan["text"]["first_position"] == 1


def packed_by_hand(coder, texts, length, tokens):
    """TransformerLens' tokenize_and_concatenate, step by step (docs/methods.md 6.1), for a tokenizer with padding."""
    joined = coder.eos_token.join(texts)
    size = (len(joined) - 1) // 20 + 1
    pieces = [joined[start : start + size] for start in range(0, len(joined), size)]
    ids = np.concatenate([coder(piece)["input_ids"] for piece in pieces])
    padding = coder.pad_token_id if coder.pad_token_id is not None else coder.eos_token_id
    ids = ids[ids != padding]
    rows = ids[: len(ids) // (length - 1) * (length - 1)].reshape(-1, length - 1)
    count = (tokens // (length * 30) + 1) * 30
    return np.column_stack([np.full(count, coder.bos_token_id), rows[:count]])


@pytest.mark.parametrize("padded", [True, False])
def test_windows_are_packed_as_the_authors_pack_them(padded):
    coder = tokenizer()
    if not padded:
        coder.pad_token = None  # as GPT-2 and Pythia: padding is end-of-sequence, so separators vanish
    rng = np.random.default_rng(0)
    texts = ["".join(rng.choice(list("abcdefgh"), size)) for size in (61, 40, 123, 70)]
    documents = [Document(f"d{i}", text) for i, text in enumerate(texts)]
    made = original_windows(coder, documents, length=5, tokens=160, source="memory")
    assert made.tokens.tolist() == packed_by_hand(coder, texts, 5, 160).tolist()
    assert len(made) == 60 and recipe_named("original", made).batch == 30
    spelled = coder.decode(made.tokens[made.documents == 1]).replace(" ", "").replace("<s>", "")
    assert set(np.unique(made.documents)) <= {0, 1, 2, 3}
    assert spelled.replace("</s>", "") == texts[1]


@pytest.mark.parametrize(
    ("tokens", "length", "windows"),
    # docs/methods.md 6.1: 27 batches of 30 in Figures 2, 7 and 8, 261 in Figure 1's longer run, 60 windows in Figure 3
    [(100_000, 128, 810), (1_000_000, 128, 7830), (5_000, 100, 60), (3_840, 128, 60)],
)
def test_windows_are_as_many_as_the_authors_take(tokens, length, windows):
    assert original_amount(tokens, length) == (windows, 30)


@pytest.mark.parametrize("tokens", [24, 130, 131, 719])
def test_a_small_text_has_two_whole_batches_or_more(tokens):
    windows, batch = original_amount(tokens, 12)
    assert windows % batch == 0 and windows >= 2 * batch and tokens < windows * 12 <= 2 * tokens
    assert windows == (tokens // (12 * batch) + 1) * batch


def test_a_run_is_read_back_with_its_batches():
    """Three batches of five: nothing but the windows' own record tells that they are not of seven."""
    text = corpus(lengths=(9,) * 15, documents=range(15))
    text.provenance["batch"] = 5
    recipe = recipe_named("original", text)
    run = make.sweep(language_model("llama"), text, recipe, progress=False)
    assert recipe.batch == 5 and make.study_of(language_model("llama"), run, "original").recipe.batch == 5
    assert run.windows["donors"].to_pylist()[:6] == [[5], [6], [7], [8], [9], [10]]


def test_too_little_text_and_unknown_recipes_are_refused():
    with pytest.raises(SelfRepairError, match="takes 165, 15 windows of 11 in whole batches of 5"):
        original_windows(tokenizer(), [Document("d", "abc")], length=12, tokens=130, source="memory")
    with pytest.raises(SelfRepairError, match="no recipe 'paper'"):
        recipe_named("paper", corpus())
    with pytest.raises(SelfRepairError, match="next batch"):
        recipe_named("original", corpus(lengths=(9,), documents=(0,)))
    options = {"text": "builtin", "tokens": 60, "length": 12, "field": "text", "bos": "auto", "seed": 0}
    assert windows_for(tokenizer(), "default", **options).provenance["packing"] == "documents"


def test_a_run_of_another_recipe_is_not_taken_for_it():
    text = corpus(lengths=(9,) * 6)
    model = language_model("llama")
    run = measure(model, text, ablation=Zero(), filters=["all", "top:0.02"], components="none", progress=False)
    with pytest.raises(SelfRepairError, match="not by the original recipe"):
        make.study_of(model, run, "original")
    with pytest.raises(SelfRepairError, match="other weights"):
        make.study_of(language_model("gpt2"), run)
    assert make.study_of(model, run).recipe.first == 1

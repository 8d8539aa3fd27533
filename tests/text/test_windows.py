import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfrepair.errors import SelfRepairError
from selfrepair.text import Document, Windows, windows, windows_of_documents
from selfrepair.text import tokens as tokens_module
from selfrepair.text.tokens import encode

FOLDER = Path(__file__).parents[3] / "shared" / "models" / "neox-9m"


def lettered(sizes: list[int]) -> list[Document]:
    """Document i is one letter, repeated: a token tells its document."""
    return [Document(f"d{index}", chr(ord("a") + index) * size) for index, size in enumerate(sizes)]


def numbered(sizes: list[int]) -> list[Document]:
    """Text in which each place differs from its neighbours, and no two pieces of it are alike."""
    return [
        Document(f"d{index}", "".join(chr(80 + place // 2 % 40 if place % 2 else 48 + index) for place in range(size)))
        for index, size in enumerate(sizes)
    ]


sizes = st.lists(st.integers(0, 60), min_size=1, max_size=20)
lengths = st.integers(2, 20)
bos_choices = st.sampled_from(["auto", "always", "never"])


def attempt(*arguments, **options) -> Windows | None:
    try:
        return windows_of_documents(*arguments, **options)
    except SelfRepairError:
        return None


@pytest.mark.parametrize("packing", ["documents", "packed"])
@settings(max_examples=60)
@given(sizes=sizes, length=lengths, bos=bos_choices, seed=st.integers(-3, 99))
def test_every_token_belongs_to_its_document(tokenizer, packing, sizes, length, bos, seed):
    made = attempt(tokenizer, lettered(sizes), tokens=None, length=length, packing=packing, bos=bos, seed=seed)
    if made is None:
        return
    start = bos == "always"
    place = np.arange(length)
    real = place < made.lengths[:, None]
    assert ((made.documents >= 0) == real).all(), "padding, and only padding, is without a document; on the right"
    for window in range(len(made)):
        end = made.lengths[window]
        for position in range(start, end):
            letter = tokenizer.decode([made.tokens[window, position]])
            assert made.names[made.documents[window, position]] == f"d{ord(letter) - ord('a')}"
        if start:
            assert made.tokens[window, 0] == tokenizer.bos_token_id
            assert made.documents[window, 0] == made.documents[window, 1]
    if packing == "documents":
        assert all(len(documents) == 1 for documents in made.document_sets())
        assert (made.lengths * 2 >= length).all() and (made.lengths >= 2).all()
    else:
        assert (made.lengths == length).all()


@settings(max_examples=60)
@given(sizes=sizes, length=lengths, bos=st.booleans())
def test_packed_windows_joined_are_the_stream(tokenizer, sizes, length, bos):
    documents = numbered(sizes)
    made = attempt(tokenizer, documents, tokens=None, length=length, packing="packed", bos="always" if bos else "never")
    stream = "".join(document.text for document in documents)
    size = length - bos
    if made is None:
        assert len(stream) < size
        return
    joined = made.tokens[:, int(bos) :].ravel()
    assert tokenizer.decode(joined) == stream[: len(stream) // size * size]


@settings(max_examples=60)
@given(sizes=sizes, length=lengths, seed=st.integers(0, 99))
def test_apart_windows_hold_each_document_once(tokenizer, sizes, length, seed):
    """All windows of a document, put in order, give the document less a tail shorter than half a window."""
    documents = numbered(sizes)
    made = attempt(tokenizer, documents, tokens=None, length=length, seed=seed)
    found: dict[str, Counter] = {document.name: Counter() for document in documents}
    for window in range(0 if made is None else len(made)):
        text = tokenizer.decode(made.tokens[window, : made.lengths[window]])
        found[made.names[made.documents[window, 0]]][text] += 1
    for document in documents:
        rows = [document.text[place : place + length] for place in range(0, len(document.text), length)]
        least = max(length / 2, 2)
        assert found[document.name] == Counter(row for row in rows if len(row) >= least)


@settings(max_examples=40)
@given(sizes=sizes, length=lengths, seed=st.integers(0, 99), wanted=st.integers(1, 12))
def test_fewer_windows_are_the_first_of_more(tokenizer, sizes, length, seed, wanted):
    every = attempt(tokenizer, numbered(sizes), tokens=None, length=length, seed=seed)
    some = attempt(tokenizer, numbered(sizes), tokens=wanted * length, length=length, seed=seed)
    assert (some is None) == (every is None or len(every) < wanted)
    if some is None or every is None:
        return
    again = attempt(tokenizer, numbered(sizes), tokens=wanted * length, length=length, seed=seed)
    assert len(some) == wanted and some.fingerprint == again.fingerprint
    turns = Counter(some.documents[:, 0].tolist())
    usable = len({every.names[document] for document in every.documents[:, 0]})
    assert len(turns) == min(wanted, usable), "as many documents as there can be"
    for window in range(min(wanted, len(some.names))):
        assert some.names[some.documents[window, 0]] == every.names[every.documents[window, 0]]
        assert (some.tokens[window] == every.tokens[window]).all()


def test_the_seed_draws_the_windows(tokenizer):
    documents = numbered([400] * 5)
    made = [windows_of_documents(tokenizer, documents, tokens=50, length=10, seed=seed) for seed in (0, 0, 1)]
    assert made[0].fingerprint == made[1].fingerprint != made[2].fingerprint
    starts = [[tokenizer.decode(row) == d.text[:10] for row, d in zip(m.tokens, documents, strict=True)] for m in made]
    assert not all(starts[0]) and not all(starts[2]), "not always the beginning of a document"


@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_reading_stops_when_there_is_enough(tokenizer, packing):
    def source(count):
        yield from numbered([4] * 2 + [42] * count)  # the two short ones fill no window of 10
        raise AssertionError("read too far")

    enough = 5 if packing == "documents" else 1  # 4 + 4 + 42 tokens joined are just enough
    made = windows_of_documents(tokenizer, source(enough), tokens=45, length=10, packing=packing, seed=3)
    assert len(made) == 5
    with pytest.raises(AssertionError, match="read too far"):
        windows_of_documents(tokenizer, source(enough - 1), tokens=45, length=10, packing=packing, seed=3)


@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_tokens_count_in_windows(tokenizer, packing):
    for tokens, count in ((1, 1), (10, 1), (11, 2), (40, 4)):
        made = windows_of_documents(tokenizer, numbered([40]), tokens=tokens, length=10, packing=packing)
        assert len(made) == count
    with pytest.raises(SelfRepairError, match=r"--tokens 40 or fewer"):
        windows_of_documents(tokenizer, numbered([40]), tokens=41, length=10, packing=packing)
    assert (
        len(windows_of_documents(tokenizer, numbered([40]), tokens=41, length=10, packing=packing, at_most=True)) == 4
    )


def test_too_short_for_one_window(tokenizer):
    with pytest.raises(SelfRepairError, match=r"(?s)longest of 2 has 4 tokens.*--packing packed"):
        windows_of_documents(tokenizer, numbered([3, 4]), tokens=None, length=10)
    with pytest.raises(SelfRepairError, match=r"7 tokens in all"):
        windows_of_documents(tokenizer, numbered([3, 4]), tokens=None, length=10, packing="packed")
    assert len(windows_of_documents(tokenizer, numbered([3, 5]), tokens=None, length=10)) == 1


@pytest.mark.parametrize("options", [{"length": 1}, {"length": -5}, {"tokens": 0}, {"packing": "x"}, {"bos": "x"}])
def test_senseless_arguments_are_refused(tokenizer, options):
    with pytest.raises(SelfRepairError) as caught:
        windows_of_documents(tokenizer, numbered([99]), **{"tokens": 10, **options})
    assert caught.value.fix


def test_bos_as_the_tokenizer_wants_it(tokenizer, bos_tokenizer):
    def starts(of, bos):
        made = windows_of_documents(of, numbered([50]), tokens=None, length=10, bos=bos)
        assert made.provenance["bos"] == bos
        assert made.provenance["bos_token"] == (0 if (made.tokens[:, 0] == 0).all() else None)
        return made.provenance["bos_token"]

    assert [starts(tokenizer, bos) for bos in ("auto", "always", "never")] == [None, 0, None]
    assert [starts(bos_tokenizer, bos) for bos in ("auto", "always", "never")] == [0, 0, None]


def test_bos_of_a_tokenizer_without_one(tokenizer):
    class Without:
        bos_token_id = None

        def __call__(self, text, **options):
            return tokenizer(text, add_special_tokens=False)

    made = windows_of_documents(Without(), numbered([50]), tokens=None, length=10)
    assert made.provenance["bos_token"] is None
    assert made.provenance["special_tokens_in_text"] == "as the tokenizer does"
    with pytest.raises(SelfRepairError, match="has none"):
        windows_of_documents(Without(), numbered([50]), tokens=None, length=10, bos="always")


@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_special_tokens_in_text_stay_data(tokenizer, bos_tokenizer, packing):
    end = tokenizer.eos_token
    text = f"before {end} after {end}{end} end"
    for one in (tokenizer, bos_tokenizer):
        assert 0 in one(text, add_special_tokens=False)["input_ids"], "the tokenizer alone makes control tokens"
        made = windows_of_documents(
            one, [Document("d", text)], tokens=None, length=len(text), packing=packing, bos="never"
        )
        assert 0 not in made.tokens and len(made) == 1
        assert one.decode(made.tokens[0]) == text
        assert 0 in one(text, add_special_tokens=False)["input_ids"], "and is left as it was"


def test_long_texts_go_through_in_pieces_and_silently(tokenizer, monkeypatch):
    monkeypatch.setattr(tokens_module, "PIECE", 64)
    text = "word  and\nline " * 100 + "x" * 1000
    monkeypatch.setattr(tokenizer, "model_max_length", 8)
    monkeypatch.setattr(tokenizer, "deprecation_warnings", {})
    assert tokenizer.decode(encode(tokenizer, text)) == text
    assert not tokenizer.deprecation_warnings, "the warning about long texts was not given"


@pytest.mark.skipif(not FOLDER.is_dir(), reason="the trained model is not at hand")
def test_a_trained_tokenizer(monkeypatch):
    transformers = pytest.importorskip("transformers")
    trained = transformers.AutoTokenizer.from_pretrained(FOLDER)
    text = "The same text, said again;\n    indented  twice. " * 60
    whole = encode(trained, text)
    monkeypatch.setattr(tokens_module, "PIECE", 200)
    assert (encode(trained, text) == whole).all(), "pieces change no token"
    assert trained.eos_token_id not in encode(trained, f"a {trained.eos_token} b")
    assert trained.decode(encode(trained, f"a {trained.eos_token} b")) == f"a {trained.eos_token} b"


def test_select_scored_and_sets(tokenizer):
    made = windows_of_documents(tokenizer, numbered([16, 10]), tokens=None, length=10)
    assert made.lengths.tolist() == [10, 10, 6] and len(made) == 3 and made.length == 10
    scored = made.scored()
    assert scored.shape == (3, 9) and scored.sum(1).tolist() == [8, 8, 4] and not scored[:, 0].any()
    assert made.scored(first=0).sum(1).tolist() == [9, 9, 5]
    assert made.document_sets() == [frozenset({0}), frozenset({1}), frozenset({0})]
    part = made.select([2, 0])
    assert (part.tokens == made.tokens[[2, 0]]).all() and part.lengths.tolist() == [6, 10]
    assert part.names == made.names and part.fingerprint != made.fingerprint
    assert part.select([1, 0]).fingerprint == made.select(np.array([True, False, True])).fingerprint
    assert len(made.select([])) == 0 and made.select([]).document_sets() == []
    packed = windows_of_documents(tokenizer, numbered([4, 0, 8, 3]), tokens=None, length=6, packing="packed")
    assert packed.names == ("d0", "d2") and packed.document_sets() == [frozenset({0, 1}), frozenset({1})]


def test_the_fingerprint_covers_every_part(tokenizer):
    made = windows_of_documents(tokenizer, numbered([16, 10]), tokens=None, length=10)

    def changed(**parts):
        fields = {name: getattr(made, name) for name in ("tokens", "lengths", "documents", "names", "provenance")}
        return Windows(**{**fields, **parts}).fingerprint

    assert changed() == made.fingerprint == changed(provenance={}) and len(made.fingerprint) == 64
    other = {changed(tokens=made.tokens + 1), changed(lengths=made.lengths - 1), changed(names=("d0", "x"))}
    other |= {changed(documents=made.documents + 1), changed(tokens=made.tokens.reshape(3, 10)[::-1])}
    assert len(other - {made.fingerprint}) == 5


def test_shown(tokenizer):
    made = windows_of_documents(tokenizer, [Document("<script>&", "x" * 100)], tokens=None, length=10, source="<b>")
    assert "10 windows of 10 tokens" in repr(made)
    shown = made._repr_html_()
    assert "<script>" not in shown and "<b>," not in shown and "&lt;script&gt;&amp;" in shown
    assert "0 windows" in made.select([])._repr_html_()


def test_windows_of_builtin_and_of_a_file(tokenizer, tmp_path):
    made = windows(tokenizer, tokens=6 * 64, length=64)
    assert len(made) == 6 == len(made.names) == made.provenance["documents_read"]
    assert made.provenance["source"] == "builtin" and "python" in made.provenance
    json.dumps(made.provenance)
    path = tmp_path / "c.jsonl"
    path.write_text("".join(json.dumps({"body": document.text}) + "\n" for document in numbered([20, 30])))
    made = windows(tokenizer, str(path), tokens=None, length=10, field="body")
    assert made.names == ("c.jsonl:1", "c.jsonl:2") and len(made) == 5 and made.provenance["field"] == "body"
    assert made.provenance["path"] == str(path.resolve()) and made.provenance["bytes"] == path.stat().st_size
    assert made.provenance["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()

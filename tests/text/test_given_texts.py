"""Texts given as Python objects, and how much of a source is wanted."""

import numpy as np
import pytest

from selfrepair import SelfRepairError, windows
from selfrepair.text import Document, windows_of_documents

TEXTS = ["The first text, long enough for a window.", "The second one, which is another document."]


@pytest.mark.parametrize("given", [TEXTS, tuple(TEXTS), (text for text in TEXTS)], ids=["list", "tuple", "generator"])
def test_texts_in_a_list_are_documents(tokenizer, given):
    made = windows(tokenizer, given, length=16)
    documents = [Document(f"text {number}", text) for number, text in enumerate(TEXTS, 1)]
    same = windows_of_documents(tokenizer, documents, tokens=None, length=16)
    np.testing.assert_array_equal(made.tokens, same.tokens)
    assert made.names == ("text 1", "text 2") and made.provenance["source"] == "given texts"
    assert len(windows(tokenizer, TEXTS, tokens=16, length=16)) == 1


def test_documents_keep_their_names(tokenizer):
    made = windows(tokenizer, [Document("mine", TEXTS[0]), TEXTS[1]], length=16)
    assert made.names == ("mine", "text 2")


def test_a_path_is_a_source(tokenizer, tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXTS[0])
    assert windows(tokenizer, path, tokens=None, length=16).names == ("corpus.txt",)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (["fine", 5], "Text 2 of the list is a value of type int"),
        ([b"bytes"], "Text 1 of the list is a value of type bytes"),
        ([["nested"]], "type list"),
        (["half \ud800"], "half of a surrogate pair"),
        ([], "The list of texts holds no text"),
        (5, "a value of type int came"),
        (None, "a value of type NoneType came"),
        (b"bytes", "a value of type bytes came"),
        ({"text": "one"}, "a value of type dict came"),
        (["short"], "fills half a window"),
    ],
)
def test_what_is_no_text_is_refused_in_words(tokenizer, given, said):
    with pytest.raises(SelfRepairError, match=said):
        windows(tokenizer, given, length=16)


def test_of_a_source_it_has_to_be_said_how_much(tokenizer):
    with pytest.raises(SelfRepairError, match="How much text of 'builtin'") as caught:
        windows(tokenizer, "builtin")
    assert "tokens=None" in caught.value.fix

"""Documents that are there twice: found, said, counted as one, and never each other's donors."""

import json

import numpy as np
import pytest

from selfrepair.ablation.donors import draw_donors
from selfrepair.text import Document, windows, windows_of_documents

LETTERS = "abcdefghij"


def texts(*kinds: str) -> list[Document]:
    """One document for every letter; the same letter, the same text."""
    return [Document(f"d{place}", " ".join(f"{kind}{n}" for n in range(20))) for place, kind in enumerate(kinds)]


def cut(tokenizer, documents, **options):
    return windows_of_documents(tokenizer, documents, **{"tokens": None, "length": 12} | options)


@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_copies_count_as_one_document(tokenizer, packing):
    documents = texts("a", "b", "a", "c", "b")
    documents[4] = Document("d4", "\n\n" + documents[4].text.replace(" ", "\t ") + "  ")
    made = cut(tokenizer, documents, packing=packing)
    assert made.names == ("d0", "d1", "d3")
    found = made.provenance["duplicates"]
    assert found["documents"] == 2 and found["named"] == ["d2 = d0", "d4 = d1"]
    assert "2 of its documents duplicate others and count as one" in repr(made)
    joined = "".join(tokenizer.decode(row[:end]) for row, end in zip(made.tokens, made.lengths, strict=True))
    assert joined.count("a7") == 2, "no text is left out"


def test_copies_come_after_all_other_documents(tokenizer):
    """Few tokens still come from as many documents as there are."""
    made = cut(tokenizer, texts("a", "a", "a", "b", "c"), tokens=3 * 12)
    assert made.names == ("d0", "d3", "d4") and len(set(made.documents[:, 0])) == 3


def test_copies_are_never_each_others_donors(tokenizer):
    made = cut(tokenizer, texts(*"abcabcabc"))
    drawn = draw_donors(made, 2, 0)
    text = np.array([tokenizer.decode(row)[0] for row in made.tokens])
    first = np.array([next(one for one in tokenizer.decode(row) if one in "abc") for row in made.tokens])
    assert len(text) == len(made) and (first[drawn] != first[:, None]).all()


def test_documents_that_differ_only_where_nothing_is_measured_count_as_one(tokenizer):
    same = "the very same words in front of it, " * 2
    documents = [Document("x", same + "1"), Document("y", same + "2"), Document("z", "something else " * 6)]
    made = cut(tokenizer, documents, length=len(same), tokens=None)
    assert made.names == ("x", "z") and made.provenance["duplicates"]["named"] == ["y = x"]
    assert made.provenance["duplicates"]["windows"] == 1


def test_documents_with_something_of_their_own_stay_apart(tokenizer):
    header = "licence, twelve characters and more ".ljust(36)
    documents = [Document(name, header + 36 * letter) for name, letter in (("x", "p"), ("y", "q"), ("z", "r"))]
    made = cut(tokenizer, documents, length=36)
    assert len(made) == 6 and made.names == ("x", "y", "z")
    assert made.provenance["duplicates"] == {"documents": 0, "windows": 2, "named": []}
    assert "2 windows have the tokens of another" in repr(made)
    drawn = draw_donors(made, 2, 0)
    assert all((made.tokens[row] != made.tokens[window]).any(1).all() for window, row in enumerate(drawn))


def test_nothing_is_said_where_nothing_is_there_twice(tokenizer):
    made = cut(tokenizer, [*texts("a", "b"), Document("e", ""), Document("f", " \n")])
    assert "duplicates" not in made.provenance and "duplicate" not in repr(made)


def test_the_default_text_has_no_duplicates(tokenizer):
    made = windows(tokenizer, tokens=40 * 64)
    assert made.length == 64 and len(made.names) == 40 and "duplicates" not in made.provenance


def test_duplicates_are_said_when_a_file_is_read(tokenizer, tmp_path):
    path = tmp_path / "twice.jsonl"
    path.write_text("".join(json.dumps({"text": one.text}) + "\n" for one in texts(*"abba")))
    made = windows(tokenizer, str(path), tokens=None, length=12)
    assert made.provenance["duplicates"]["named"] == ["twice.jsonl:3 = twice.jsonl:2", "twice.jsonl:4 = twice.jsonl:1"]

"""Tokenizers that answer oddly, and files whose bytes or names are odd: read as they are, or refused in words."""

import numpy as np
import pytest
import torch

from selfrepair.errors import SelfRepairError
from selfrepair.model.vocabulary_rows import vocabulary_rows
from selfrepair.run.closeups.token_bytes import vocabulary_table
from selfrepair.run.planning.batch_size import require_known_tokens
from selfrepair.text import Document, read_documents, windows, windows_of_documents
from support import fresh_model, language_model

TEXTS = [Document(f"d{number}", f"{number} the cat sat on the mat") for number in range(4)]


class Callable:
    """A tokenizer of the least kind, with attributes and ids as they are given."""

    def __init__(self, ids=None, **attributes):
        self.ids = ids
        vars(self).update(attributes)

    def __call__(self, text, add_special_tokens=True, **_options):
        own = [byte % 90 for byte in text.encode()]
        return {"input_ids": own if self.ids is None else self.ids(own)}


class Reticent(Callable):
    """One that fails to say anything about itself."""

    @property
    def bos_token_id(self):
        raise RuntimeError("no begin token")

    split_special_tokens = is_fast = vocab_size = bos_token_id

    def __len__(self):
        raise RuntimeError("no length")


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


def failing(_ids):
    raise Wordless


ODD = {
    "beyond 32 bits": (lambda ids: [2**32 + one for one in ids], "token ids from 4294967"),
    "below 0": (lambda ids: [one - 100 for one in ids], "token ids from -"),
    "no whole numbers": (lambda ids: [one + 0.5 for one in ids], "not float64 of shape"),
    "truth values": (lambda ids: [True for _ in ids], "not bool of shape"),
    "a batch of one": (lambda ids: [ids], "of shape (1, "),
    "nothing": (lambda ids: None, "not object of shape ()"),
    "an exception without words": (failing, "fails on a text: Wordless"),
}


@pytest.mark.parametrize("what", ODD)
def test_what_are_no_token_ids_is_neither_rounded_nor_wrapped_around(what):
    ids, said = ODD[what]
    with pytest.raises(SelfRepairError) as refused:
        windows_of_documents(Callable(ids), TEXTS, tokens=16, length=8)
    assert said in str(refused.value) and "Callable" in str(refused.value) and refused.value.fix


def test_ids_in_a_tensor_are_ids():
    made = windows_of_documents(Callable(torch.tensor), TEXTS, tokens=16, length=8)
    assert (made.tokens == windows_of_documents(Callable(), TEXTS, tokens=16, length=8).tokens).all()


@pytest.mark.parametrize("number", ["7", [7], -1, 2**40, 1.0])
def test_a_begin_token_that_is_no_token(number):
    with pytest.raises(SelfRepairError, match="beginning-of-sequence token was asked for") as refused:
        windows_of_documents(Callable(bos_token_id=number), TEXTS, tokens=16, length=8, bos="always")
    assert str(number)[:5] in str(refused.value)


@pytest.mark.parametrize("kind", [Reticent, Callable])
def test_tokenizers_that_do_not_describe_themselves(kind):
    made = windows_of_documents(kind(all_special_tokens=None, all_special_ids=None), TEXTS, tokens=16, length=8)
    assert made.provenance["prefix"] == [] and made.provenance["special_tokens_in_text"] == "as the tokenizer does"
    assert vocabulary_rows(97, 97, Reticent())["known"] is None


def test_ids_below_zero_are_refused_before_a_model_reads_them():
    with pytest.raises(SelfRepairError, match="token id -100; ids begin at 0"):
        require_known_tokens(np.array([[3, 4, -100]]), language_model("llama"))


def test_json_lines_that_are_not_utf8_say_so(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "one"}\n', encoding="utf-16")
    with pytest.raises(SelfRepairError, match="is not UTF-8") as refused:
        list(read_documents(str(tmp_path / "a.jsonl")))
    assert "Save the file as UTF-8" in refused.value.fix


@pytest.mark.parametrize("name", ["a\x1b[31mred.txt", "\u202edetrevni.txt"])
def test_names_steer_no_terminal_from_python(tmp_path, name):
    (tmp_path / name).write_text("A text that is long enough for a window or two of eight tokens.", encoding="utf-8")
    made = windows(Callable(), str(tmp_path / name), tokens=16, length=8)
    shown = repr(made) + made._repr_html_()
    assert "\x1b" not in shown and "\u202e" not in shown and ".txt" in shown
    model = fresh_model("llama")
    object.__setattr__(model, "name", name)
    assert "\x1b" not in repr(model) and "\u202e" not in repr(model)


@pytest.mark.parametrize("error", [TypeError, ValueError])
def test_decoders_without_options_still_tell_their_tokens(error):
    class Decoder:
        def decode(self, ids, **options):
            if options:
                raise error("no options")
            return f"word{ids[0]}"

        def convert_ids_to_tokens(self, token):
            return f"word{token}"

    assert vocabulary_table(Decoder(), [3, 5]).to_pydict() == {"token": [3, 5], "bytes": [b"word3", b"word5"]}

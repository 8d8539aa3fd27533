"""Tokenizers of all kinds: what they put in front, what they refuse, what they choke on."""

import time

import numpy as np
import pytest
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from selfrepair import measure
from selfrepair.errors import SelfRepairError
from selfrepair.text import Document, windows_of_documents
from selfrepair.text import tokens as tokens_module
from selfrepair.text.tokens import Encoder, encode
from support import language_model

SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "[gMASK]", "<sop>")
TEXTS = [Document(f"d{number}", f"{number} the cat sat on the mat and the dog ran to the park") for number in range(4)]


def made(template: str, **special: str) -> PreTrainedTokenizerFast:
    """A byte-level tokenizer that surrounds texts with special tokens."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {name: number for number, name in enumerate([*SPECIAL, *alphabet])}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens(list(SPECIAL))
    backend.post_processor = processors.TemplateProcessing(
        single=template, special_tokens=[(name, vocabulary[name]) for name in SPECIAL]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend, **special)


@pytest.mark.parametrize(
    ("template", "special", "prefix"),
    [
        ("[gMASK] <sop> $A", {"eos_token": "</s>"}, [4, 5]),  # GLM
        ("</s> $A", {"bos_token": "<s>", "eos_token": "</s>"}, [2]),  # XGLM
        ("<s> $A </s>", {"cls_token": "<s>", "sep_token": "</s>"}, [0]),  # BERT's kind
        ("$A </s>", {"bos_token": "<s>", "eos_token": "</s>"}, []),  # T5: only behind
        ("$A", {"bos_token": "<s>"}, []),
    ],
)
@pytest.mark.parametrize("packing", ["documents", "packed"])
def test_windows_start_as_the_tokenizer_starts_texts(template, special, prefix, packing):
    tokenizer = made(template, **special)
    windows = windows_of_documents(tokenizer, TEXTS, tokens=64, length=16, packing=packing)
    assert (windows.tokens[:, : len(prefix)] == prefix).all()
    assert not np.isin(windows.tokens[:, len(prefix) :], [0, 1, 2, 4, 5]).any(), "and nothing behind"
    assert windows.provenance["prefix"] == prefix
    assert windows.provenance["bos_token"] == (prefix[0] if prefix else None)
    assert (windows.documents[:, 0] == windows.documents[:, len(prefix)]).all()
    joined = "".join(document.text for document in TEXTS)
    assert tokenizer.decode(windows.tokens[0, len(prefix) :]) in joined
    assert windows.scored()[:, : max(1, len(prefix))].sum() == 0 and windows.scored()[:, max(1, len(prefix))].all()


def test_always_adds_a_bos_token_only_where_the_tokenizer_adds_nothing():
    def start(template, bos):
        return list(Encoder(made(template, bos_token="<s>")).prefix(bos))

    assert [start("$A", bos) for bos in ("auto", "always", "never")] == [[], [0], []]
    assert [start("[gMASK] <sop> $A", bos) for bos in ("auto", "always", "never")] == [[4, 5], [4, 5], []]


def test_a_prefix_leaves_room_for_a_prediction():
    tokenizer = made("[gMASK] <sop> $A")
    with pytest.raises(SelfRepairError, match="puts 2 tokens in front"):
        windows_of_documents(tokenizer, TEXTS, tokens=None, length=3)
    assert windows_of_documents(tokenizer, TEXTS, tokens=None, length=4).scored().any(1).all()


def test_what_the_tokenizer_puts_in_front_counts_in_no_statistics():
    tokenizer = made("[gMASK] <sop> $A")
    windows = windows_of_documents(tokenizer, TEXTS, tokens=4 * 12, length=12)
    object.__setattr__(windows, "tokens", windows.tokens % 90)  # the model's vocabulary is small
    run = measure(language_model("gpt2"), windows, ablation="zero", heads=[(1, 0)], replicates=4, progress=False)
    assert run.plan["text"]["first_position"] == 2 and run.plan["text"]["prefix"] == [4, 5]
    assert run.tokens["position"].to_numpy().min() == 2
    assert run.heads["count"].max() == windows.scored(2).sum()


class Choosy:
    """Takes no option that it does not know, as mistral-common's does not."""

    split_special_tokens = False
    all_special_tokens, all_special_ids = ("<s>",), (0,)

    def __init__(self, *known: str) -> None:
        self.known, self.tokenizer = {"add_special_tokens", *known}, made("<s> $A")

    def __call__(self, text, **options):
        if refused := set(options) - self.known:
            raise ValueError(f"{refused} are not supported")
        return {"input_ids": [7 + ord(one) % 90 for one in text]}


@pytest.mark.parametrize("known", [(), ("verbose",), ("verbose", "split_special_tokens")])
def test_options_that_a_tokenizer_refuses_are_left_out(known):
    windows = windows_of_documents(Choosy(*known), TEXTS, tokens=48, length=16)
    assert len(windows) == 3
    assert windows.provenance["special_tokens_in_text"] == "text", "it takes them for text, whatever its options"


def test_whether_special_tokens_stay_text_is_looked_at():
    tokenizer = made("$A", bos_token="<s>")
    assert Encoder(tokenizer).special_tokens == "text"

    class Deaf:
        split_special_tokens = False
        all_special_tokens, all_special_ids = tokenizer.all_special_tokens, tokenizer.all_special_ids

        def __call__(self, text, **_options):
            return tokenizer(text, add_special_tokens=False)

    assert Encoder(Deaf()).special_tokens == "as the tokenizer does"


def bomb() -> PreTrainedTokenizerFast:
    """A tokenizer whose pattern takes exponential time on long runs of x: native code panics at some point."""
    tokenizer = made("$A")
    backend = tokenizer.backend_tokenizer
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex("(x+x+)+y"), "isolated"), pre_tokenizers.ByteLevel(False, use_regex=False)]
    )
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def test_a_panic_of_the_tokenizer_is_a_sentence():
    documents = [TEXTS[0], Document("bad", "x" * 200)]
    with pytest.raises(SelfRepairError, match=r"(?s)fails on bad: PanicException.*Leave the text out"):
        windows_of_documents(bomb(), documents, tokens=None, length=16)


def test_a_tokenizer_that_does_not_come_back_is_not_waited_for(monkeypatch):
    """Native code cannot be interrupted; waiting for it can."""
    monkeypatch.setattr(tokens_module, "PATIENCE", 0.2)

    class Slow:
        is_fast = True

        def __call__(self, text, **_options):
            time.sleep(0 if len(text) < 9 else 3)
            return {"input_ids": [5] * len(text)}

    started = time.monotonic()
    with pytest.raises(SelfRepairError, match=r"not done with 1,000 characters of a text after 0.2 seconds"):
        encode(Slow(), "x" * 1000)
    assert time.monotonic() - started < 2


def test_something_that_is_no_tokenizer_is_refused():
    with pytest.raises(SelfRepairError, match="NoneType"):
        windows_of_documents(None, TEXTS, tokens=None, length=16)

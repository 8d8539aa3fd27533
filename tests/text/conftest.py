"""Byte-level tokenizers built in memory: one token a byte, so that tokens can be traced to their text."""

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

END = "<|endoftext|>"


def byte_tokenizer(adds_bos: bool) -> PreTrainedTokenizerFast:
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {character: index + 1 for index, character in enumerate(alphabet)} | {END: 0}
    backend = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([END])
    if adds_bos:
        backend.post_processor = processors.TemplateProcessing(single=f"{END} $0", special_tokens=[(END, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=END, eos_token=END)


@pytest.fixture(scope="session")
def tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(adds_bos=False)


@pytest.fixture(scope="session")
def bos_tokenizer() -> PreTrainedTokenizerFast:
    return byte_tokenizer(adds_bos=True)

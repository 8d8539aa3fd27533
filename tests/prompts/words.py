"""A tokenizer that has words with their leading space as single tokens, and pieces of other words."""

from tokenizers import Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast

NAMES = (" Mary", " John", " Anna", " Tom")
WORDS = (
    *NAMES,
    *(" are", " he", " she"),
    *(
        "When",
        " and",
        " went",
        " to",
        " the",
        " store",
        ",",
        " gave",
        " a",
        " drink",
        " house",
        " is",
        "Paris",
        " Paris",
    ),
    *(
        " Rome",
        " The",
        "The",
        " war",
        " from",
        " year",
        " 17",
        "17",
        " 1800",
        " 18",
        " Mon",
        "treal",
        "real",
        " Mos",
        "cow",
    ),
    *(f"{year:02d}" for year in range(100)),
)
CHARACTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 .,:?<>|_\n"


def tokenizer(front: bool = False, special: str = "<|end|>") -> PreTrainedTokenizerFast:
    """`" Mary"` is one token, `" Montreal"` two; with `front`, the special token stands before every text."""
    words = [word for word in dict.fromkeys(WORDS) if len(word) > 1 or word == ","]
    pieces = [(special, 0.0), *((word, -2.0) for word in words)]
    pieces += [(one, -10.0) for one in CHARACTERS if one not in words]
    made = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    made.decoder = decoders.Fuse()
    if front:
        made.post_processor = processors.TemplateProcessing(single=f"{special} $A", special_tokens=[(special, 0)])
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token=special, eos_token=special)

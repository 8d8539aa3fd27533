"""Small files in the formats of other tools, with sentences of our own; written as these tools write them."""

import csv
import io
import json

from prompts.words import tokenizer

TEXT = "When Mary and John went to the store, John gave a drink to"
FLIPPED = "When Mary and John went to the store, Mary gave a drink to"
FRESH = "When Anna and Tom went to the store, Anna gave a drink to"
YEAR, OTHER_YEAR = "The war from the year 1732 to the year 17", "The war from the year 1701 to the year 17"


def identity(word: str) -> int:
    """The id of a word that is one token."""
    (number,) = tokenizer()(word, add_special_tokens=False)["input_ids"]
    return number


def table(*rows: dict[str, object]) -> str:
    """Rows as pandas writes them."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def lines(*rows: dict[str, object]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


MARY, JOHN = identity(" Mary"), identity(" John")
AUTO_CIRCUIT = {
    "seq_labels": TEXT.replace(",", " ,").split(),
    "word_idxs": {"IO": 1, "S1": 3, "S2": 9, "end": 13},
    "prompts": [{"clean": TEXT, "corrupt": FRESH, "answers": [" Mary"], "wrong_answers": [" John"]}],
}
EAP_IOI = {
    "": 826,
    **{"clean": TEXT, "corrupted": FRESH, "corrupted_hard": FLIPPED},
    **{"correct_idx": MARY, "incorrect_idx": JOHN},
}
MIB_IOI = {
    "prompt": TEXT,
    "metadata": {"indirect_object": "Mary", "subject": "John", "random_c": "Tom"},
    "s2_io_flip_counterfactual": {"prompt": FLIPPED},
    "abc_counterfactual": {"prompt": FRESH},
}
MIB_CHOICE = {
    "prompt": "When? A. a store B. a house:",
    "choices": {"label": ["A", "B"], "text": ["a store", "a house"]},
    "answerKey": 1,
    "symbol_counterfactual": {
        "prompt": "When? C. a store D. a house:",
        "choices": {"label": ["C", "D"], "text": ["a store", "a house"]},
        "answerKey": 1,
    },
}
ARITHMETIC = {
    "prompt": "The 17 and 15:",
    **{"label": 32, "operator": "+"},
    "random_counterfactual": {"prompt": "The 17 and 21:", "label": 38},
}
EWOK = {
    **{"Context1": "Mary went to the store.", "Context2": "John went to the house."},
    **{"Target1": "Mary is the war.", "Target2": "John is the war.", "Domain": "places"},
}
KIT_TABLE = table(
    {"question": "Paris is", "answer": "Paris", "corrupted": "Paris is", "corrupt_answer": "Rome"},
    {"question": "The war from\n", "answer": "17", "corrupted": "The war to\n", "corrupt_answer": "18"},
)
KIT_TASK = """\
name: capitals
source: {type: csv, path: elsewhere/capitals.csv}
schema: {prompt: question, answer: answer, corrupted: corrupted, corrupted_answer: corrupt_answer}
metric: logit_diff
"""
COAX = {"prompt": TEXT, "io": " Mary", "s": " John"}
CAUSALAB = {
    "input": {"raw_input": TEXT, "raw_output": " Mary"},
    "counterfactual_inputs": [{"raw_input": FLIPPED, "raw_output": " John"}, {"raw_input": FRESH}],
}
OWN = {
    **{"id": "a", "group": "ABBA", "text": TEXT, "corrupt": FRESH, "answers": [" Mary"], "wrong": [" John"]},
    **{"position": -1, "spans": {"IO": [1, 2], "S2": [9, 10]}, "weight": 2},
}

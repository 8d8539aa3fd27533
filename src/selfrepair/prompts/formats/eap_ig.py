"""Tables of EAP-IG: `clean, corrupted` and, by task, columns of token ids, years or numbers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.content import Content, Row
from selfrepair.prompts.formats.foreign import Foreign
from selfrepair.prompts.formats.own import token_ids
from selfrepair.prompts.formats.read import Wishes, each_row, text_of
from selfrepair.prompts.formats.years import Years
from selfrepair.prompts.prompt import Answer, Dropped, Prompt, Unusable
from selfrepair.reading import parsed_json

PAIRS = (  # columns with the id of the right and of the wrong token, or with lists of them
    ("correct_idx", "incorrect_idx"),
    ("country_idx", "corrupted_country_idx"),
    ("clean_answer_idx", "corrupted_answer_idx"),
    ("answers_idx", "corrupted_answers_idx"),
)
VERBS = ((" is", " are"), (" was", " were"), (" has", " have"), (" does", " do"))  # singular, plural
_EXPECTED_IN = {  # by column of token ids: the columns that have their words
    "correct_idx": ("clean",),
    "incorrect_idx": ("clean", "corrupted", "corrupted_hard"),
    "country_idx": ("country",),
    "corrupted_country_idx": ("corrupted_country",),
    "clean_answer_idx": (),
    "corrupted_answer_idx": (),
    "answers_idx": ("answers",),
    "corrupted_answers_idx": ("corrupted_answers",),
}
_PRONOUNS = "he she him her his hers they them their"
_LONGEST = 2**16  # characters of a list of ids

Sides = Callable[[Row, Prompt], Prompt]


def detect(content: Content) -> bool:
    """See `Format`."""
    return {"clean", "corrupted"} <= set(content.columns) and _task(content.columns) is not None


def _task(columns: tuple[str, ...]) -> str | None:
    if any(set(pair) <= set(columns) for pair in PAIRS):
        return "token ids"
    if "plural" in columns:
        return "subject-verb agreement"
    return "greater-than" if _year_column(columns) else None


def _year_column(columns: tuple[str, ...]) -> str:
    """Of greater-than: `correct_idx`, which holds a year and no token id; `label` in the tutorials' file."""
    return next((name for name in ("correct_idx", "label") if name in columns), "")


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`."""
    task = _task(content.columns)
    wishes.facts["task"] = task
    twin = wishes.counterfactual or "corrupted"
    if twin not in content.columns:
        raise SelfRepairError(
            f"There is no column {twin!r} to take twins from.",
            f"There are: {', '.join(name for name in content.columns if name.startswith('corrupted'))}.",
        )
    wishes.facts["counterfactual"] = twin
    wishes.refuse_unused("counterfactual", *(["ids_of"] if task == "token ids" else []))
    makers = {"token ids": _by_ids, "greater-than": _by_year, "subject-verb agreement": _by_number}
    with_answers = makers[str(task)](content, wishes)

    def convert(row: Row) -> Prompt:
        bare = Prompt(text_of(row, "clean"), corrupt=text_of(row, twin), group=str(row.get("group") or ""))
        return with_answers(row, bare)

    return each_row(content, wishes, convert)


def _by_ids(content: Content, wishes: Wishes) -> Sides:
    columns = next(pair for pair in PAIRS if set(pair) <= set(content.columns))
    foreign = Foreign(wishes, f"Column {columns[0]!r} of {content.name}")

    def answers(row: Row, prompt: Prompt) -> Prompt:
        sides = []
        for column in columns:
            texts = tuple(map(foreign.text, _listed(row[column])))
            _require_expected(texts, column, row)
            sides.append(texts)
        return _with(prompt, sides[0], sides[1])

    return answers


def _require_expected(texts: tuple[str, ...], column: str, row: Row) -> None:
    """Refuses tokens that cannot be the answers: nothing else tells that ids belong to another tokenizer.

    Names and colours stand in the prompt, countries and kinds in columns of their own, and pronouns are few.

    Raises:
        Unusable: naming the first.
    """
    where = _PRONOUNS
    if _EXPECTED_IN[column]:
        where = " ".join(str(row.get(name) or "") for name in _EXPECTED_IN[column])
    for text in texts if where else ():
        word = text.strip()
        if not word or re.search(rf"(?<!\w){re.escape(word)}", where) is None:
            raise Unusable(
                f"Its {column} stands for {text!r}, which is not in {where[:60]!r}. Are its ids those of the tokenizer "
                "that --ids-of names?"
            )


def _listed(value: object) -> tuple[object, ...]:
    """Token ids of a cell: one, or a list in JSON. Nothing is evaluated."""
    if not isinstance(value, str) or not value.strip().startswith("["):
        return (value,) if not isinstance(value, list) else token_ids(value, "token ids")
    if len(value) > _LONGEST:
        raise Unusable("Its list of token ids is too long.")
    try:
        return token_ids(parsed_json(value), "token ids")
    except ValueError:
        raise Unusable(f"{value[:40]!r} is no list of token ids.") from None


def _by_year(content: Content, wishes: Wishes) -> Sides:
    years, column = Years(wishes), _year_column(content.columns)
    return lambda row, prompt: years.prompt(prompt, row[column])


def _by_number(_content: Content, wishes: Wishes) -> Sides:
    """Upstream compares all verbs of a list that is not in the file; here, those of `VERBS` that are one token."""
    vocabulary = wishes.vocabulary()
    verbs = [pair for pair in VERBS if all(len(vocabulary.encode(verb)) == 1 for verb in pair)]
    if not verbs:
        raise SelfRepairError(
            "None of the verbs that tell singular from plural is one token of this tokenizer.",
            "Take another model, or write the answers yourself (docs/prompts.md).",
        )
    wishes.facts["verbs"] = [list(pair) for pair in verbs]
    singular, plural = (tuple(pair[number] for pair in verbs) for number in (0, 1))

    def answers(row: Row, prompt: Prompt) -> Prompt:
        number = str(row["plural"]).strip()
        if number not in ("0", "1"):
            raise Unusable(f"plural is {number!r:.40}; 0 or 1 was expected.")
        return _with(prompt, *((plural, singular) if number == "1" else (singular, plural)))

    return answers


def _with(prompt: Prompt, right: tuple[Answer, ...], wrong: tuple[Answer, ...]) -> Prompt:
    return Prompt(prompt.text, right, wrong, prompt.corrupt, group=prompt.group)

"""CircuitKIT's tables of questions and answers, alone or described by a task file in YAML."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from selfrepair.errors import SelfRepairError
from selfrepair.prompts.formats.content import Content, Row, load_content
from selfrepair.prompts.formats.read import Wishes, each_row, text_of
from selfrepair.prompts.prompt import Dropped, Prompt, Unusable
from selfrepair.reading import parsed_json

_COLUMNS = {  # names that its examples use, in files without a task file
    "prompt": ("prompt", "question"),
    "answer": ("answer",),
    "corrupted": ("corrupted", "corrupted_prompt"),
    "corrupted_answer": ("corrupted_answer", "corrupt_answer"),
}
_KNOWN = (*_COLUMNS, "choices")
_VARIABLE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
_MORE = re.compile(r"\{[{%#]")  # of Jinja's language, beside variables


def detect(content: Content) -> bool:
    """See `Format`."""
    if isinstance(content.document, dict):
        return {"schema", "source"} <= set(content.document)
    schema = _schema(content.columns)
    return {"prompt", "answer"} <= set(schema)


def _schema(columns: tuple[str, ...]) -> dict[str, str]:
    schema = {key: next((name for name in names if name in columns), None) for key, names in _COLUMNS.items()}
    return {key: name for key, name in schema.items() if name is not None}


def read(content: Content, wishes: Wishes) -> Iterator[Prompt | Dropped]:
    """See `Format`. Answers get the space that they lack: CircuitKIT takes the first token of the bare word."""
    wishes.refuse_unused()
    template = None
    if isinstance(content.document, dict):
        content, schema, template = _task(content, wishes)
    else:
        schema = _schema(content.columns)
    missing = [name for name in schema.values() if name not in content.columns]
    if missing or not {"prompt", "answer"} <= set(schema):
        raise SelfRepairError(
            f"{content.name} has no column {missing[0] if missing else 'for prompt and answer'!r}.",
            f"There are: {', '.join(map(repr, content.columns))}; the task file's schema says which is which.",
        )
    wishes.facts.update({"schema": schema, "answers_given_a_space": 0})
    return each_row(content, wishes, lambda row: _prompt(row, schema, template, wishes))


def _task(content: Content, wishes: Wishes) -> tuple[Content, dict[str, str], str | None]:
    """The table that a task file describes, with its schema and template."""
    source, schema, template = (content.document.get(key) for key in ("source", "schema", "prompt_template"))
    if not isinstance(source, dict) or not isinstance(schema, dict):
        raise SelfRepairError(f"source and schema of {content.name} are no mappings.", "See CircuitKIT's examples.")
    unknown = [key for key, name in schema.items() if key not in _KNOWN or not isinstance(name, str)]
    if unknown:
        raise SelfRepairError(
            f"The schema of {content.name} has {unknown[0]!r:.40}.", f"Columns are named for {', '.join(_KNOWN)}."
        )
    if content.document.get("corruption") and "corrupted" not in schema:
        raise SelfRepairError(
            f"{content.name} asks CircuitKIT to make twins (corruption); its file has none.",
            "Let CircuitKIT write a corrupted column, or take corruption out and ablate by zero, mean or resampling.",
        )
    if template is not None and (not isinstance(template, str) or _MORE.search(_VARIABLE.sub("", template))):
        raise SelfRepairError(
            f"The prompt_template of {content.name} is a program.", "Only {{ column }} is filled in here."
        )
    table = load_content(content.path.with_name(_file_name(source, content.name)))
    wishes.facts.update({"table": table.name, "table_sha256": table.sha256, "prompt_template": template})
    return table, schema, template


def _file_name(source: Mapping[str, Any], name: str) -> str:
    """The table's name: it is looked for beside the task file, and nowhere else, whatever folder is named."""
    given = source.get("path") or source.get("path_or_id")
    kind = source.get("type")
    if kind not in ("csv", "jsonl") or not isinstance(given, str):
        raise SelfRepairError(
            f"The source of {name} is of type {kind!r:.40}; a csv or jsonl file was expected.",
            "Save the data set as JSON lines and name it.",
        )
    last = re.split(r"[/\\]", given)[-1]
    if last in ("", ".", "..") or not last.lower().endswith(f".{kind}"):
        raise SelfRepairError(f"The source of {name} is {given!r:.80}, no .{kind} file.", "Name the file.")
    return last


def _prompt(row: Row, schema: Mapping[str, str], template: str | None, wishes: Wishes) -> Prompt:
    text = _filled(row, template) if template else text_of(row, schema["prompt"])
    twin = row.get(schema["corrupted"]) if "corrupted" in schema else None
    corrupt = None
    if twin:
        corrupt = text_of(row, schema["corrupted"])
        corrupt = _filled({**row, schema["prompt"]: corrupt}, template) if template else corrupt
    right = _answer(row, schema["answer"])
    wrong = [_answer(row, schema["corrupted_answer"])] if "corrupted_answer" in schema else []
    if not wrong and "choices" in schema:
        wrong = [choice for choice in _choices(row[schema["choices"]]) if choice != right]
    bare = Prompt(text, (right,), tuple(wrong), corrupt)
    if text[-1:].isspace():
        return bare
    spaced = replace(bare, answers=tuple(map(_spaced, (right,))), wrong=tuple(map(_spaced, wrong)))
    wishes.facts["answers_given_a_space"] = int(str(wishes.facts["answers_given_a_space"])) + (spaced != bare)
    return spaced


def _filled(row: Mapping[str, Any], template: str) -> str:
    missing = [name for name in _VARIABLE.findall(template) if name not in row]
    if missing:
        raise Unusable(f"The template names {missing[0]!r}, which is no column.")
    return _VARIABLE.sub(lambda match: str(row[match[1]]), template)


def _answer(row: Mapping[str, Any], name: str) -> str:
    value = row.get(name)
    if value is None or value == "" or isinstance(value, list | dict | bool):
        raise Unusable(f"It has no answer under {name!r}.")
    return str(value)


def _choices(value: object) -> list[str]:
    try:
        listed = parsed_json(value) if isinstance(value, str) else value
    except (json.JSONDecodeError, ValueError):
        listed = None
    if not isinstance(listed, list):
        raise Unusable(f"Its choices {value!r:.40} are no list.")
    return [str(choice) for choice in listed]


def _spaced(answer: str) -> str:
    return answer if answer[:1].isspace() else f" {answer}"

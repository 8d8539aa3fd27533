"""Audits to make pages of: a planted circuit that is covered for, and a random model with hostile texts."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
from attention_prompts import prompts_of
from audit_prompts import asked_prompts

from selfrepair import Head, load
from selfrepair.questions.circuit.audit import audit
from selfrepair.questions.page.page_extras import extras
from selfrepair.questions.question import Question
from selfrepair.questions.question_settings import AuditSettings
from support import language_model, roomy
from zoo.planted import ANSWER, BOS, NEUTRAL, OTHER, POSITION, SOURCE, TASK, re_aimed_suppressor

HOSTILE = (
    "</script><script>window.hacked = 1</script>",
    '<img src=x onerror="window.hacked = 1">',
    "\u202eabc\u202c\u200f",
    "\x00\x07\x1b\x7f",
    "👩‍🚀",
    " \n\n\t ",
    "&amp;<b>bold</b>",
    "\"'`${1+1}",
    "سلام",
)
NAME = '</title><img src=x onerror="window.hacked = 1">'


class Tokenizer:
    """Its tokens are as hostile as tokens get."""

    def decode(self, tokens):
        return HOSTILE[tokens[0] % len(HOSTILE)]


@cache
def covered():
    """A primary head and a suppressor that is re-aimed when it is gone; the circuit is the primary alone."""
    case = re_aimed_suppressor(0.3)
    tokens = np.array([[BOS, SOURCE, TASK, ANSWER]] * 4)
    prompts = prompts_of(tokens, (POSITION + 1,) * 4, (ANSWER,) * 4, (OTHER, NEUTRAL, OTHER, NEUTRAL))
    question = Question(load(roomy(case.model)), prompts, AuditSettings(ablation="zero", operators=(), controls=3))
    return question, audit(question, {"movers": (Head(0, 0),)})


@cache
def hostile():
    """Prompts, names and tokens that try to be markup; nothing there can be measured surely."""
    prompts = asked_prompts((7, 9, 7, 12), groups=1)
    some = replace(prompts, ids=tuple(HOSTILE[:4]), groups=(NAME,) * 4)
    model = replace(language_model("gpt2"), tokenizer=Tokenizer(), name=NAME)
    question = Question(model, some, AuditSettings(ablation="zero", operators=("mean",), controls=2, top=3))
    return question, audit(question, {HOSTILE[0]: (Head(0, 1), Head(1, 0)), "others": (Head(1, 2),)})


@cache
def page_of(name: str, edges: bool = True) -> str:
    from selfrepair.questions.page.write_audit import audit_page

    question, found = {"covered": covered, "hostile": hostile}[name]()
    return audit_page(question, found, extras(question, found, 1e-12, edges))

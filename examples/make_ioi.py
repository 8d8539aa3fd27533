"""Write `ioi.jsonl`: indirect-object prompts in eight templates, each with a twin of as many tokens and other names.

python examples/make_ioi.py ioi.jsonl
selfrepair prompts ioi.jsonl
selfrepair audit --prompts ioi.jsonl --circuit 23.3,29.1,23.0
"""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path

TEMPLATES = (
    "When {A} and {B} went to the {place}, {S} gave a {thing} to",
    "Then, {A} and {B} had a lot of fun at the {place}. {S} gave a {thing} to",
    "After {A} and {B} went to the {place}, {S} handed a {thing} to",
    "While {A} and {B} were working at the {place}, {S} gave a {thing} to",
    "Friends {A} and {B} found a {thing} at the {place}. {S} gave it to",
    "Then, {A} and {B} were thinking about going to the {place}. {S} wanted to give a {thing} to",
    "Afterwards, {A} and {B} went to the {place}. {S} gave a {thing} to",
    "The {place} {A} and {B} went to had a {thing}. {S} gave it to",
)
NAMES = ["John", "Mary", "Tom", "James", "Paul", "Mark", "David", "Peter", "Sarah", "Anna", "Michael", "Robert"]
PLACES, THINGS = ["store", "park", "school", "office", "garden", "station"], ["drink", "book", "ring", "snack", "bone"]


def prompts(number: int = 64, seed: int = 0) -> list[dict[str, object]]:
    """Prompts in turn from each template; `B` speaks, so the answer is `A`. Twins name three other people."""
    draw, rows = random.Random(seed), []
    for place in range(number):
        template = TEMPLATES[place % len(TEMPLATES)]
        one, other, *others = draw.sample(NAMES, 5)
        words = {"place": draw.choice(PLACES), "thing": draw.choice(THINGS)}
        rows.append(
            {
                "id": f"ioi {place + 1}",
                "group": f"template {place % len(TEMPLATES) + 1}",
                "text": template.format(A=one, B=other, S=other, **words),
                "corrupt": template.format(A=others[0], B=others[1], S=others[2], **words),
                "answers": [f" {one}"],
                "wrong": [f" {other}"],
            }
        )
    return rows


if __name__ == "__main__":
    lines = "".join(json.dumps(row) + "\n" for row in prompts())
    Path(sys.argv[1] if len(sys.argv) > 1 else "ioi.jsonl").write_text(lines, "utf-8")

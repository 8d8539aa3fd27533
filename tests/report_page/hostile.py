"""Tokens as hostile as tokens get, how the page has to show them, and a small real run made of them."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa

from selfrepair import Run, measure
from selfrepair.results.extras import SCHEMAS, Extras
from support import corpus, language_model

HOSTILE = {
    "script": b"</script><script>window.hacked = 1</script>",
    "image": b'<img src=x onerror="window.hacked = 1">',
    "comment": b"<!--<script>",
    "right to left": "\u202eabc\u202c\u200f".encode(),
    "control": b"\x00\x07\x1b\x7f",
    "emoji": "👩‍🚀".encode(),
    "half": b"\xe2\x82",
    "newline": b" \n\n  ",
    "long": b"a" * 3000,
    "markup": b"&amp;<b>bold</b>",
    "quotes": b"\"'`${1+1}",
    "arabic": "سلام".encode(),
    "nothing": b"",
}
SHOWN = {
    "script": "</script><script>window.hacked = 1</script>",
    "image": '<img src=x onerror="window.hacked = 1">',
    "comment": "<!--<script>",
    "right to left": "⟨U+202E⟩abc⟨U+202C⟩⟨U+200F⟩",
    "control": "␀␇␛␡",
    "emoji": "👩‍🚀",
    "half": "⟨E2⟩⟨82⟩",
    "newline": " ⏎⏎  ",
    "long": "a" * 3000,
    "markup": "&amp;<b>bold</b>",
    "quotes": "\"'`${1+1}",
    "arabic": "سلام",
    "nothing": "",
}
NAMES = ("plain.txt", "</script><img src=x onerror=window.hacked=1>", "a \u202e name")
FIRST = 3  # the lowest token of `corpus`


def pieces() -> dict[int, bytes]:
    """Bytes of every token of the corpus: hostile ones, again and again."""
    texts = list(HOSTILE.values())
    return {token: texts[(token - FIRST) % len(texts)] for token in range(FIRST, 97)}


def small_run(ablation, out):
    """A real run of a tiny model, saved."""
    windows = replace(corpus((12,) * 6, length=12), names=NAMES)
    options = {"sample": 20, "replicates": 40, "filters": ["all", "top:0.2"], "progress": False}
    return measure(language_model("gpt2"), windows, ablation=ablation, out=out, **options)


def with_texts(run: Run) -> Run:
    """The same run with the hostile vocabulary."""
    known = pieces()
    texts = [known.get(token, b"other") for token in range(128)]
    vocabulary = pa.table([pa.array(range(128), pa.int32()), texts], SCHEMAS["vocabulary"])
    return replace(run, extras=Extras(vocabulary, run.extras.passages, run.extras.closeups))

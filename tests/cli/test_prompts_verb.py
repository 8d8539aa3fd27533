"""`selfrepair prompts`."""

from __future__ import annotations

import json
import re

import pytest

TEXT = "1, 2, 3, "  # the tests' tokenizer has one token a character


@pytest.fixture
def file(tmp_path):
    def write(*rows, name="prompts.jsonl"):
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    return write


ROW = {"text": TEXT, "answers": ["4"], "wrong": ["5"], "corrupt": "1, 2, 4, "}


def test_what_a_file_is_worth_and_what_was_dropped(selfrepair, llama, file):
    path = file(ROW, {**ROW, "answers": ["44"]}, {**ROW, "id": "odd\x1b[2J", "corrupt": "1"})
    ended = selfrepair("prompts", path, "--model", llama)
    assert ended.code == 0
    out = " ".join(ended.out.split())
    for said in ("'4'", "'5'", "1 prompt in 1 group", "Dropped: 2 prompts", "is 2 tokens", "Its twin has 2 tokens"):
        assert said in out
    assert "prompts.jsonl" in out and "prefix [1]" in out and str(path.parent) not in out
    assert "\x1b[2J" not in ended.out and "There is one prompt" in ended.said


def test_json_for_programs(selfrepair, llama, file):
    ended = selfrepair("prompts", file(ROW, {**ROW, "answers": []}), "--model", llama, "--json")
    told = json.loads(ended.out)
    assert told["prompts"] == 1 and told["rows"][0]["metric"] == pytest.approx(told["metric"])
    assert told["prompts_dropped"] == [{"id": "2", "reason": "It has wrong answers and no right one."}]
    assert len(told["fingerprint"]) == 64 and told["provenance"]["format"] == "own"


def test_one_prompt_on_the_command_line(selfrepair, llama):
    ended = selfrepair("prompts", "--model", llama, "--prompt", TEXT, "--answer", "4", "--against", "5", "--json")
    told = json.loads(ended.out)
    assert told["rows"][0]["text"] == TEXT and len(told["rows"][0]["wrong"]) == 1
    assert told["metric_standard_error"] is None  # of one prompt there is none


def test_conversion_to_our_own_format(selfrepair, llama, file, tmp_path):
    table = tmp_path / "table.csv"
    table.write_text('clean,corrupted,correct_idx,incorrect_idx\n"1, 2, ","2, 1, ",5,6\n"1, 2, ","2, 1, ",5,5\n')
    written = tmp_path / "written.jsonl"
    first = selfrepair("prompts", table, "--model", llama, "--ids-of", "model", "--to", written, "--json")
    assert first.code == 0, first.err
    again = selfrepair("prompts", written, "--model", llama, "--json")
    one, two = json.loads(first.out), json.loads(again.out)
    assert one["dropped"] == 1 and two["dropped"] == 0 and one["fingerprint"] == two["fingerprint"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "neither came"),
        (["FILE", "--prompt", TEXT], "both came"),
        (["FILE", "--answer", "4"], "belong to --prompt"),
        (["--prompt", TEXT, "--answer", "4", "--groups", "a"], "belong to a file"),
        (["--prompt", TEXT, "--answer", "44"], "is 2 tokens ('4' '4'); one is measured"),
        (["FILE", "--groups", "template"], "There is no column 'template'"),
        (["no/such.csv"], "There is no file"),
    ],
)
def test_what_cannot_be_done_is_said(selfrepair, llama, file, arguments, words):
    path = file(ROW)
    ended = selfrepair("prompts", *[path if one == "FILE" else one for one in arguments], "--model", llama)
    assert ended.code == 1 and words in ended.said


def test_a_narrow_terminal_shortens_texts_and_never_numbers(selfrepair, llama, file):
    path = file({**ROW, "text": "1, 2, " * 3, "corrupt": "2, 1, " * 3})
    ended = selfrepair("prompts", path, "--model", llama, columns=70)
    row = next(line for line in ended.out.splitlines() if "'4'" in line)
    assert re.search(r"…\S* ?.*19 +'4' +'5' +[+-]\d\.\d{3} +[+-]\d\.\d{3} +\d+", row), row

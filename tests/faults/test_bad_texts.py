"""Texts and options that make no run: each says why and what to do, and leaves no folder behind."""

import json

import pytest

from loading.fixtures import SHORT

LONG = "All work and no play makes it a dull text. " * 20


@pytest.fixture
def refusal(selfrepair, llama, tmp_path):
    def command(*options):
        ended = selfrepair("run", llama, *SHORT, "--out", tmp_path / "run", *options)
        assert ended.code == 1 and ended.out == "", ended.err
        assert not (tmp_path / "run" / "heads.nc").exists()
        return ended.said

    return command


def file(tmp_path, *texts: str) -> str:
    path = tmp_path / "corpus.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return str(path)


def test_too_short_for_one_window(refusal, tmp_path):
    said = refusal("--text", file(tmp_path, "short", "shorter"))
    assert "fills half a window of 24 tokens" in said and "Give a shorter --length, or --packing packed" in said
    assert not (tmp_path / "run").exists()


def test_too_short_for_one_window_even_joined(refusal, tmp_path):
    said = refusal("--text", file(tmp_path, "short", "shorter"), "--packing", "packed")
    assert "fills no window" in said and "more text" in said


def test_more_tokens_than_there_are(refusal, tmp_path):
    said = refusal("--text", file(tmp_path, LONG, LONG), "--tokens", 24000)
    assert "24,000 tokens were asked for" in said and "or fewer" in said


def test_one_document_has_no_donors(refusal, tmp_path):
    said = refusal("--text", file(tmp_path, LONG))
    assert "donor windows from other documents" in said and "--ablation mean" in said
    assert not (tmp_path / "run").exists()


def test_too_few_donors(refusal):
    said = refusal("--donors", 50)
    assert "needs 50 donor windows" in said and "fewer --donors" in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("nowhere.txt", "There is no file or folder 'nowhere.txt'"),
        ("notes.docx", "There is no file or folder 'notes.docx'"),
    ],
)
def test_texts_that_are_not_there(refusal, text, said):
    found = refusal("--text", text)
    assert said in found and 'Give "builtin", a file' in found


def test_a_field_that_is_not_there(refusal, tmp_path):
    said = refusal("--text", file(tmp_path, LONG, LONG), "--field", "body")
    assert "no field 'body'" in said and "--field" in said


def test_an_empty_file(refusal, tmp_path):
    assert "corpus.jsonl" in refusal("--text", file(tmp_path))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--heads", "L9H1"], "layers 0 to 2 with heads 0 to 3"),
        (["--heads", "the loud one"], "Write heads as L9H6"),
        (["--filter", "middle"], "all, top:FRACTION or bottom:FRACTION"),
        (["--filter", "top:2"], "top:0.02"),
        (["--dtype", "float16"], "float32, float64"),
        (["--first", "23"], "longer windows"),
        (["--memory", "0"], "Give --memory"),
        (["--revision", "main"], "Leave --revision out"),
    ],
)
def test_options_that_fit_nothing(refusal, options, said):
    assert said in refusal(*options)


def test_windows_longer_than_the_model_has_positions(selfrepair, saved, tmp_path):
    ended = selfrepair("run", saved("gpt2"), "--tokens", 320, "--length", 64, "--out", tmp_path / "run")
    assert ended.code == 1 and "--length" in ended.said


def test_a_tokenizer_of_another_model(selfrepair, saved, tmp_path):
    import shutil

    folder = shutil.copytree(saved("llama"), tmp_path / "model")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] |= {"e": 200, "t": 201}
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    ended = selfrepair("run", folder, *SHORT, "--out", tmp_path / "run")
    assert ended.code == 1 and "vocabulary" in ended.said

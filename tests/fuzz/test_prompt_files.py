"""Prompt files, changed at random: refused in words, or read as what they now are, under another checksum."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fuzz.conftest import MORE
from fuzz.mutations import mutated, mutated_json
from fuzz.test_inputs import read_mutations
from prompts import files
from prompts.words import tokenizer
from selfrepair import Prompts

TIMES = 30 * MORE


def arrays(path: Path) -> None:
    ids = tokenizer()(files.TEXT, add_special_tokens=False)["input_ids"]
    np.savez(path, validation_data=np.array([ids] * 2), validation_patch_data=np.array([ids] * 2))


FILES = {
    "own.json": lambda path: path.write_text(json.dumps([files.OWN, {**files.OWN, "id": "b"}])),
    "own.jsonl": lambda path: path.write_text(files.lines(files.OWN, {**files.OWN, "id": "b"})),
    "circuit.json": lambda path: path.write_text(json.dumps(files.AUTO_CIRCUIT)),
    "eap.csv": lambda path: path.write_text(files.table(files.EAP_IOI, files.EAP_IOI)),
    "mib.json": lambda path: path.write_text(json.dumps([files.MIB_IOI, files.MIB_IOI])),
    "choice.json": lambda path: path.write_text(json.dumps([files.MIB_CHOICE])),
    "mib.parquet": lambda path: pd.DataFrame([files.MIB_IOI] * 2).to_parquet(path),
    "kit.csv": lambda path: path.write_text(files.KIT_TABLE),
    "kit.yaml": lambda path: path.write_text(files.KIT_TASK),
    "causal.json": lambda path: path.write_text(json.dumps([files.CAUSALAB])),
    "acdc.npz": arrays,
}


@pytest.mark.parametrize("name", FILES)
def test_prompts(tmp_path, name):
    path, words = tmp_path / name, tokenizer(front=True)
    (tmp_path / "capitals.csv").write_text(files.KIT_TABLE)
    FILES[name](path)
    options = {"ids_of": "model"} if name.startswith("eap") else {}

    def read() -> object:
        made = Prompts.read(path, words, **options)
        assert made.tokens.min() >= 0 and made.tokens.max() < len(words) and len(made)
        assert all(0 <= token < len(words) for side in (made.answers, made.wrong) for one in side for token in one)
        json.dumps(made.provenance), made.table(), repr(made)
        return made.fingerprint, made.provenance["sha256"]

    change = mutated_json if name.endswith(".json") else mutated
    expected, others = read_mutations(path, read, change, TIMES)
    assert all(read_now[1] != expected[1] for read_now in others if read_now[0] != expected[0])

"""What a run does not go on with, and that it says what differs, then and now."""

from __future__ import annotations

import json
import os
import shutil
import stat
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from scale_support import UNITS, assert_same, prepare, resume, save_model, sweep_units, text

from selfrepair import SelfRepairError, load
from selfrepair.run import measure
from selfrepair.run.planning.reload import load_design
from zoo import families


def refused(place, **settings) -> str:
    with pytest.raises(SelfRepairError) as refusal:
        measure.resume(place, progress=False, **settings)
    assert refusal.value.fix
    assert "Traceback" not in refusal.value.problem
    return refusal.value.problem


def test_no_run(tmp_path):
    assert "plan.json" in refused(tmp_path / "nowhere")
    assert "plan.json" in refused(tmp_path)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_garbled_plan(run, content):
    place, _ = run
    (place / "plan.json").write_text(content)
    assert "plan.json" in refused(place)


def test_changed_weights(tmp_path):
    model = save_model("gpt2", tmp_path / "model")
    place = prepare(tmp_path / "run", model)
    network = families.build("gpt2")
    with torch.no_grad():
        network.transformer.h[1].mlp.c_fc.weight[3, 5] += 1e-3
    network.save_pretrained(model)
    problem = refused(place)
    then = json.loads((place / "plan.json").read_text())["model"]["weights"]
    assert "weights" in problem and then in problem and load(str(model), device="cpu").digest in problem


def test_a_model_that_is_gone(tmp_path):
    place = prepare(tmp_path / "run", save_model("gpt2", tmp_path / "model"))
    shutil.rmtree(tmp_path / "model")
    assert str(tmp_path / "model") in refused(place)


def test_changed_text(run):
    place, _ = run
    table = pq.read_table(place / "windows.parquet")
    tokens = table["tokens"].to_pylist()
    tokens[3][4] = (tokens[3][4] + 1) % families.VOCAB
    field = table.schema.field("tokens")
    changed = table.set_column(table.column_names.index("tokens"), field, pa.array(tokens, field.type))
    pq.write_table(changed, place / "windows.parquet")
    then = json.loads((place / "plan.json").read_text())["text"]["fingerprint"]
    assert "text" in (problem := refused(place)) and then in problem


def test_changed_donors(run):
    place, _ = run
    table = pq.read_table(place / "windows.parquet")
    field = table.schema.field("donors")
    donors = pa.array([[(one + 2) % len(table)] for (one,) in table["donors"].to_pylist()], field.type)
    pq.write_table(table.set_column(table.column_names.index("donors"), field, donors), place / "windows.parquet")
    assert "donors" in refused(place)


@pytest.mark.parametrize("package", ["selfrepair", "torch", "transformers", "numpy"])
def test_changed_version(run, package):
    place, _ = run
    change_plan(place, lambda plan: plan["versions"].update({package: "0.0.1"}))
    problem = refused(place)
    assert f"version of {package}: 0.0.1 then" in problem and "now" in problem


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda plan: plan["machine"].update(device="cuda:1"), "kind of device: cuda then, cpu now"),
        (lambda plan: plan["model"].update(dtype="float64"), "dtype of the model: float64 then, float32 now"),
    ],
)
def test_another_device_or_precision(run, change, said):
    place, _ = run
    change_plan(place, change)
    assert said in refused(place)


def test_workers_elsewhere_without_a_folder(models):
    model = load(str(models("gpt2")), device="cpu")
    with pytest.raises(SelfRepairError, match="'ray' needs a folder that all 2 workers see"):
        measure.measure(model, text(), workers=2, executor="ray", progress=False)


def test_workers_of_a_model_from_memory():
    model = load(families.build("gpt2").eval())
    with pytest.raises(SelfRepairError, match="came from memory"):
        measure.measure(model, text(), workers=2, progress=False)


def test_an_operator_of_the_users(run):
    place, _ = run
    change_plan(place, lambda plan: plan["ablation"].update(operator="mine"))
    assert "'mine'" in refused(place)
    assert "'mine'" in refused(place, workers=2)
    assert not (place / "units").exists()


def test_a_model_from_memory(tmp_path, undisturbed):
    _, expected = undisturbed()
    model = load(families.build("gpt2").eval())
    place = prepare(tmp_path / "run", model)
    assert "memory" in refused(place)
    assert "memory" in refused(place, model=model, workers=2)
    run = resume(place, model=model)
    assert run.heads["self_repair"].equals(expected.heads["self_repair"])


def test_an_unknown_executor(run):
    place, _ = run
    assert "'kubernetes'" in refused(place, executor="kubernetes")


# ------------------------------------------------------------------------------------------------- full disks


@pytest.mark.parametrize(
    ("moment", "put"), [("open", 1), ("fsync", 4), ("replace", UNITS + 1), ("open", UNITS + 2), ("fsync", UNITS + 5)]
)
def test_a_full_disk_stops_a_run_cleanly(run, monkeypatch, put, moment):
    place, expected = run
    fill_disk(monkeypatch, moment, put)
    with pytest.raises(SelfRepairError, match=r"(?i)disk is full"):
        resume(place)
    monkeypatch.undo()
    units = list((place / "units").iterdir())
    assert len([path for path in units if path.suffix == ".safetensors"]) == put - 1
    assert len(units) == put - 1, "neither claims nor halves are left"
    assert_same(resume(place), expected)
    assert len(sweep_units(place)) == UNITS


def test_a_disk_too_full_for_a_claim(run, monkeypatch):
    place, expected = run

    def full(*_given):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("selfrepair.run.storage.unit_claims.json.dump", full)
    with pytest.raises(SelfRepairError, match="No space left"):
        resume(place)
    monkeypatch.undo()
    assert not list((place / "units").iterdir())
    assert_same(resume(place), expected)


def fill_disk(monkeypatch, moment: str, put: int) -> None:
    """Lets the n-th write of a unit end with a full disk, at one of its steps."""
    left = put

    def failing(real, counts):
        def call(*given, **named):
            nonlocal left
            left -= counts(*given)
            if left == 0 and counts(*given):
                raise OSError(28, "No space left on device")
            return real(*given, **named)

        return call

    if moment == "fsync":
        monkeypatch.setattr(os, "fsync", failing(os.fsync, lambda file: stat.S_ISREG(os.fstat(file).st_mode)))
    elif moment == "replace":
        monkeypatch.setattr(Path, "replace", failing(Path.replace, lambda path, *_: path.name.startswith(".")))
    else:
        monkeypatch.setattr(Path, "open", failing(Path.open, lambda path, mode="r", *_: mode == "xb"))


def change_plan(place, change) -> None:
    """As if the run had been started with another plan."""
    design = load_design(place)
    change(design.plan)
    measure.write_design(design, place)

"""Bits that change and files that go, at any time: units are proven where their bytes are used, plans before anything
is done, results before they are shown. What can be done again is, and that is said; all else is refused in words."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
from pathlib import Path

import numpy as np
import pytest
from scale_support import UNITS, assert_same, copy, prepare, resume, sweep_units, text

from selfrepair import SelfRepairError, load, load_run
from selfrepair.report.page import write_page
from selfrepair.results import manifest
from selfrepair.results.proven import Damaged
from selfrepair.run import measure
from selfrepair.run.gathering.compare_runs import compare
from selfrepair.run.gathering.merge_folders import combine
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.reload import load_design, load_job
from selfrepair.run.scheduling import unit_loop
from selfrepair.run.scheduling.run_status import status
from selfrepair.run.storage.store import Store

RESULTS = ("plan.json", "windows.parquet", "outcome.json", "heads.nc", "tokens.parquet", "passages.parquet",
           "closeups.parquet", "vocabulary.parquet", "manifest.json")  # fmt: skip


@pytest.fixture(scope="module")
def model(models):
    return load(str(models("gpt2")), device="cpu")


@pytest.fixture(scope="module")
def finished(undisturbed, model, tmp_path_factory):
    """A folder with everything that a run leaves behind."""
    place = copy(undisturbed()[0], tmp_path_factory.mktemp("integrity") / "finished")
    measure.resume(place, model, progress=False)
    return place


@pytest.fixture
def done(finished, tmp_path):
    return shutil.copytree(finished, tmp_path / "done")


def flip(path: Path, part: float = 0.5) -> None:
    content = bytearray(path.read_bytes())
    content[min(int(part * len(content)), len(content) - 1)] ^= 4
    path.write_bytes(content)


def units_of(place: Path, stage: str) -> list[Path]:
    return sorted((place / "units").glob(f"{stage}-*.safetensors"))


def listing(place: Path) -> dict[str, tuple[int, str]]:
    """Everything in a folder: times of change and digests."""
    return {
        str(one.relative_to(place)): (
            one.stat().st_mtime_ns,
            hashlib.sha256(one.read_bytes()).hexdigest() if one.is_file() else "",
        )
        for one in sorted(place.rglob("*"))
    }


def refused(function, *given, **named) -> str:
    with pytest.raises(SelfRepairError) as refusal:
        function(*given, **named)
    assert refusal.value.fix
    return f"{refusal.value.problem} {refusal.value.fix}"


def happening_once(monkeypatch, owner, name: str, harm) -> None:
    """Does some harm just before a function is called for the first time."""
    real, harms = getattr(owner, name), [harm]

    def call(*given, **named):
        if harms:
            harms.pop()()
        return real(*given, **named)

    monkeypatch.setattr(owner, name, call)


# -------------------------------------------------------------------------- units, where their bytes are used

HARMS = {
    "gone": Path.unlink,
    "a bit of its data": lambda path: flip(path, 0.8),
    "a bit of its header": lambda path: flip(path, 0.01),
    "its last bit": lambda path: flip(path, 1),
    "cut short": lambda path: path.write_bytes(path.read_bytes()[:-3]),
    "another unit's content": lambda path: shutil.copy(units_of(path.parents[1], path.name.split("-")[0])[0], path),
}


MOMENTS = [
    *(("survey", unit_loop.thresholds, "thresholds", harm) for harm in ("gone", "a bit of its data")),
    *(("sweep", measure, "measured_text", harm) for harm in HARMS),  # between the sweep and the merge
    *(("sweep", measure, "merged", harm) for harm in ("gone", "its last bit")),  # after all has been looked at
    *(("thresholds", measure, "merged", harm) for harm in ("gone", "a bit of its header")),
]


@pytest.mark.parametrize(("stage", "owner", "moment", "harm"), MOMENTS)
def test_whatever_happens_to_a_unit_before_it_is_used(run, model, monkeypatch, capfd, stage, owner, moment, harm):
    place, expected = run
    happening_once(monkeypatch, owner, moment, lambda: HARMS[harm](units_of(place, stage)[-1]))
    found = resume(place, model)
    assert_same(found, expected)
    assert found.outcome["status"] == "complete" and found.outcome["units"] == UNITS
    said = capfd.readouterr().err
    aside = [one.name for one in (place / "units").glob("*.aside")]
    assert [name.split("-")[0] for name in aside] == ([] if harm == "gone" else [stage])
    assert all(name in said and name in (place / "log.txt").read_text() for name in aside)
    assert len(sweep_units(place)) == UNITS


def test_a_header_that_was_made_to_fit_changed_data(done):
    """A number is changed, and the digest of its block too; only the file's name does not agree."""
    path = sweep_units(done)[0]
    content = bytearray(path.read_bytes())
    (size,) = struct.unpack("<Q", content[:8])
    start, block = 8 + size, 2**14
    was = hashlib.sha256(content[start : start + block]).hexdigest()[:32]
    content[start + 100] ^= 64
    now = hashlib.sha256(content[start : start + block]).hexdigest()[:32]
    changed = bytes(content).replace(was.encode(), now.encode())
    assert changed != bytes(content)
    path.write_bytes(changed)
    assert path.name in refused(compare, done, done)


def test_every_unit_damaged_one_after_the_other(run, model, monkeypatch):
    """More of them than tries: each look puts all of them aside."""
    place, expected = run
    happening_once(monkeypatch, measure, "measured_text", lambda: [flip(one) for one in sweep_units(place)[1:6]])
    assert_same(resume(place, model), expected)


def test_thresholds_name_the_units_they_are_made_of_and_sweep_units_the_thresholds(done):
    store = Store(done, run_plan.identity(load_design(done).plan))
    surveys, thresholds, sweeps = (store.finished(stage) for stage in ("survey", "thresholds", "sweep"))
    assert thresholds[0].made_of == tuple(surveys[number].digest for number in range(UNITS))
    assert {unit.made_of for unit in sweeps.values()} == {(thresholds[0].digest,)}


def test_thresholds_of_a_part_of_the_survey_are_refused(done, model):
    job = load_job(done, model)
    units = list(Store(done, run_plan.identity(job.plan)).finished("survey").values())
    assert f"lacks 1 of {UNITS} units" in refused(unit_loop.thresholds.thresholds, job, units[1:])


def test_sweep_units_of_other_thresholds_are_done_again_with_a_word(done, model, capfd):
    store = Store(done, run_plan.identity(load_design(done).plan))
    old = store.finished("sweep")[2]
    arrays = old.starting_with("")
    old.path.unlink()
    store.write("sweep", 2, {name: value * 2 for name, value in arrays.items()}, ["0" * 32])
    other = store.finished("sweep")[2].path
    assert "thresholds" in refused(compare, done, done)
    before = load_run(done)
    assert_same(resume(done, model), before)
    assert not other.exists() and other.with_suffix(".aside").is_file()
    assert other.name in capfd.readouterr().err and other.name in (done / "log.txt").read_text()


def test_thresholds_of_other_surveys_are_refused_without_a_model(done):
    store = Store(done, run_plan.identity(load_design(done).plan))
    merged = store.finished("thresholds")[0]
    arrays, made_of = merged.starting_with(""), list(merged.made_of)
    merged.path.unlink()
    store.write("thresholds", 0, arrays, made_of[:-1])
    assert "survey" in refused(compare, done, done)


@pytest.mark.parametrize("stage", ["thresholds", "sweep"])
def test_without_a_model_a_damaged_unit_is_refused(done, tmp_path, stage):
    broken = units_of(done, stage)[-1]
    flip(broken, 0.7)
    before = listing(done)
    assert broken.name in refused(combine, [done], tmp_path / "out")
    assert listing(done) == before
    for where in np.linspace(0.3, 0.98, 18):  # a comparison does not read everything
        flip(broken, where)
    before = listing(done)
    assert broken.name in refused(compare, done, done)
    assert listing(done) == before and not list((tmp_path / "out").glob("*"))


def test_units_that_are_missing_are_counted_alike_everywhere(done, model, tmp_path):
    for path in sweep_units(done)[2:]:
        path.unlink()
    assert f"2 of {UNITS} units" in refused(compare, done, done)
    found = status(done)
    assert (found.swept, found.missing, found.complete) == (2, UNITS - 2, False)
    merged = combine([done], tmp_path / "out")
    assert merged.outcome["units"] == 2 and merged.outcome["status"] == f"{UNITS - 2} units missing"
    assert resume(done, model).outcome["units"] == UNITS


def test_a_damaged_copy_of_a_part_gives_way_to_a_sound_one(done, tmp_path, capfd):
    other = shutil.copytree(done, tmp_path / "other")
    flip(sweep_units(done)[3])
    expected = load_run(other)
    assert_same(combine([done, other], tmp_path / "out"), expected)
    assert sweep_units(other)[3].name in capfd.readouterr().err


# ------------------------------------------------------------------------------------------------ plans


def changed_plan(place: Path, *keys, value) -> None:
    plan = part = json.loads((place / "plan.json").read_text())
    for key in keys[:-1]:
        part = part[key]
    part[keys[-1]] = value
    (place / "plan.json").write_text(json.dumps(plan))


@pytest.mark.parametrize(
    ("keys", "value", "said"),
    [
        (("replicates",), 21, "replicates: was 20, is 21"),
        (("seed",), 7, "seed: was 0, is 7"),
        (("ablation", "operator"), "zero", 'ablation.operator: was "resample", is "zero"'),
        (("heads", 3, 1), 0, "heads[3][1]: was 3, is 0"),
        (("until",), {"standard_error": 1.0, "of": "card"}, "until: was nothing, is {"),
        (("text", "first_position"), 1.0, "text.first_position: was 1, is 1.0"),
        (("checksum",), "0" * 64, "what was changed is unknown"),
        (("created",), "2001-01-01", "created: was "),
    ],
)
def test_a_changed_plan_is_refused_and_nothing_is_touched(done, tmp_path, keys, value, said):
    changed_plan(done, *keys, value=value)
    before = listing(done)
    for refusal in (
        refused(measure.resume, done, progress=False),
        refused(combine, [done], tmp_path / "out"),
        refused(status, done),
    ):
        assert "plan.json" in refusal
    assert said in refused(measure.resume, done, progress=False)
    assert listing(done) == before


def test_a_plan_that_is_put_back_goes_on(done, model):
    plan = (done / "plan.json").read_text()
    changed_plan(done, "seed", value=3)
    refused(measure.resume, done, model=model, progress=False)
    (done / "plan.json").write_text(json.dumps(json.loads(plan)))  # laid out another way
    before = {path: path.stat().st_mtime_ns for path in (done / "units").iterdir()}
    assert measure.resume(done, model, progress=False).outcome["status"] == "complete"
    assert {path: path.stat().st_mtime_ns for path in (done / "units").iterdir()} == before


def test_units_of_another_plan_are_not_taken_for_damaged_ones(done, model, models, tmp_path):
    """Plan and text of another run, in a folder of finished units."""
    other = prepare(tmp_path / "other", model, seed=1)
    for name in ("plan.json", "windows.parquet"):
        shutil.copy(other / name, done / name)
    before = listing(done / "units")
    assert "another plan" in refused(measure.resume, done, model=model, progress=False)
    (done / "manifest.json").unlink()
    said = refused(combine, [done], tmp_path / "out")
    assert "another plan" in said or "not finished its survey" in said
    assert listing(done / "units") == before


def test_units_beside_those_of_another_plan_are_left_alone_with_a_word(done, model, tmp_path, capfd):
    other = prepare(tmp_path / "other", model, seed=1)
    resume(other, model)
    for path in (other / "units").iterdir():
        shutil.copy(path, done / "units")
    there = set((done / "units").iterdir())
    expected = load_run(done)
    assert_same(resume(done, model), expected)
    assert there == set((done / "units").iterdir())
    assert "another plan" in capfd.readouterr().err and "another plan" in (done / "log.txt").read_text()


def test_features_in_another_order_are_refused(done, model, monkeypatch, tmp_path):
    names = run_plan.FEATURES
    monkeypatch.setattr(run_plan, "FEATURES", (*names[:3], names[4], names[3], *names[5:]))
    for refusal in (refused(compare, done, done), refused(combine, [done], tmp_path / "out")):
        assert f'features[3]: was "{names[3]}", is "{names[4]}"' in refusal
    assert "features" in refused(measure.resume, done, model=model, progress=False)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"instructions": "of no machine"}, "machine's instructions: "),
        ({"features": ["of no machine"]}, "machine's feature "),
        ({"libraries": ["oneDNN v0"]}, "machine's libraries: "),
        ({"processor": "riscv64"}, "machine's processor: "),
    ],
)
def test_another_kind_of_processor_is_refused(done, model, monkeypatch, change, said):
    real = run_plan.machine
    monkeypatch.setattr(run_plan, "machine", lambda device: real(device) | change)
    before = listing(done)
    refusal = refused(measure.resume, done, model=model, progress=False)
    assert said in refusal and "then" in refusal and "now" in refusal
    assert listing(done) == before


def test_merging_leaves_its_folders_as_they_are(done, model, tmp_path):
    """Those with damaged and with foreign units too, and those that lack something."""
    other = prepare(tmp_path / "other", model, text(windows=8, seed=4))
    resume(other, model)
    stray = prepare(tmp_path / "stray", model, seed=1)
    resume(stray, model)
    shutil.copy(sweep_units(stray)[0], done / "units")
    places = [done, other]
    before = [listing(place) for place in places]
    for place in places:
        for one in (place, *place.rglob("*")):
            one.chmod(0o500 if one.is_dir() else 0o400)
    combine(places, tmp_path / "out")
    flip_readable = sweep_units(other)[0]
    assert [listing(place) for place in places] == before
    flip_readable.chmod(0o600)
    flip(flip_readable)
    before = [listing(place) for place in places]
    refused(combine, places, tmp_path / "again")
    assert [listing(place) for place in places] == before


def test_a_changed_text_is_refused(done, model, tmp_path):
    other = prepare(tmp_path / "other", model, text(seed=5))
    shutil.copy(other / "windows.parquet", done / "windows.parquet")
    for function, given in ((compare, (done, done)), (combine, ([done], tmp_path / "out")), (load_run, (done,))):
        assert "windows.parquet" in refused(function, *given) or "plan.json" in refused(function, *given)
    (done / "manifest.json").unlink()
    assert "not the plan" in refused(combine, [done], tmp_path / "out")


# ------------------------------------------------------------------------------------------------ results


def test_a_bit_of_the_copy_of_the_plan_is_not_blamed_on_the_plan(done, finished, tmp_path):
    path = done / "windows.parquet"
    content = path.read_bytes()
    for entry in (b"replicates", b"fingerprint", b"checksum"):
        at = content.index(b'"' + entry)
        path.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
        for refusal in (
            refused(load_run, done),
            refused(compare, done, finished),
            refused(combine, [done], tmp_path / "out"),
        ):
            assert "windows.parquet" in refusal and "not the plan" not in refusal


@pytest.mark.parametrize("name", RESULTS)
def test_a_bit_of_any_results_file(done, finished, model, tmp_path, name):
    flip(done / name)
    for refusal in (
        refused(load_run, done),
        refused(compare, done, finished),
        refused(combine, [done], tmp_path / "out"),
        refused(write_page, [done], tmp_path / "page.html"),
    ):
        assert name in refusal
    if name not in ("plan.json", "windows.parquet"):
        assert "selfrepair resume" in refused(load_run, done)
        assert status(done).results != "merged" and not status(done).merged
    if name == "heads.nc":
        measure.resume(done, model, progress=False)
        assert_same(load_run(done), load_run(finished))


@pytest.mark.parametrize("name", ["tokens.parquet", "windows.parquet"])
def test_tables_that_change_after_the_run_was_loaded(done, name):
    run = load_run(done)
    flip(done / name)
    with pytest.raises(SelfRepairError, match="damaged"):
        run.tokens if name == "tokens.parquet" else run.windows  # noqa: B018
    if name == "tokens.parquet":
        with pytest.raises(SelfRepairError, match="damaged"):
            list(run.token_batches(["layer"]))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("moment", [4, 6, 7, 8, 9, 12])
def test_killed_between_two_results_files(done, model, monkeypatch, moment):
    """Whenever it happens, the folder tells of the old results, of the new ones, or of none."""
    old = load_run(done)
    rows = old.tokens.num_rows
    sweep_units(done)[-1].unlink()
    swap, left = Path.replace, moment

    def replacing(path, *given):
        nonlocal left
        if path.parent.name == manifest.STAGING:
            left -= 1
            if left == 0:
                raise Killed
        return swap(path, *given)

    monkeypatch.setattr(Path, "replace", replacing)
    monkeypatch.setattr(measure, "_sweep", lambda *_given: measure._Swept("interrupted"))
    with pytest.raises(Killed):
        measure.resume(done, model, progress=False)
    monkeypatch.undo()
    try:
        told = load_run(done)
    except SelfRepairError as refusal:
        assert "was ended before it was done" in refusal.problem and "selfrepair resume" in refusal.fix
    else:
        assert told.outcome["units"] in (UNITS, UNITS - 1)
        assert (told.outcome["units"] == UNITS) == (told.heads.attrs["status"] == "complete")
        assert (told.outcome["units"] == UNITS) == (told.tokens.num_rows == rows)
    if moment != 8:
        return
    assert measure.resume(done, model, progress=False).outcome["status"] == "complete"
    assert_same(load_run(done), old)
    assert not (done / manifest.STAGING).exists()


def test_close_ups_of_other_units_are_not_kept(done, model, monkeypatch, capfd):
    """Interrupted after its results were whole: close-ups of whole results do not stay beside partial ones."""
    sweep_units(done)[-1].unlink()
    monkeypatch.setattr(measure, "_sweep", lambda *_given: measure._Swept("interrupted"))
    partial = measure.resume(done, model, progress=False)
    again = load_run(done)
    assert again.outcome["status"] == "interrupted" and again.extras.closeups is None
    assert not (done / "closeups.parquet").exists()
    assert_same(again, partial)
    assert "close-ups" in capfd.readouterr().err
    assert "is not complete" in refused(compare, done, done)


def test_close_ups_that_are_not_of_this_run_are_made_again(done, model):
    expected = load_run(done).extras.closeups
    (done / "closeups.parquet").write_bytes((done / "passages.parquet").read_bytes())
    assert "closeups.parquet" in refused(load_run, done)
    measure.resume(done, model, progress=False)
    assert load_run(done).extras.closeups.equals(expected)


def test_close_ups_of_the_same_units_are_kept(done, model, monkeypatch):
    def never(*_given):
        raise AssertionError("close-ups are taken again")

    monkeypatch.setattr("selfrepair.run.closeups.attach.closeups", never)
    before = hashlib.sha256((done / "closeups.parquet").read_bytes()).hexdigest()
    assert measure.resume(done, model, progress=False).extras.closeups is not None
    assert load_run(done).extras.closeups.num_rows > 0
    assert hashlib.sha256((done / "closeups.parquet").read_bytes()).hexdigest() == before


def test_pages_and_pictures_are_not_proven(done):
    write_page([done], done / "report.html")
    (done / "overview.png").write_bytes(b"anything")
    assert load_run(done).outcome["status"] == "complete"
    assert set(json.loads((done / "manifest.json").read_text())["files"]) == set(RESULTS) - {"manifest.json"}


def test_the_manifest_is_what_sha256sum_says(done):
    files = json.loads((done / "manifest.json").read_text())["files"]
    for name, said in files.items():
        assert hashlib.sha256((done / name).read_bytes()).hexdigest() == said["sha256"]


def test_large_arrays_are_proven_block_by_block(tmp_path):
    """Any bit of a unit of many blocks is found, by whoever reads the array that it is in; others can be read."""
    store = Store(tmp_path, "plan")
    draws = np.random.default_rng(0)
    arrays = {"a": draws.normal(size=(3, 4, 5000)).astype(np.float32), "b": draws.normal(size=9000)}
    store.write("survey", 0, arrays)
    unit = store.finished("survey")[0]
    content = unit.path.read_bytes()
    start = len(content) - sum(value.nbytes for value in arrays.values())
    assert np.array_equal(unit.part("a", 1, range(2, 4)), arrays["a"][1, 2:4])
    for place in draws.integers(start, len(content), 40).tolist():
        changed = bytearray(content)
        changed[place] ^= 1
        unit.path.write_bytes(changed)
        wrong = []
        for name, value in arrays.items():
            try:
                assert np.array_equal(unit.get(name), value)
            except SelfRepairError:
                wrong.append(name)
        assert wrong
        with pytest.raises(Damaged):
            store.prove(unit.path)

"""A finished run's files, changed at random: refused in words, or the same numbers."""

from __future__ import annotations

import random
import shutil
from functools import partial
from pathlib import Path

import pytest

from fuzz.conftest import MORE, in_bounds, outcome
from fuzz.mutations import mutated, mutated_json
from selfrepair.results import manifest, plan_file, run_folder, stored_tables
from selfrepair.results.extras import Extras
from selfrepair.results.proven import Stored
from selfrepair.run.planning import run_plan
from selfrepair.run.planning.job import Job
from selfrepair.run.planning.reload import load_design
from selfrepair.run.scheduling import run_status
from selfrepair.run.scheduling.executors.worker import unfinished_error
from selfrepair.run.storage.store import Store
from selfrepair.run.storage.unit_file import unsealed

TIMES = 200 * MORE  # mutations of every kind of file
RESULTS = (
    *("outcome.json", "heads.nc", "tokens.parquet", "windows.parquet"),
    *("vocabulary.parquet", "passages.parquet", "closeups.parquet"),
)


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of the finished run."""
    return shutil.copytree(finished, tmp_path / "run")


def fuzz(path: Path, read, change=mutated, times: int = TIMES, same: bool = True) -> int:
    """Reads a file changed in many ways, each time from its original content.

    Args:
        path: the file; as it was afterwards.
        read: reads it, or what it is part of.
        change: makes a content another.
        times: how often.
        same: whether what is read has to be what is read of the original content.

    Returns:
        How many were refused.
    """
    content, refused = path.read_bytes(), 0
    kind, expected = outcome(read)
    assert kind == "read", expected
    with in_bounds():
        for seed in range(times):
            changed = change(content, random.Random(f"{path.name} {seed}"))
            path.write_bytes(changed)
            try:
                kind, found = outcome(read)
            except BaseException as problem:
                raise AssertionError(f"{path.name}, seed {seed}: {type(problem).__name__}: {problem}") from problem
            assert kind == "refused" or not same or found == expected, f"{path.name}, seed {seed}: another number"
            refused += kind == "refused"
    path.write_bytes(content)
    return refused


def design_of(place: Path) -> object:
    """What units and their merge are laid out by."""
    design = load_design(place)
    return design.plan, design.windows.fingerprint, run_plan.fingerprint(design.donors), touched(design)


def touched(design) -> object:
    parts = (design.heads, design.filters, design.until, design.main_filter, design.last_units, design.negligible)
    batches = [design.batches(number) for number in range(len(design.units))]
    whole = (design.units, design.scored_documents, design.sample, batches)
    return repr(parts), repr(whole)


def proven(place: Path, name: str) -> bytes:
    """The bytes that everything in this file is read from."""
    with manifest.read_manifest(place)[name].open() as file:
        return file.read()


def unit_of(path: Path) -> object:
    with unsealed(path) as file:
        return {name: file.array(name).tobytes() for name in file.names()}, file.label


# ---------------------------------------------------------------------------------------- what accidents leave


@pytest.mark.parametrize("name", RESULTS)
def test_results(run, name):
    change = mutated_json if name.endswith(".json") else mutated
    assert fuzz(run / name, partial(proven, run, name), change) > TIMES * 0.9


def test_whole_folders_go_by_the_same_proof(run):
    for name in RESULTS:
        path = run / name
        content = path.read_bytes()
        path.write_bytes(mutated(content, random.Random(name)))
        assert outcome(partial(run_folder.load_run, run))[0] == "refused", name
        path.write_bytes(content)


def test_manifest(run):
    digests = partial(lambda place: {name: one.digests for name, one in manifest.read_manifest(place).items()}, run)
    fuzz(run / "manifest.json", digests, mutated_json)


def test_plan(run):
    assert fuzz(run / "plan.json", partial(design_of, run), mutated_json) > TIMES * 0.8


def test_text(run):
    fuzz(run / "windows.parquet", partial(design_of, run))


@pytest.mark.parametrize("stage", ["survey", "thresholds", "sweep"])
def test_units(run, stage):
    (path,) = (run / "units").glob(f"{stage}-*.safetensors")
    assert fuzz(path, partial(unit_of, path)) > TIMES * 0.9


def test_names_of_units(run):
    (path,) = (run / "units").glob("sweep-*.safetensors")
    design = load_design(run)
    store = Store(run, run_plan.identity(design.plan))
    for seed in range(TIMES):
        name = mutated(path.name.encode(), random.Random(seed)).decode("utf-8", "surrogateescape")
        if not name or "/" in name or "\0" in name or len(name) > 200 or name in (".", ".."):
            continue
        renamed = path.rename(path.with_name(name))
        for one in store.finished("sweep").values():
            kind, found = outcome(partial(unit_of, one.path))
            assert kind == "refused" or found[1].number == 0
        assert outcome(partial(run_status.status, run))[0] in ("read", "refused")
        renamed.rename(path)


def test_claims(run):
    store = Store(run, "plan")
    with store.claim("sweep", 7):
        (mine,) = store.units.glob("*.claim")
        content = mine.read_bytes()
    path = store.units / "sweep-000007.0123.claim"

    def taken() -> object:
        path.touch()
        with store.claim("sweep", 7):
            pass
        return run_status.status(run).units

    path.write_bytes(content)
    fuzz(path, taken)


def test_log(run):
    design = load_design(run)
    job = Job(design.plan, design.windows, design.donors, None, None, None)
    store = Store(run, run_plan.identity(design.plan))

    def read() -> object:
        assert unfinished_error("Workers", job, store).problem
        return run_status.status(run).swept

    fuzz(run / "log.txt", read, times=50 * MORE)


# -------------------------------------------------------------------------------------- what attackers can make up


def test_plans_with_a_checksum_of_their_own(run):
    """Numbers may be other numbers; they never take for ever, nor all memory, nor end in a traceback."""
    design = load_design(run)

    def sealed(content: bytes, draws: random.Random) -> bytes:
        import json

        plan = json.loads(mutated_json(content, draws))
        plan = {name: value for name, value in plan.items() if name != plan_file.CHECKSUM}
        run_folder.write_corpus(design.windows, design.donors, run, plan)
        run_folder.write_plan(plan, run / "plan.json")
        return (run / "plan.json").read_bytes()

    def change(content: bytes, draws: random.Random) -> bytes:
        for _ in range(20):
            try:
                return sealed(content, draws)
            except (ValueError, TypeError, AttributeError):  # what was mutated as bytes is no plan
                continue
        return content

    fuzz(run / "plan.json", partial(design_of, run), change, same=False)


@pytest.mark.parametrize("name", ["tokens", "windows", "vocabulary", "passages", "closeups"])
def test_tables_with_digests_of_their_own(run, name):
    path = run / f"{name}.parquet"

    def read() -> object:
        stored = Stored.as_it_is(path)
        if name == "tokens":
            return stored_tables.read_tokens(stored).num_rows
        if name == "windows":
            return stored_tables.read_windows(stored).num_rows, run_folder.read_design(stored)[0].fingerprint
        found: Extras = run_folder.read_extras({path.name: stored})
        return getattr(found, name).num_rows

    fuzz(path, read, same=False)

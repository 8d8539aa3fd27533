"""The race on the tiny shape: everybody computes the same effects, and the file has a row for everybody."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from typer.testing import CliRunner

from race.accuracy import reference
from race.contestants import ENGINES, enter
from race.lanes import Lane, OutOfTheRace
from race.runner import Runner
from race.scaling import measure
from race.shapes import Weights
from race.task import Order
from selfrepair.errors import SelfRepairError

ORDER = Order("tiny", windows=2, length=16, weights=Weights.lively, threads=1)
PACKAGE_OF = {"transformer_lens": "transformer_lens", "nnsight": "nnsight"}


@cache
def truth_of(order: Order):
    return reference(order, None)


@pytest.fixture
def truth():
    return truth_of(ORDER)


def runner_of(engine: str, order: Order = ORDER) -> Runner:
    if engine in PACKAGE_OF:
        pytest.importorskip(engine, reason=f"{engine} is in the extra 'bench', which is not installed")
    try:
        return Runner(engine, order)
    except SelfRepairError as error:
        pytest.skip(str(error))


@pytest.mark.long
@pytest.mark.parametrize("shape", ["tiny", "tiny-llama", "tiny-neox"])
@pytest.mark.parametrize("engine", ENGINES)
def test_effects_of_every_token_are_those_of_the_float64_reference(engine, shape):
    if engine.startswith("delta") and (engine == "delta") != (shape == "tiny"):
        pytest.skip("one shape each: compiling takes its time")
    order = replace(ORDER, shape=shape)
    lap = runner_of(engine, order).lap()
    assert lap.effects.shape == (12, 2, 15)
    assert lap.seconds > 0
    assert np.abs(lap.effects).max() > 0.1
    token, mean = truth_of(order).errors(lap.effects)
    allowed = {"delta": (1e-2, 3e-3), "delta-int8": (0.1, 0.1)}.get(engine, (1e-4, 1e-4))  # low precision
    assert token < allowed[0] and mean < allowed[1]


def test_replay_and_the_hook_loop_agree_head_by_head():
    replay, hooks = runner_of("replay").lap(), runner_of("hooks").lap()
    for ours, theirs in zip(replay.effects, hooks.effects, strict=True):
        assert np.abs(ours - theirs).max() < 1e-4 * np.sqrt((theirs**2).mean())
    assert replay.facts["ledger"] == "complete"
    assert replay.facts["unbalanced"] < 1e-4


def test_errors_of_wrong_effects_are_found(truth):
    effects = runner_of("hooks").lap().effects
    token, _ = truth.errors(effects[::-1])
    assert token > 0.5
    assert truth.errors(1.01 * effects)[0] == pytest.approx(0.01, rel=1e-2)


def test_the_file_has_a_row_for_every_engine_asked_for(tmp_path, small_products):
    import peers

    file = tmp_path / "peers.json"
    arguments = "--shape tiny --windows 2 --length 16 --repeats 2 --threads 1 --together --engines replay,hooks"
    done = CliRunner().invoke(peers.app, [*arguments.split(), "--json", str(file)])
    assert done.exit_code == 0, done.output
    rows = {row["engine"]: row for row in json.loads(file.read_text())}
    assert set(rows) == {"replay", "hooks"}
    for engine, row in rows.items():
        assert (row["shape"], row["heads"], row["tokens"], row["failure"]) == ("tiny", 12, 32, None)
        assert len(row["seconds_each"]) == 2
        assert row["seconds_min"] <= row["seconds"] <= row["seconds_max"]
        assert row["peak_fraction"] > 0
        assert row["relative_error"] < 1e-4
        assert engine in done.output
    assert rows["replay"]["times_replay"] == {"median": 1, "min": 1, "max": 1}
    assert rows["hooks"]["times_transformer_lens"] is None


def test_a_contestant_that_fails_has_a_row_with_the_reason(tmp_path, small_products, monkeypatch):
    import peers
    from race import runner

    def fall(name, task):
        if name == "nnsight":
            raise ModuleNotFoundError("No module named 'nnsight'")
        return enter(name, task)

    monkeypatch.setattr(runner, "enter", fall)
    file = tmp_path / "peers.json"
    arguments = "--shape tiny --windows 2 --length 8 --repeats 1 --heads 2 --together --engines nnsight,hooks"
    done = CliRunner().invoke(peers.app, [*arguments.split(), "--json", str(file)])
    assert done.exit_code == 0, done.output
    fallen, finished = json.loads(file.read_text())
    assert fallen["seconds"] is None
    assert "not installed" in fallen["failure"]
    assert "not installed" in done.output
    assert finished["seconds"] > 0


def test_a_process_of_its_own_gives_the_same_effects_and_its_reason_when_it_cannot():
    lane = Lane("hooks", ORDER)
    assert lane.warm_up() > 0
    assert np.array_equal(lane.lap().effects, runner_of("hooks").lap().effects)
    lane.close()
    with pytest.raises(OutOfTheRace, match="KeyError"):
        Lane("hooks", Order("no such shape"), together=True).warm_up()


def test_a_process_that_dies_is_out_of_the_race():
    lane = Lane("hooks", ORDER)
    lane._far._process.kill()
    with pytest.raises(OutOfTheRace, match="ended with code -9"):
        lane.warm_up()


def test_unknown_engines_and_numbers_of_heads_are_refused():
    import peers

    for arguments in (["--engines", "guessing"], ["--heads", "many"]):
        assert CliRunner().invoke(peers.app, arguments).exit_code == 2


def test_all_engines_of_the_issue_are_there():
    assert ENGINES == ("delta", "delta-int8", "replay", "transformer_lens", "nnsight", "hooks")


def test_twice_the_batches_are_twice_the_tokens():
    one, two = (measure("replay", ORDER, batches) for batches in (1, 2))
    assert (one.tokens, two.tokens) == (32, 64)
    assert two.seconds > 0
    assert two.peak_mb >= two.ready_mb

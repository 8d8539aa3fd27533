"""Runs that stop early: as soon as their own numbers say so, the same for whoever does the units and in any order."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scale_support import (
    assert_same,
    copy,
    impatient,
    prepare,
    random_kills,
    resume,
    sweep_every_unit,
    text,
    workers_start_quickly,
)

from selfrepair import SelfRepairError, load
from selfrepair.run.planning.prepare import stopping
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling.run_status import status
from selfrepair.statistics.curves import Moments
from selfrepair.statistics.stopping import MINIMUM, StopRule

DOCUMENTS, PER_UNIT = 80, 4
FILTER = "top 20%"
FEW = {"heads": [(1, 0), (2, 3)], "components": "none", "filters": ["all", "top:0.2"], "batch": PER_UNIT}


@pytest.fixture(scope="module")
def model(models):
    return load(str(models("gpt2")), device="cpu")


def planned(place, model, **settings):
    corpus = text(windows=DOCUMENTS, per_document=1)
    return prepare(place, model, corpus, sample=10**6, **FEW, **settings)


@pytest.fixture(scope="module")
def every_token(model, tmp_path_factory):
    """All tokens of a run that goes on to its end."""
    run = resume(planned(tmp_path_factory.mktemp("whole") / "run", model), model)
    return run.tokens_frame()


def sums(frame, thresholds, of):
    """Sums of Y and X per document, here a window (and head), over the tokens that pass the survey's limit."""
    heads = FEW["heads"]
    found = np.zeros((2, DOCUMENTS, len(heads)))
    for place, (layer, head) in enumerate(heads):
        rows = frame[(frame["layer"] == layer) & (frame["head"] == head)]
        rows = rows[rows["direct_effect"] >= thresholds[layer, head]]
        below = rows["direct_effect"] - rows["ablated_direct_effect"] if of == "card" else np.ones(len(rows))
        np.add.at(found[0, :, place], rows["window"], rows["self_repair"])
        np.add.at(found[1, :, place], rows["window"], below)
    return found.sum(-1) if of == "card" else found


def expected_units(frame, run, order, of, target):
    """How many units are enough, by looking at the documents of the first unit, of the first two, and so on."""
    both = sums(frame, run.heads["threshold"].sel(filter=FILTER).values.astype(np.float32), of)
    rule, last = StopRule(target, DOCUMENTS), 0
    for units in range(1, len(order) + 1):
        moments = Moments.of(*both[:, np.concatenate(order[:units])])
        if rule.due(units * PER_UNIT, last):
            last = units * PER_UNIT
            if rule.reached(moments, ratio=of == "card").all():
                return units
    return len(order)


@pytest.mark.parametrize(("of", "target"), [("card", 0.5), ("heads", 0.25)])
def test_a_run_stops_where_its_own_tokens_say(model, every_token, tmp_path, of, target):
    place = planned(tmp_path / "run", model, until_se=target, until=of)
    run = resume(place, model)
    order = load_job(place, model).units
    assert any((np.diff(unit) < 0).any() for unit in order), "documents come in random order"
    units = expected_units(every_token, run, order, of, target)
    assert MINIMUM / PER_UNIT <= units < len(order), "neither at once nor never: the case says something"
    said = run.outcome["until"]
    assert run.outcome["units"] == units and said["reached"]
    assert said["documents"] == units * PER_UNIT and said["of_documents"] == DOCUMENTS
    assert (said["high"] - said["low"]) / 2 <= 1.96 * target * 1.001
    if of == "card":
        assert said["low"] < float(run.heads["pooled_repaired_fraction"].sel(filter=FILTER)) < said["high"]
    assert set(run.tokens_frame()["window"]) == set(np.concatenate(order[:units]).tolist())
    assert len(list((place / "units").glob("sweep-*"))) == units
    found = status(place)
    assert found.complete and found.enough


@pytest.mark.long
def test_whoever_does_the_units_and_whatever_else_is_done(model, tmp_path, monkeypatch):
    """Killed and resumed, and with units beyond the stop done too: the same to the bit."""
    impatient(monkeypatch)
    place = planned(tmp_path / "run", model, until_se=0.5)
    eager, killed = copy(place, tmp_path / "eager"), copy(place, tmp_path / "killed")
    expected = resume(place, model)
    sweep_every_unit(eager, model)
    assert_same(resume(eager, model), expected)
    random_kills(killed, times=3, seed=1)
    assert_same(resume(killed, model), expected)


def test_workers_stop_together(tmp_path, model, monkeypatch):
    workers_start_quickly(monkeypatch)
    place = planned(tmp_path / "run", model, until_se=0.5)
    alone = copy(place, tmp_path / "alone")
    assert_same(resume(place, model, workers=2), resume(alone, model))


def test_what_is_not_reached_reads_everything(model, every_token, tmp_path):
    run = resume(planned(tmp_path / "run", model, until_se=1e-6, until="heads"), model)
    assert run.outcome["units"] == DOCUMENTS / PER_UNIT and run.outcome["until"]["reached"] is False
    assert json.loads(run.heads.attrs["until"])["head"] in ("L1H0", "L2H3")
    assert len(run.tokens_frame()) == len(every_token)


@pytest.mark.parametrize(("target", "of"), [(0.0, "card"), (-1.0, "card"), (float("nan"), "heads"), (0.1, "layer")])
def test_what_cannot_be_waited_for_is_refused(target, of):
    with pytest.raises(SelfRepairError, match="Cannot run until"):
        stopping(target, of)

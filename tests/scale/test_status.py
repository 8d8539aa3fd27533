"""`status`: how far a run has come, from its folder alone."""

from __future__ import annotations

import json

import pytest
import typer
from scale_support import UNITS, prepare, resume, sweep_units, text
from typer.testing import CliRunner

from selfrepair import SelfRepairError
from selfrepair.cli.status import status as command
from selfrepair.run import measure
from selfrepair.run.scheduling.run_status import status

app = typer.Typer()
app.command()(command)


def said(place) -> dict[str, object]:
    """What the command says to programs; people get the same."""
    printed = CliRunner().invoke(app, [str(place), "--json"])
    assert printed.exit_code == 0, printed.output
    shown = CliRunner().invoke(app, [str(place)], env={"COLUMNS": "300"})
    facts = json.loads(printed.output)
    assert all(str(value) in shown.output for name, value in facts.items() if name != "complete")
    assert ("selfrepair resume" in shown.output) != (facts["complete"] and facts["results"] == "merged")
    return facts


def test_no_run(tmp_path):
    with pytest.raises(SelfRepairError, match=r"plan\.json"):
        status(tmp_path)


def test_fresh(run):
    place, _ = run
    before = sorted(place.rglob("*"))
    facts = said(place)
    assert facts["surveyed"] == facts["swept"] == f"0 of {UNITS} units"
    assert (facts["damaged"], facts["claimed"], facts["complete"]) == ("none", "none", False)
    assert sorted(place.rglob("*")) == before


def test_half_done(run):
    place, _ = run
    resume(place)
    for path in sweep_units(place)[3:]:
        path.unlink()
    (place / "units" / "sweep-000003.0123.claim").write_text("{}")
    facts = said(place)
    assert (facts["surveyed"], facts["swept"]) == (f"{UNITS} of {UNITS} units", f"3 of {UNITS} units")
    assert facts["claimed"] == "sweep-000003"
    assert not facts["complete"]


def test_damaged_units_do_not_count_and_stay_where_they_are(run):
    place, _ = run
    resume(place)
    broken = sweep_units(place)[2]
    broken.write_bytes(broken.read_bytes()[:-1])
    facts = said(place)
    assert facts["damaged"] == broken.name and broken.is_file()
    assert facts["swept"] == f"{UNITS - 1} of {UNITS} units"
    assert not facts["complete"]
    resume(place)
    assert said(place)["damaged"] == "none"


def test_finished(run):
    place, _ = run
    measure.resume(place, progress=False)
    found = status(place)
    assert found.complete and found.merged and (found.surveyed, found.swept) == (UNITS, UNITS)
    assert said(place)["results"] == "merged"


def test_documents_kept_together_make_fewer_units(models, tmp_path):
    place = prepare(tmp_path / "run", models("gpt2"), text(per_document=4))
    resume(place)
    assert status(place).complete

"""What can be chosen by name: names without imports, other packages' entry points, and what they may not do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace

import pytest

from selfrepair import SelfRepairError, choices, measure
from selfrepair.engine import ReplayEngine, engine_named
from selfrepair.registry import Registry
from selfrepair.run.planning import settings
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling import executors
from support import corpus, language_model


@dataclass
class Again(ReplayEngine):
    """Another package's engine."""

    name: str = "again"


def start(job, store, workers, shown):
    """Another package's executor."""
    job.started.append((store, workers, shown))


@pytest.fixture
def offer(monkeypatch):
    """Offers entry points: group, name, value, package."""
    points = []

    def entry_points(group, **chosen):
        return [
            point
            for point in points
            if point.group == group and all(getattr(point, key) == value for key, value in chosen.items())
        ]

    def add(group, name, value, package="other"):
        point = metadata.EntryPoint(name, value, group)
        points.append(point._for(SimpleNamespace(name=package, version="1.5")))

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return add


REGISTRIES = [choices.OPERATORS, choices.ENGINES, choices.EXECUTORS, choices.CIRCUIT_WRITERS]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda one: one.kind)
def test_everything_that_is_named_can_be_loaded(registry):
    assert all(callable(registry[name]) for name in registry) and len(registry) == len([*registry]) >= 3


def test_the_command_line_offers_what_the_registries_have():
    assert ("auto", *choices.ENGINES) == settings.ENGINES and tuple(choices.EXECUTORS) == settings.EXECUTORS
    assert {*settings.OPERATORS} == {*choices.OPERATORS} - {"unchanged"}


def test_the_command_line_takes_names_of_other_packages_without_torch(tmp_path):
    info = tmp_path / "other-1.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.5\n")
    groups = {"operators": "halved", "engines": "again", "executors": "elsewhere"}
    lines = [f"[selfrepair.{group}]\n{name} = not.imported:Thing\n" for group, name in groups.items()]
    (info / "entry_points.txt").write_text("".join(lines))
    code = (
        "import sys, typer.main\n"
        "from selfrepair.cli.app import app\n"
        "verb = typer.main.get_command(app).commands['run']\n"
        "verb.make_context('run', ['gpt2', *sys.argv[1:]])\n"
        "sys.exit('torch' in sys.modules)"
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), *sys.path]))
    for asked, ends in (("halved", 0), ("tripled", 1)):
        given = ["--ablation", asked, "--engine", "again", "--executor", "elsewhere"]
        done = subprocess.run(
            [sys.executable, "-c", code, *given],
            env=os.environ | {"PYTHONPATH": path},
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == ends, done.stderr
    assert "'tripled' is not one of" in done.stderr and "'halved'" in done.stderr


def test_names_come_without_an_import(offer):
    registry = Registry("thing", "things", {"own": "no.such.module:Thing"})
    offer("things", "other", "nor.this.one:Thing")
    assert [*registry] == ["own", "other"] and "other" in registry and "third" not in registry
    with pytest.raises(SelfRepairError, match=r"No thing is called 'third'"):
        registry["third"]


def test_a_package_that_fails_is_named(offer):
    offer("selfrepair.engines", "lost", "no.such.module:Engine", "losing")
    with pytest.raises(SelfRepairError, match="'lost' of the package losing cannot be loaded"):
        engine_named("lost")


@pytest.mark.parametrize("taken", ["replay", "auto"])
def test_a_name_that_is_taken_is_refused(offer, taken):
    offer("selfrepair.engines", taken, "test_registry:Again", "taking")
    with pytest.raises(SelfRepairError, match=f"package taking offers the engine '{taken}'"):
        engine_named(taken)


def test_a_name_of_two_packages_is_refused(offer):
    offer("selfrepair.engines", "again", f"{__name__}:Again", "first")
    offer("selfrepair.engines", "again", "elsewhere:Again", "second")
    with pytest.raises(SelfRepairError, match="'again' is offered by first and by second"):
        engine_named("again")


def test_an_engine_that_calls_itself_otherwise_is_refused(offer):
    offer("selfrepair.engines", "other", f"{__name__}:Again")
    with pytest.raises(SelfRepairError, match=r"'other' \(other\) calls itself 'again'"):
        engine_named("other")


def test_a_run_with_another_packages_engine_can_be_continued(offer, tmp_path, monkeypatch):
    offer("selfrepair.engines", "again", f"{__name__}:Again")
    monkeypatch.setattr(
        "selfrepair.run.planning.run_plan.version", lambda name: "1.5" if name == "other" else metadata.version(name)
    )
    model, text = language_model("gpt2"), corpus()
    run = measure(model, text, ablation="zero", heads="L2H1", engine="again", out=tmp_path / "run", progress=False)
    assert run.plan["engine"] == "again" and run.plan["versions"]["other"] == "1.5"
    assert type(load_job(tmp_path / "run", model).engine) is Again
    monkeypatch.setattr("selfrepair.run.planning.run_plan.version", metadata.version)
    with pytest.raises(SelfRepairError, match="not installed"):
        load_job(tmp_path / "run", model)


def test_another_packages_executor_is_called(offer):
    offer("selfrepair.executors", "elsewhere", f"{__name__}:start")
    plan = {"model": {"source": {}}, "ablation": {"operator": "zero", "by_name": True}}
    job = SimpleNamespace(plan=plan, started=[])
    executors.execute(job, "store", "elsewhere", 3, True)
    assert job.started == [("store", 3, True)]
    with pytest.raises(SelfRepairError, match=r"No executor is called 'nowhere'"):
        executors.execute(job, "store", "nowhere", 3, True)

"""What can be chosen by name: names without imports, other packages' entry points, and what they may not do."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import dataclass
from importlib import metadata
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from selfrepair import (
    Head,
    Intervention,
    LogitDifference,
    Prompt,
    Prompts,
    Resample,
    SelfRepairError,
    Zero,
    choices,
    load_run,
    measure,
    resume,
)
from selfrepair.ablation.operators import POSITION_MEANS
from selfrepair.engine import ReplayEngine, engine_named
from selfrepair.paper import make
from selfrepair.paper.exhibit import Exhibit
from selfrepair.paper.inputs.recipe import DEFAULT
from selfrepair.paper.page import Folder
from selfrepair.paper.study import experiment
from selfrepair.questions.measuring.metrics import Metric
from selfrepair.questions.measuring.prompt_effects import prompt_effects
from selfrepair.registry import Registry
from selfrepair.report import number_formats
from selfrepair.report.page.head_numbers import quantities
from selfrepair.report.page.method import method
from selfrepair.run.planning import settings
from selfrepair.run.planning.reload import load_job
from selfrepair.run.scheduling import executors
from selfrepair.statistics.estimator import Estimator, Shown
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import INDEX
from selfrepair.statistics.filters import Filter
from selfrepair.text import read_documents
from selfrepair.text.document import Document
from support import corpus, language_model


def outer(effects):
    """Another package's kind of filter: direct effects of the largest size."""
    return np.abs(effects)


def halved(effects):
    """A kind of filter that gives no thresholds."""
    return effects / 2


# another package's estimator, of sums that there are
halfway = Estimator(
    "halfway",
    "1",
    "Share of tokens that are not repaired.",
    lambda sums: 1 - sums[..., INDEX["repaired"]] / sums[..., INDEX["count"]],
    scale="share",
    shown=Shown("Elsewhere", "half way", "1 - repaired"),
)


@experiment("Elsewhere", needs_sweep=False)
def elsewhere(study):
    """Another package's experiment."""
    table = pd.DataFrame({"x": [study.seed]})
    yield Exhibit("counted", "Table 1", "elsewhere", "Counted", "Counted once.", table)


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

    def add(group, name, value, package="other"):
        point = metadata.EntryPoint(name, value, group)
        points.append(point._for(SimpleNamespace(name=package, version="1.5")))

    monkeypatch.setattr("selfrepair.registry.installed", lambda group: [one for one in points if one.group == group])
    return add


OWN = [getattr(choices, name) for name in dir(choices) if isinstance(getattr(choices, name), Registry)]
REGISTRIES = [*OWN, ESTIMATORS]


@pytest.mark.parametrize("registry", REGISTRIES, ids=lambda registry: registry.kind)
def test_everything_that_is_named_can_be_loaded(registry):
    assert all(registry[name] is not None for name in registry) and len(registry) == len([*registry]) >= 2


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


def test_packages_that_are_installed_meanwhile_are_found(tmp_path, monkeypatch):
    registry, info = Registry("thing", "things.tested", {}), tmp_path / "other-1.5.dist-info"
    monkeypatch.syspath_prepend(tmp_path)
    assert [*registry] == []
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: other\nVersion: 1.5\n")
    (info / "entry_points.txt").write_text("[things.tested]\nlate = os:sep\n")
    assert [*registry] == ["late"] and registry["late"] == os.sep


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
    plan = {"model": {"source": {}}, "ablation": {"operator": "zero", "by_name": True}, "engine_by_name": True}
    job = SimpleNamespace(plan=plan, started=[])
    executors.execute(job, "store", "elsewhere", 3, True)
    assert job.started == [("store", 3, True)]
    with pytest.raises(SelfRepairError, match=r"No executor is called 'nowhere'"):
        executors.execute(job, "store", "nowhere", 3, True)


def test_a_run_with_another_packages_filter_averages_over_its_tokens(offer):
    offer("selfrepair.filters", "outer", f"{__name__}:outer")
    run = measure(
        language_model("gpt2"), corpus(), ablation="zero", heads="L1", filters=["top:0.1", "outer:0.1", "all"],
        sample=10_000, replicates=20, progress=False,
    )  # fmt: skip
    assert run.filters == ["top 10%", "outer 10%", "all"]
    rows = run.tokens_frame()
    assert set(rows["kept_as"]) <= {"top", "outer", "sample"} and "outer" in set(rows["kept_as"])
    found = run.heads.sel(filter="outer 10%", layer=1)
    for head, tokens in rows.groupby("head"):
        sizes = tokens["direct_effect"].abs().sort_values(ascending=False)
        chosen = sizes.index[: int(0.1 * len(tokens))]
        cell = found.sel(head=head)
        assert int(cell["count"]) == len(chosen) and float(cell["threshold"]) == np.float32(sizes[chosen[-1]])
        np.testing.assert_allclose(cell["total_effect"], tokens.loc[chosen, "total_effect"].mean(), rtol=1e-5)
        lines = float(cell["repair_by_mlp"].sum())
        np.testing.assert_allclose(lines, tokens.loc[chosen, "repair_mlps"].mean(), rtol=1e-4, atol=1e-6)
    assert np.isfinite(found["total_effect_standard_error"]).all()
    assert run.heads.attrs["inexact_replicates"] == 0
    assert len(run.table("outer")) == len(run.table("top"))


def test_a_filter_whose_score_gives_no_thresholds_is_refused(offer):
    offer("selfrepair.filters", "halved", f"{__name__}:halved", "halving")
    with pytest.raises(SelfRepairError, match=r"'halved' \(halving\) gives no thresholds"):
        Filter("halved", 0.5).thresholds(np.arange(4.0).reshape(1, 1, 4))
    with pytest.raises(SelfRepairError, match="Unknown filter 'outer'"):
        Filter("outer")


def test_another_packages_estimator_is_in_results_tables_and_page(offer, tmp_path, monkeypatch):
    offer("selfrepair.estimators", "halfway", f"{__name__}:halfway")
    run = measure(language_model("gpt2"), corpus(), ablation="zero", heads="L1", replicates=20, progress=False)
    found = run.heads.sel(layer=1)
    np.testing.assert_allclose(found["halfway"], 1 - found["share_repaired"])
    assert run.heads["halfway"].attrs["description"] == halfway.description
    shown = {one["name"]: one for one in quantities(run)}["halfway"]
    assert (shown["group"], shown["title"], shown["percent"]) == ("Elsewhere", "half way", True)
    assert ["halfway", "1 - repaired"] in [row[:2] for row in method()["rows"]]
    assert number_formats.units("halfway") == "%"
    run.save(tmp_path / "run")
    monkeypatch.setattr("selfrepair.registry.installed", lambda group: [])
    again = load_run(tmp_path / "run")  # where the package is not installed
    assert "halfway" in again.heads and "halfway" not in {one["name"] for one in quantities(again)}


def test_an_estimator_that_is_none_is_refused_before_the_sweep(offer):
    offer("selfrepair.estimators", "outer", f"{__name__}:outer", "wrong")
    with pytest.raises(SelfRepairError, match=r"The estimator 'outer' \(wrong\) is not"):
        measure(language_model("gpt2"), corpus(), progress=False)


def test_another_packages_experiment_is_made_and_on_the_page(offer, tmp_path):
    offer("selfrepair.experiments", "elsewhere", f"{__name__}:elsewhere")
    assert not make.needs_sweep(["elsewhere"]) and make.needs_sweep([])
    study = make.Study(language_model("gpt2"), corpus(), None, DEFAULT)
    made = make.make(study, ["elsewhere"], keeper=Folder(tmp_path))
    assert [one.name for one in made.exhibits] == ["counted"] and not made.failed
    assert "Elsewhere</h2>" in (tmp_path / "index.html").read_text()
    with pytest.raises(SelfRepairError, match=r"No experiment is called 'nowhere'"):
        make.make(study, ["nowhere"])


@dataclass
class Impostor(ReplayEngine):
    """An engine of the user's that has the name of a built-in one."""

    name: str = "replay"


@pytest.mark.parametrize("workers", [1, 2])
def test_an_engine_with_a_built_in_engines_name_is_not_taken_for_it(tmp_path, workers):
    model, text, place = language_model("gpt2"), corpus(), tmp_path / "run"
    run = measure(model, text, ablation="zero", heads="L2H1", engine=Impostor(), out=place, progress=False)
    assert run.plan["engine"] == "replay" and run.plan["engine_by_name"] is False
    with pytest.raises(SelfRepairError, match=r"engine 'replay' of this run was an object of a class that no name"):
        resume(place, model, workers=workers, progress=False)
    again = measure(
        model, text, ablation="zero", heads="L2H1", engine=ReplayEngine(), out=tmp_path / "b", progress=False
    )
    assert again.plan["engine_by_name"] is True and resume(tmp_path / "b", model, progress=False)


def test_what_keeps_half_of_an_operators_contract_is_refused():
    class Duck:
        name, draws, donors = "duck", 1, 0

        def replacement(self, port, clean, source, draw):
            return clean

    class Greedy(Zero):
        needs = frozenset({"variances"})

    class Idle(Zero):
        draws = 0

    for operator, said in (
        (Duck(), "lacks needs, draw_donors"),
        (Greedy(), "needs 'variances'"),
        (Idle(), "draws = 0"),
    ):
        with pytest.raises(SelfRepairError, match=said):
            measure(language_model("gpt2"), corpus(), ablation=operator, progress=False)


def test_an_operators_own_donors_and_needs_are_heeded():
    class Next(Resample):
        name = "next window"
        needs = frozenset({POSITION_MEANS})

        def draw_donors(self, windows, seed):
            return (np.arange(len(windows))[:, None] + 1 + seed) % len(windows)

        def replacement(self, port, clean, source, draw):
            assert source.position_mean(port).shape == clean.shape[1:]
            return source.donor(port, draw)

    run = measure(language_model("gpt2"), corpus(), ablation=Next(), heads="L1H0", seed=2, progress=False)
    assert run.windows["donors"].to_pylist() == [[(one + 3) % len(run.windows)] for one in range(len(run.windows))]


def pairs(path, field, most):
    """Another package's text format: lines of `name=text`."""
    for line in path.read_text().splitlines():
        name, text = line.split("=")
        yield Document.cut(f"{name}:{field}", text, most)


def test_another_packages_text_format_is_read(offer, tmp_path):
    file = tmp_path / "some.PAIRS.gz"
    file.write_text("a=One text.\nb=Another.")
    with pytest.raises(SelfRepairError, match="file of an unknown kind"):
        read_documents(str(file))
    offer("selfrepair.text_formats", "pairs.gz", f"{__name__}:pairs")
    found = list(read_documents(str(file), field="x"))
    assert [(one.name, one.text) for one in found] == [("a:x", "One text."), ("b:x", "Another.")]
    with pytest.raises(SelfRepairError, match=r"\.parquet, \.pairs\.gz"):
        read_documents("no dataset's name")


FIRST_ANSWER = Metric(
    "logit of the first answer",
    "the same",
    "logits",
    lambda prompts: LogitDifference(tuple(prompts.positions.tolist()), tuple(side[:1] for side in prompts.answers)),
)


def test_another_packages_readout_is_measured_on_prompts(offer):
    offer("selfrepair.readouts", "first", f"{__name__}:FIRST_ANSWER")
    prompts = Prompts.of([Prompt((5, 6, 7), ((8,), (9,)), ((3,),)), Prompt((6, 5, 7), ((9,), (8,)), ((3,),))], None)
    model = language_model("gpt2")
    effects = prompt_effects(model, prompts, [Intervention((Head(0, 1),))], "zero", metric="first")
    plain = Prompts.of([Prompt((5, 6, 7), ((8,),)), Prompt((6, 5, 7), ((9,),))], None)
    expected = prompt_effects(model, plain, [Intervention((Head(0, 1),))], "zero")
    np.testing.assert_allclose(effects.total_effect, expected.total_effect, atol=1e-12)
    with pytest.raises(SelfRepairError, match="No readout is called 'last'"):
        prompt_effects(model, prompts, [], metric="last")

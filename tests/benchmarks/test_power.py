"""The benchmark of two phases on a small model: its lines have what they should, and its corpora cover."""

from dataclasses import replace

import numpy as np

import power
from support import corpus, language_model


def text(documents=40):
    return corpus(lengths=[9] * documents, documents=np.arange(documents))


def test_gains_are_of_seconds_and_squared_widths():
    model = language_model("llama", dtype="float32")
    exact = power.run_on(model, text(), filters=power.FILTERS)
    phases = power.run_on(model, text(), filters=("top:0.02",), surrogate="own", exact_share=0.5)
    exact, phases = replace(exact, seconds=20.0), replace(phases, seconds=10.0)
    line = power.gains(exact, phases, power.TOP)
    assert line.startswith("gain of the card ")
    gain = float(line.partition("of the card ")[2].partition(",")[0])
    ratio = power.pooled_width(exact.run, power.TOP) / power.pooled_width(phases.run, power.TOP)
    assert (np.isnan(gain) and np.isnan(ratio)) or abs(gain - 2 * ratio**2) <= 0.05
    for name in ("self_repair", "total_effect"):
        median = float(line.partition(f"median head's {name} ")[2].partition(" ")[0])
        both = (power.widths(run, name, power.TOP) for run in (exact.run, phases.run))
        assert abs(median - np.nanmedian(2 * np.divide(*both) ** 2)) <= 0.05


def test_unfiltered_runs_and_their_coverage(monkeypatch):
    monkeypatch.setattr(power, "POPULATION_HEADS", 2)
    lines = list(power.coverage_over_all(language_model("llama", dtype="float32"), text(), 40))
    assert [line.split(",")[0] for line in lines] == ["  coverage with gradient", "  coverage with noise"]
    for line in lines:
        assert float(line.partition("self_repair ")[2].partition("%")[0]) > 75


def test_coverage_is_of_own_positions_and_of_noise(monkeypatch):
    monkeypatch.setattr(power, "POPULATION_HEADS", 2)
    monkeypatch.setattr(power, "FRACTION", 0.2)
    lines = list(power.coverage(language_model("llama", dtype="float32"), text(), 40))
    assert [line.split(",")[0] for line in lines] == ["  coverage with own", "  coverage with noise"]
    for line in lines:
        held = float(line.partition("self_repair ")[2].partition("%")[0])
        assert "20 documents of which 8 exact, 40 corpora" in line and held > 80

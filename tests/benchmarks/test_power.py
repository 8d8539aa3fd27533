"""The benchmark of two phases on a small model: its lines have what they should, and its corpora cover."""

from dataclasses import replace

import numpy as np

import power
from support import corpus, language_model


def text(documents=40):
    return corpus(lengths=[9] * documents, documents=np.arange(documents))


def test_gains_are_of_seconds_and_squared_widths():
    model = language_model("llama", dtype="float32")
    exact, phases = (power.run_on(model, text(), surrogate=name, exact_share=0.5) for name in ("none", "own"))
    exact, phases = replace(exact, seconds=20.0), replace(phases, seconds=10.0)
    line = power.gains(exact, phases, 0.5)
    assert line.startswith("  exact share 0.5 (20 of 40 documents), 10 s: gain of the card ")
    gain = float(line.partition("of the card ")[2].partition(",")[0])
    ratio = power.pooled_width(exact.run) / power.pooled_width(phases.run)
    assert (np.isnan(gain) and np.isnan(ratio)) or abs(gain - 2 * ratio**2) <= 0.05
    median = float(line.partition("of the median head ")[2].partition(" ")[0])
    assert abs(median - np.nanmedian(2 * (power.widths(exact.run) / power.widths(phases.run)) ** 2)) <= 0.05


def test_coverage_is_of_own_positions_and_of_noise(monkeypatch):
    monkeypatch.setattr(power, "POPULATION_HEADS", 2)
    monkeypatch.setattr(power, "FRACTION", 0.2)
    lines = list(power.coverage(language_model("llama", dtype="float32"), text(), 40))
    assert [line.split(",")[0] for line in lines] == ["  coverage with own", "  coverage with noise"]
    for line in lines:
        held = float(line.partition("self_repair ")[2].partition("%")[0])
        assert "20 documents of which 8 exact, 40 corpora" in line and held > 80

"""Benchmarks are no package of ours: their folder goes on the path for as long as their tests run."""

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).parents[2] / "benchmarks"))


@pytest.fixture
def small_products(monkeypatch):
    """Peaks measured on products that take no time."""
    from race import peak, rounds

    monkeypatch.setattr(peak, "SIZES", {"cpu": ((64, 64, 64),)})
    monkeypatch.setattr(peak, "SECONDS", 0.001)
    monkeypatch.setattr(rounds, "PAUSE", 0)

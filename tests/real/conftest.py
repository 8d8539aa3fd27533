"""Models that were trained, where they are at hand."""

from pathlib import Path

import pytest

from selfrepair import load

TRAINED = Path(__file__).parents[3] / "shared" / "models"  # beside the project's folder, on some machines


@pytest.fixture(scope="session")
def default():
    return load("default")


@pytest.fixture(scope="session")
def trained():
    """By name: a small model trained for this project."""
    loaded = {}

    def model(name: str):
        if not (TRAINED / name).is_dir():
            pytest.skip(f"{name} is not at hand")
        if name not in loaded:
            loaded[name] = load(TRAINED / name)
        return loaded[name]

    return model

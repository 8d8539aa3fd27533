"""Tiny models as folders, so that workers can load them by name; prepared and finished runs to compare with."""

from __future__ import annotations

import pytest
from scale_support import copy, prepare, resume, save_model


@pytest.fixture(scope="session")
def models(tmp_path_factory):
    """Folder of the model of a family."""
    place, saved = tmp_path_factory.mktemp("models"), {}

    def folder(name):
        if name not in saved:
            saved[name] = save_model(name, place / name)
        return saved[name]

    return folder


@pytest.fixture(scope="session")
def undisturbed(models, tmp_path_factory):
    """For a family: a folder with a plan and nothing done, and the run that one process makes of it."""
    place, made = tmp_path_factory.mktemp("undisturbed"), {}

    def folders(name="gpt2"):
        if name not in made:
            prepared = prepare(place / name / "prepared", models(name))
            made[name] = prepared, resume(copy(prepared, place / name / "finished"))
        return made[name]

    return folders


@pytest.fixture
def run(undisturbed, tmp_path):
    """A fresh folder with a plan, and the run that has to come of it."""
    prepared, expected = undisturbed()
    return copy(prepared, tmp_path / "run"), expected

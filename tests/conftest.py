"""Shared by all tests: no network, one thread, no folder of the user's touched, and the same machine everywhere."""

import surroundings  # isort: skip  first: it fixes what libraries read from their surroundings on import

import shutil

import pytest
import torch
from hypothesis import settings

from browsing import browser as browser

settings.register_profile("patient", deadline=None)  # how long an example takes says what else the machine does
settings.load_profile("patient")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Neighbours stay in one process, which has their models and runs already, until another has nothing to do."""
    from xdist.scheduler import WorkStealingScheduling

    return WorkStealingScheduling(config, log) if config.option.dist == "load" else None


def pytest_collection_modifyitems(items):
    """Modules with a long test come first: at the end nobody waits for one process that is still at it."""
    long = {item.path for item in items if item.get_closest_marker("long")}
    items.sort(key=lambda item: item.path not in long)


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Models of the tests are so small that a second thread only waits; other tests run beside this one."""
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def products(monkeypatch):
    """The speed trial, never timed in tests: full precision is as fast as any, unless the test says otherwise."""
    trial = surroundings.Products(monkeypatch)
    trial.outcome("neither")
    return trial


@pytest.fixture(autouse=True)
def ample_memory(monkeypatch):
    """Batches are planned for the 4 GB that machines of 8 GB or more give, not for what this one has."""
    from selfrepair.run.planning import batch_size

    monkeypatch.setattr(batch_size, "_memory", lambda _model: 4e9)


@pytest.fixture
def compiler():
    """A C++ compiler, for tests that compile."""
    if not any(shutil.which(name) for name in ("g++", "clang++", "c++")):
        pytest.skip("compiled differences need a C++ compiler")


@pytest.fixture(autouse=True)
def largest_fold(monkeypatch):
    """The probe of how many heads share a batch takes the most there are, not what this machine is fastest at."""
    from selfrepair.engine import fold

    def untimed(run, heads):
        run(heads)
        return 1.0

    monkeypatch.setattr(fold, "_seconds", untimed)

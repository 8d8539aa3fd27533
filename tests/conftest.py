"""Shared by all tests: no network, one thread, no folder of the user's touched."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # how long an example takes says what else the machine does
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def one_thread():
    """Models of the tests are so small that a second thread only waits; other tests run beside this one."""
    torch.set_num_threads(1)

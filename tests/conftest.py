"""Shared by all tests: no network, few threads, no folder of the user's touched."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"

import pytest
import torch
from hypothesis import settings

settings.register_profile("patient", deadline=None)  # how long an example takes says what else the machine does
settings.load_profile("patient")


@pytest.fixture(autouse=True, scope="session")
def few_threads():
    torch.set_num_threads(min(2, os.cpu_count() or 1))

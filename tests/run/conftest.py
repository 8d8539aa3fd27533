import warnings

import pytest
import torch

from selfrepair import LedgerDoesNotClose


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models of the zoo are so small that a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def every_ledger_closes():
    with warnings.catch_warnings():
        warnings.simplefilter("error", LedgerDoesNotClose)
        yield

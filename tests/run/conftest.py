import warnings

import pytest

from selfrepair import LedgerDoesNotClose


@pytest.fixture(autouse=True)
def every_ledger_closes():
    with warnings.catch_warnings():
        warnings.simplefilter("error", LedgerDoesNotClose)
        yield

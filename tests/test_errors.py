"""Errors cross process boundaries whole."""

import pickle

import pytest

from selfrepair import RefusedModel, SelfRepairError


@pytest.mark.parametrize(
    "error",
    [
        SelfRepairError("What came.", "What to do."),
        SelfRepairError("What came."),
        RefusedModel("blocks add up", "off by 3.", "Take another model."),
        RefusedModel("blocks add up", "off by 3."),
    ],
)
def test_errors_survive_pickling(error):
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is type(error) and str(again) == str(error)
    assert vars(again) == vars(error)
    assert pickle.loads(pickle.dumps(again)).problem == error.problem

import pytest
import torch

from loading.fixtures import llama as llama
from loading.fixtures import saved as saved
from loading.fixtures import selfrepair as selfrepair


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Models of the zoo are so small that a second thread only waits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)

"""What computes effects is refused outside `model.running()`, in words rather than torch's."""

import pytest
import torch

from selfrepair import DeltaEngine, Head, ReferenceEngine, ReplayEngine, SelfRepairError, each, ports_of
from selfrepair.engine.clean import clean_run, port_outputs
from support import TOKENS, language_model

CHOSEN = each([Head(1, 0)])


def swept(engine, model, clean):
    return list(engine.sweep(model, clean, CHOSEN, lambda port: torch.zeros_like(clean.outputs_at(port)), True))


@pytest.mark.parametrize("engine", [ReferenceEngine, ReplayEngine, DeltaEngine])
@pytest.mark.parametrize("inference", [False, True])
def test_a_sweep_outside_running_is_refused(engine, inference):
    """Inference alone is not enough for a float64 model: its norms would round to float32 without a word."""
    model = language_model("llama")
    assert model.dtype == torch.float64
    with model.running():
        clean = clean_run(model, TOKENS, ports=ports_of(CHOSEN))
        assert len(swept(engine(), model, clean)) == 1
    with torch.inference_mode(inference), pytest.raises(SelfRepairError, match=r"`sweep` was called outside") as caught:
        swept(engine(), model, clean)
    assert "with model.running():" in caught.value.fix


def test_clean_runs_outside_running_are_refused():
    model = language_model("llama")
    with pytest.raises(SelfRepairError, match=r"`clean_run` was called outside"):
        clean_run(model, TOKENS)
    with pytest.raises(SelfRepairError, match=r"`port_outputs` was called outside"):
        port_outputs(model, TOKENS, ports_of(CHOSEN))

"""Whatever goes wrong while a model's parts are found is a refusal that names the step; what a user does passes."""

import copy

import pytest
import torch

from selfrepair import RefusedModel, SelfRepairError, load
from selfrepair.model import load as loading
from selfrepair.model.faults import error_in_words, finding, is_fault, is_out_of_memory
from zoo import families


class PanicException(BaseException):
    """As pyo3's: raised where a native library panics, and no `Exception`."""


class OtherNative(BaseException):
    """Nor are those of other native libraries, which may be called anything."""


class Wordless(Exception):
    def __str__(self):
        raise RuntimeError("not even this")


FAULTS = {
    "an exception": (ValueError("shapes do not fit\nsecond line"), "it ended with ValueError: shapes do not fit."),
    "without words": (AssertionError(), "it ended with AssertionError."),
    "in colours": (KeyError("\x1b[31mred\x1b[0m\x07"), "KeyError: "),
    "a panic": (PanicException("called `unwrap()` on a `None` value"), "PanicException: called `unwrap()`"),
    "another native exception": (OtherNative("abort"), "OtherNative: abort"),
    "several at once": (
        BaseExceptionGroup("both", [PanicException("one"), KeyError("two")]),
        "both (2 sub-exceptions)",
    ),
    "one that fails to say": (Wordless(), "it ended with Wordless."),
    "names that are not UTF-8": (OSError("\udce9.txt \u202e"), "OSError: \\xe9.txt \\u202e"),
    "memory": (MemoryError(), "memory ran out"),
    "memory of a device": (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "memory ran out"),
    "a long message": (RuntimeError("x" * 10_000), "RuntimeError: xxx"),
}


def network_of_llama():
    return copy.deepcopy(families.build("llama"))


def failing(error, after: int = 0):
    """An MLP that raises, after so many calls that it answers."""
    network = network_of_llama()
    mlp, calls = network.model.layers[1].mlp, []
    inner = type(mlp).forward

    class Failing(type(mlp)):
        def forward(self, hidden):
            calls.append(1)
            if len(calls) > after:
                raise error
            return inner(self, hidden)

    mlp.__class__ = Failing
    return network, calls


@pytest.mark.parametrize("what", FAULTS)
def test_faults_of_libraries_are_refusals(what):
    error, said = FAULTS[what]
    with pytest.raises(RefusedModel, match="finding the blocks") as refused:
        load(failing(error)[0])
    assert said in str(refused.value) and refused.value.__cause__ is error and refused.value.fix
    assert "second line" not in str(refused.value) and len(str(refused.value)) < 800
    assert not [one for one in str(refused.value) if ord(one) < 32 and one != "\n"]
    if "memory" in what:
        assert "--offload" in refused.value.fix


def test_every_step_is_covered():
    """Wherever in loading a forward fails, the refusal says at which step."""
    network, calls = failing(RuntimeError("never"), after=10**9)
    load(network)
    steps = set()
    for after in range(len(calls)):
        with pytest.raises(RefusedModel) as refused:
            load(failing(RuntimeError("here"), after)[0])
        steps.add(refused.value.identity)
    wanted = {"the blocks", "the blocks' arguments", "the parts of layer 1", "the final norm", "the read-out"}
    wanted_steps = {f"finding {step}" for step in (*wanted, "proofs of its identities")}
    assert steps == wanted_steps


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), BaseExceptionGroup("both", [KeyError(), KeyboardInterrupt()])]
)
def test_what_a_user_does_passes(error):
    with pytest.raises(type(error)):
        load(failing(error)[0])


def test_refusals_of_our_own_pass_as_they_are():
    ours = SelfRepairError("What came.", "What to do.")
    with pytest.raises(SelfRepairError) as found, finding("something"):
        raise ours
    assert found.value is ours


def test_what_counts_as_a_fault():
    assert is_fault(ValueError()) and is_fault(PanicException())
    assert not is_fault(KeyboardInterrupt()) and not is_fault(GeneratorExit())
    assert is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"))
    assert error_in_words(ValueError("\n\n  \x1b[1;31mwords\x1b[0m  \nmore")) == "ValueError: words"


@pytest.mark.parametrize(
    ("error", "said"),
    [(PanicException("index out of bounds"), "index out of bounds"), (MemoryError(), "Memory ran out while")],
)
def test_panics_and_memory_while_files_are_read(monkeypatch, llama, error, said):
    from transformers import AutoTokenizer

    def fails(*_args, **_kwargs):
        raise error

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", fails)
    with pytest.raises(SelfRepairError) as refused:
        loading.load(llama)
    assert said in str(refused.value) and refused.value.__cause__ is error


def test_the_command_prints_the_step(selfrepair, llama, monkeypatch):
    from selfrepair.model import dissect

    def fails(*_args, **_kwargs):
        raise PanicException("\x1b[31mhead over heels\x1b[0m")

    monkeypatch.setattr(dissect, "find_blocks", fails)
    ended = selfrepair("check", llama)
    assert ended.code == 1 and "finding the blocks" in ended.said and "head over heels" in ended.said
    assert "\x1b" not in ended.err and "Traceback" not in ended.err

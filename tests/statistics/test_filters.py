import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfrepair.errors import SelfRepairError
from selfrepair.statistics.filters import DEFAULT_FILTERS, Filter, all_thresholds


def test_labels_of_the_default_set():
    assert [one.label for one in DEFAULT_FILTERS] == ["all", "top 2%", "bottom 2%"]
    assert Filter("top", 0.07).label == "top 7%"
    assert Filter("bottom", 0.005).label == "bottom 0.5%"


@pytest.mark.parametrize("text", ["top:0.02", "top", "top:2%", "top 2%", " Top:0.02 "])
def test_parse_spellings(text):
    assert Filter.parse(text) == Filter("top", 0.02)


def test_parse_all_has_no_fraction():
    assert Filter.parse("all") == Filter("all", 1.0) == Filter("all", 0.5)


@pytest.mark.parametrize("text", ["middle", "top:0", "top:-0.1", "bottom:1.5", "top:many", "", "top:nan"])
def test_what_is_not_a_filter_is_refused(text):
    with pytest.raises(SelfRepairError):
        Filter.parse(text)


@given(st.integers(1, 300), st.floats(0.001, 1.0), st.integers(0, 1000))
def test_thresholds_keep_exactly_k_tokens(tokens, fraction, seed):
    effects = np.random.default_rng(seed).permutation(6 * tokens).reshape(2, 3, tokens).astype(np.float32)
    scored = np.ones((1, tokens), bool)
    expected = max(1, int(fraction * tokens))
    for kind in ("top", "bottom"):
        one = Filter(kind, fraction)
        limits = one.thresholds(effects)
        for layer in range(2):
            mask = one.mask(effects[layer][:, None, :], limits[layer], scored)
            assert (mask.sum(axis=(1, 2)) == expected).all()
            kept = effects[layer][:, None, :][0][mask[0]]
            rest = effects[layer][:, None, :][0][~mask[0]]
            if len(rest):
                assert kept.min() > rest.max() if kind == "top" else kept.max() < rest.min()


def test_unscored_tokens_never_pass():
    effects = np.ones((1, 2, 2), np.float32)
    scored = np.array([[True, False], [False, True]])
    for one in DEFAULT_FILTERS:
        limits = one.thresholds(effects.reshape(1, 1, 4))
        assert (one.mask(effects, limits[0], scored)[0] == scored).all()


def test_nonfinite_or_missing_direct_effects_are_refused():
    effects = np.ones((1, 2, 5), np.float32)
    effects[0, 1, 3] = np.nan
    with pytest.raises(SelfRepairError, match="layer 0 are not finite"):
        all_thresholds(DEFAULT_FILTERS, effects)
    with pytest.raises(SelfRepairError, match="no scored tokens"):
        all_thresholds(DEFAULT_FILTERS, np.ones((1, 2, 0), np.float32))

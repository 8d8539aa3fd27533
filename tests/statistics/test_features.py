import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from made_corpora import quantities

from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.estimators import ESTIMATORS
from selfrepair.statistics.features import FEATURES, INDEX, features

FRACTIONS = [f"fraction_{line}" for line in ("heads", "mlps", "mixers", "post_norms", "norm")]


def token(**given):
    """Features of one token by name; what is not given is 0."""
    made = {name: np.array(float(given.get(name, 0))) for name in QUANTITIES}
    return dict(zip(FEATURES, features(made), strict=True))


def estimate(name, made):
    return ESTIMATORS[name](features(made).reshape(-1, len(FEATURES)).sum(0))


@pytest.mark.parametrize(
    ("effect", "repair", "outcome"),
    [
        (2, 1, "repaired"),
        (2, 2, "repaired"),
        (2, 3, "over_repaired"),
        (2, -1, "made_worse"),
        (-2, -1, "repaired"),
        (-2, -2, "repaired"),
        (-2, -3, "over_repaired"),
        (-2, 1, "made_worse"),
        (2, 0, None),
        (0, 1, None),
    ],
)
def test_outcomes_go_by_the_sign_of_the_damage(effect, repair, outcome):
    found = token(direct_effect=effect + 0.5, ablated_direct_effect=0.5, self_repair=repair)
    assert {name for name in ("repaired", "over_repaired", "made_worse") if found[name]} == {outcome} - {None}


def test_the_numerical_floor_is_no_repair():
    made = {name: np.zeros(2) for name in QUANTITIES} | {
        "direct_effect": np.array([1.0, 1e-7]),
        "self_repair": np.array([1e-7, 1.0]),
    }
    assert features(made)[..., INDEX["repaired"]].sum() == 1
    assert features(made)[..., INDEX["over_repaired"]].sum() == 1
    for name in ("repaired", "over_repaired", "made_worse"):
        assert features(made, floor=1e-6)[..., INDEX[name]].sum() == 0


def test_over_repaired_tokens_have_a_total_effect_opposite_to_the_damage():
    rng = np.random.default_rng(0)
    made = {name: values.astype(float) for name, values in quantities(rng, 1000).items()}
    lost = made["direct_effect"] - made["ablated_direct_effect"]
    made["total_effect"] = made["self_repair"] - lost
    found = features(made)
    np.testing.assert_array_equal(found[:, INDEX["over_repaired"]], made["total_effect"] * lost > 0)
    outcomes = [found[:, INDEX[name]] for name in ("repaired", "over_repaired", "made_worse")]
    np.testing.assert_array_equal(np.sum(outcomes, axis=0), 1)


def test_the_papers_ratios_leave_out_tokens_without_direct_effect():
    found = token(direct_effect=0, repair_norm=1, self_repair=1)
    assert found["ratio_defined"] == found["clipped_norm"] == found["clipped_self_repair"] == 0
    found = token(direct_effect=-2, repair_norm=-1, self_repair=1)
    assert (found["ratio_defined"], found["clipped_norm"], found["clipped_self_repair"]) == (1, 0.5, 0)


def test_clipped_noise_looks_like_a_third():
    rng = np.random.default_rng(1)
    made = quantities(rng, 100_000)
    made["direct_effect"] = np.ones_like(made["repair_norm"])
    made["repair_norm"] = rng.normal(size=100_000)
    assert abs(estimate("paper_clipped_mean_norm", made) - 0.316) < 0.005
    assert abs(estimate("fraction_norm", made | {"ablated_direct_effect": np.zeros(100_000)})) < 0.02
    assert "0.3" in ESTIMATORS["paper_clipped_mean_norm"].description


def test_donor_variances_are_unknown_unless_given():
    made = quantities(np.random.default_rng(2), 5)
    assert np.isnan(estimate("donor_variance_self_repair", made))
    assert not np.isnan(features(made)[:, : INDEX["donor_variance_self_repair"]]).any()
    made["donor_variance_self_repair"] = np.arange(5.0)
    assert estimate("donor_variance_self_repair", made) == 2


def test_features_keep_their_shape_and_names():
    assert features(quantities(np.random.default_rng(0), 2, 3, 4)).shape == (2, 3, 4, len(FEATURES))
    assert len(set(FEATURES)) == len(FEATURES) and FEATURES[0] == "count"


@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_estimators_are_those_of_the_tokens(seed, tokens):
    made = {name: values.astype(float) for name, values in quantities(np.random.default_rng(seed), tokens).items()}
    effect, left, total, repair = (
        made[name] for name in ("direct_effect", "ablated_direct_effect", "total_effect", "self_repair")
    )
    lost = effect - left
    expected = {name: made[name].mean() for name in QUANTITIES}
    expected |= {
        "lost_direct_effect": lost.mean(),
        "repaired_fraction": repair.sum() / lost.sum(),
        "slope_through_origin": np.linalg.lstsq(-lost[:, None], total, rcond=None)[0][0],
        "slope": np.polyfit(-lost, total, 1)[0],
        "r_squared": np.corrcoef(-lost, total)[0, 1] ** 2,
        "retention": left.sum() / effect.sum(),
        "masking": 1 - total.sum() / (-lost).sum(),
        "gross_repair_mlps": np.abs(made["repair_mlps"]).mean(),
        "fraction_heads": made["repair_heads"].sum() / lost.sum(),
        "share_worse": np.mean(repair * lost < 0),
        "share_over_repaired": np.mean(repair * np.sign(lost) > np.abs(lost)),
        "share_sigma_above_one": np.mean(made["sigma_ratio"] > 1),
        "paper_clipped_mean_self_repair": np.clip(repair / effect, 0, 1).mean(),
    }
    for name, value in expected.items():
        np.testing.assert_allclose(estimate(name, made), value, rtol=1e-6, atol=1e-9, err_msg=name)
    np.testing.assert_allclose(estimate("masking", made), estimate("repaired_fraction", made), rtol=1e-4, atol=1e-4)
    whole = estimate("repaired_fraction", made)
    np.testing.assert_allclose(sum(estimate(name, made) for name in FRACTIONS), whole, rtol=1e-4, atol=1e-4)


def test_slopes_say_how_much_is_repaired():
    lost = np.array([0.5, 1.0, -2.0, 3.0])
    for repaired, slope in ((0.0, 1.0), (1.0, 0.0), (0.25, 0.75)):
        made = {name: np.zeros(4) for name in QUANTITIES}
        made |= {"direct_effect": lost, "self_repair": repaired * lost, "total_effect": (repaired - 1) * lost}
        assert estimate("slope_through_origin", made) == pytest.approx(slope, abs=1e-12)
        assert estimate("slope", made) == pytest.approx(slope, abs=1e-12)
        assert estimate("repaired_fraction", made) == pytest.approx(repaired)


def test_nothing_divided_by_nothing_is_nan_without_warnings(recwarn):
    for name, one in ESTIMATORS.items():
        values = one(np.zeros((2, 3, len(FEATURES))))
        assert values.shape == (2, 3) and np.isnan(values).all(), name
    assert not recwarn.list


def test_every_estimator_says_what_it_is():
    assert all(name == one.name and one.description.endswith(".") for name, one in ESTIMATORS.items())
    assert {one.units for one in ESTIMATORS.values()} == {"1", "logit", "squared logit"}

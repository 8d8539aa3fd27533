"""Numbers with intervals, as tables print them."""

import math

import pytest

from selfrepair.report.number_formats import brief, effect, estimate, leaves_out_zero, percent, share, signed, small

INF, NAN = math.inf, math.nan


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((4.842, 2.124, 7.311), ("+4.842", "[+2.12, +7.31]")),
        ((0.0142, 0.0076, 0.0208), ("+0.014", "[+0.0076, +0.0208]")),
        ((-0.2, -1.25, 0.85), ("-0.200", "[-1.25, +0.85]")),
        ((1.606, 0.0038, 3.21), ("+1.606", "[+0.004, +3.210]")),
        ((1.606, 0.0, 3.21), ("+1.606", "[+0.00, +3.21]")),
        ((0.3, -INF, INF), ("+0.300", "unbounded")),
        ((0.3, 0.1, INF), ("+0.300", "[+0.10, ∞]")),
        ((0.3, NAN, NAN), ("+0.300", "[–]")),
        ((0.3, None, None), ("+0.300", "[–]")),
        ((NAN, NAN, NAN), ("–", "[–]")),
        ((-0.00001, -0.2, 0.2), ("+0.000", "[-0.20, +0.20]")),
        ((2e7, -1e7, 5e7), ("+2.0e+07", "[-1.0e+07, +5.0e+07]")),
    ],
)
def test_effects(given, said):
    assert effect(*given) == said


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ((0.504, 0.38, 0.63), ("50%", "[38, 63]")),
        ((0.464, 0.423, 0.505), ("46.4%", "[42.3, 50.5]")),
        ((0.4738, 0.4731, 0.4745), ("47.38%", "[47.31, 47.45]")),
        ((-2.95, -4.12, -1.81), ("-295%", "[-412, -181]")),
        ((0.2, 0.003, 0.4), ("20.0%", "[0.3, 40.0]")),
        ((0.8, -INF, INF), ("80%", "unbounded")),
        ((0.8, -INF, 0.9), ("80%", "[-∞, 90]")),
        ((-1e-9, -0.2, 0.2), ("0%", "[-20, 20]")),
        ((NAN, NAN, NAN), ("–", "[–]")),
    ],
)
def test_shares(given, said):
    assert share(*given) == said


def test_numbers_are_in_the_units_of_the_tables_in_comparisons_too():
    assert estimate("repaired_fraction", 0.4738, 0.40, 0.55) == ("47%", "[40, 55]")
    assert estimate("repaired_fraction", 0.009, -0.013, 0.032, change=True) == ("+0.9 points", "[-1.3, 3.2]")
    assert estimate("repaired_fraction", -0.2, -0.4, 0.1, change=True) == ("-20 points", "[-40, 10]")
    assert estimate("self_repair", 0.2, 0.1, 0.3, change=True) == estimate("self_repair", 0.2, 0.1, 0.3)
    assert estimate("slope", 0.2, 0.1, 0.3)[0] == "+0.200"
    assert percent(0.4738) == "47%" and signed(None) == percent(NAN) == "–"


def test_rounding_is_not_printed_to_its_last_digit():
    assert small(5e-18) == small(0.0) == "< 1e-09" and small(3.2e-6) == "3.2e-06" and small(NAN) == "nan"
    assert brief(5e-18) == brief(-5e-18) == "0" and brief(0.12345) == "0.123" and brief(-math.inf) == "-inf"
    assert small("none") == "none" and small(640) == "640"


def test_intervals_leave_out_zero():
    assert leaves_out_zero(0.1, INF) and leaves_out_zero(-INF, -0.1) and not leaves_out_zero(-INF, INF)
    assert not leaves_out_zero(0.0, 1.0) and not leaves_out_zero(NAN, NAN) and not leaves_out_zero(None, None)

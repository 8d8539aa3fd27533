"""Progress: rate, remaining time, what has been found; plain lines where there is no terminal."""

import sys
import types

import pytest

from selfrepair import progress as module
from selfrepair.progress import Meter, clock, progress


@pytest.fixture
def now(monkeypatch):
    """A clock that is set by hand."""
    time = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: time[0])
    return time


def test_rate_and_remaining_time(now):
    meter = Meter(1000, lambda _meter: None)
    meter.already(400)  # by somebody else, or before: says nothing about how fast this goes
    assert meter.left is None and meter.describe() == ""
    now[0] += 10
    meter(200)  # among it what has to be done only once
    assert (meter.share, meter.rate, meter.left) == (0.6, 20.0, None)
    now[0] += 2
    meter(100)
    assert (meter.share, meter.rate, meter.left) == (0.7, 25.0, 6.0)
    meter.say("31.2% repaired")
    assert meter.describe() == "25 tokens/s, about 6 s left; 31.2% repaired"
    meter(300)
    assert "left" not in meter.describe()


def test_plain_lines(now, capsys):
    with progress("Sweep", 1000) as meter:
        meter(10)
        now[0] += module._LINE_EVERY + 1
        meter(90)
        meter(1)
        meter.say("found")
        now[0] += 4
        meter(899)
        meter(0)
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "Sweep: 10%, 16 s, 6.25 tokens/s, about 3 min left",
        "Sweep: 100%, 20 s, 50 tokens/s; found",
    ]


def test_a_notebook_has_one_line_that_is_renewed(now, capsys, monkeypatch):
    shown = []

    class Line:
        def update(self, data, raw):
            assert raw
            shown.append(data["text/plain"])

    def display(data, raw, display_id):
        assert raw and display_id
        shown.append(data["text/plain"])
        return Line()

    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    monkeypatch.setattr("rich.console._is_jupyter", lambda: True)
    with progress("Sweep", 100) as meter:
        meter(5)
        now[0] += module._CELL_EVERY + 0.5
        meter(45)
        meter(50)
    assert shown == [
        "Sweep",
        f"{'━' * 10}{'─' * 10} Sweep: 50%, 1 s, 50 tokens/s, about 1 s left",
        f"{'━' * 20} Sweep: 100%, 1 s, 100 tokens/s",
    ]
    assert capsys.readouterr() == ("", "")


def test_silence(capsys):
    with progress("Sweep", 10, shown=False) as meter:
        meter(10)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(("seconds", "said"), [(0, "0 s"), (89, "89 s"), (600, "10 min"), (7500, "2 h 5 min")])
def test_clock(seconds, said):
    assert clock(seconds) == said

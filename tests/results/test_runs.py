import dataclasses

import numpy as np
import pytest
from made_runs import made_run

from selfrepair.errors import SelfRepairError
from selfrepair.report.number_formats import share


@pytest.fixture(scope="module")
def run():
    return made_run(model="<b>evil</b> & co")


def test_repr_shows_what_the_numbers_rest_on(run):
    said = repr(run)
    for part in (
        "<b>evil</b>",
        "resample",
        "builtin",
        "3.2e-06",
        "top 2%",
        "bottom 2%",
        "self-repair",
        "repaired",
        "95% intervals",
    ):
        assert part in said
    assert len(said.splitlines()) < 40


@pytest.mark.parametrize("shown", [repr, lambda run: run._repr_html_()])
def test_notebooks_and_prompts_show_intervals_and_no_standard_errors(run, shown):
    said = shown(run)
    row = run.table(top=1).iloc[0]
    assert "±" not in said
    assert f"{row.self_repair:+.3f} [" in said
    low, high = row.repaired_fraction_low, row.repaired_fraction_high
    number, interval = share(row.repaired_fraction, -np.inf if low is None else low, np.inf if high is None else high)
    assert f"{number} {interval}" in said.replace("(", "").replace(")", "")
    assert max(map(len, repr(run).splitlines())) <= 100


def test_html_is_escaped(run):
    said = run._repr_html_()
    assert "&lt;b&gt;evil&lt;/b&gt; &amp; co" in said and "<b>evil" not in said
    assert said.count("<table") == 2


def test_table_is_a_frame(run):
    frame = run.table("all", sort="total_effect", descending=False, top=3, layers=[0, 2])
    assert len(frame) == 3 and set(frame.layer) <= {0, 2}
    assert frame.total_effect.is_monotonic_increasing
    with pytest.raises(SelfRepairError, match="no filter"):
        run.table("top 3%")


def test_plots_come_from_the_run(run, tmp_path):
    run.plot_overview(path=tmp_path / "one.png")
    run.plot_direct_effects(path=tmp_path / "two.png")
    assert {path.name for path in tmp_path.iterdir()} == {"one.png", "two.png"}


def test_a_run_with_nothing_measured_still_has_a_repr():
    run = made_run(skip={(layer, head) for layer in range(3) for head in range(4)}, status="interrupted")
    assert "interrupted" in repr(run) and "interrupted" in run._repr_html_()
    assert run.tokens.num_rows == 0


def test_runs_are_not_changed_in_place(run):
    with pytest.raises(dataclasses.FrozenInstanceError):
        run.plan = {}

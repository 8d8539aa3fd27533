import re
from bisect import bisect_left

import numpy as np
import pytest
from made_runs import made_run
from rich.console import Console

from selfrepair.report.number_formats import share
from selfrepair.report.run_tables import print_heads, print_summary
from support import with_heads


@pytest.fixture(scope="module")
def run():
    return made_run(5, 4, windows=9)


def printed(run, width, show=print_heads, **settings):
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    show(console, run, **settings)
    return console.export_text()


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_nothing_is_cut_and_nothing_is_too_wide(run, width):
    said = printed(run, width)
    assert "…" not in said and "±" not in said
    assert max(map(len, said.splitlines())) <= width
    assert "self-repair" in said and "repaired" in said
    assert (" docs" in headings(run, width)) == (width == 160)
    assert ("No room here for:" in said) == (width != 160)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_says_what_the_numbers_rest_on(run, width):
    said = " ".join(printed(run, width, filter="bottom").split())
    for part in (
        "resample ablation", "donors: 1 from other documents", "bottom 2% of tokens", "tokens per head",
        "documents",
        "SmolLM2-135M-Instruct", "text: builtin", "engine: replay", "numerical floor 3.2e-06",
        "ledger residual 1.1e-06", "position 0 left out",
        "95% intervals from a bootstrap over documents, the filter applied again in each replicate",
        "(Benjamini-Hochberg, 5%)",
    ):  # fmt: skip
        assert part in said, part


def test_numbers_are_signed_and_have_their_intervals(run):
    row = next(line for line in printed(run, 140, top=1).splitlines() if line.startswith("L"))
    top = run.table(top=1).iloc[0]
    assert f"{top.direct_effect:+.3f}" in row
    bounds = [f"[{top.self_repair_low:+.{digits}f}, {top.self_repair_high:+.{digits}f}]" for digits in (2, 3, 4)]
    assert any(f"{top.self_repair:+.3f} {one}" in row for one in bounds)
    number, interval = share(top.repaired_fraction, *ends_of(top))
    assert f"  {number} {interval}" in row and interval != "unbounded"
    endless = printed(changed(run, repaired_fraction_low=-np.inf, repaired_fraction_high=np.inf), 140, top=1)
    assert f"({number}) unbounded" in endless
    assert f"{top.largest_repairer} {top.largest_repair_low:+.3f} to {top.largest_repair_high:+.3f}" in row


def test_the_largest_repairer_is_named_where_its_interval_is_above_zero(run):
    heads = run.heads.copy(deep=True)
    heads["largest_repair_low"][:] = -abs(heads["largest_repair_low"])
    assert "MLP 4 " in printed(run, 140) and "MLP 4 " not in printed(with_heads(run, heads), 140)


def ends_of(row):
    """Ends of the repaired fraction's interval; None stands for infinite ones."""
    low, high = row.repaired_fraction_low, row.repaired_fraction_high
    return -np.inf if low is None else low, np.inf if high is None else high


def changed(run, **numbers):
    """The run with numbers of all heads replaced."""
    heads = run.heads.copy(deep=True)
    for name, value in numbers.items():
        heads[name][:] = value
    return with_heads(run, heads)


def table_of(said):
    return [line for line in said.splitlines() if re.match(r"L\d+H\d+ ", line)]


def test_fractions_stand_in_brackets_where_what_is_lost_may_be_zero(run):
    unsure = changed(run, repaired_fraction_low=-np.inf, repaired_fraction_high=np.inf)
    sure = changed(run, repaired_fraction_low=-9.0, repaired_fraction_high=9.0, lost_direct_effect_standard_error=100.0)
    assert all("%) unbounded" in line for line in table_of(printed(unsure, 140)))
    assert not any("%)" in line for line in table_of(printed(sure, 140)))


def test_unbounded_and_missing_intervals_are_said(run):
    ends = {"repaired_fraction_low": -np.inf, "repaired_fraction_high": np.inf}
    assert all("unbounded" in line for line in table_of(printed(changed(run, **ends), 140)))
    above = changed(run, repaired_fraction_low=0.12, repaired_fraction_high=np.inf)
    assert all("[12, ∞]" in line for line in table_of(printed(above, 140)))
    nothing = changed(run, self_repair_low=np.nan, self_repair_high=np.nan)
    assert all("[–]" in line for line in table_of(printed(nothing, 140)))
    row = changed(run, **ends).table(top=1).iloc[0]
    assert row.repaired_fraction_unbounded
    bounded = changed(run, repaired_fraction_low=0.1, repaired_fraction_high=0.9).table(top=1).iloc[0]
    assert not bounded.repaired_fraction_unbounded


def test_marked_heads_are_those_that_are_labelled_and_counted():
    many = made_run(4, 4, windows=40)
    found = dict.fromkeys(many.filters, 0)
    for filter in many.filters:
        part = many.heads.sel(filter=filter)
        for line in table_of(printed(many, 200, filter=filter, top=None)):
            layer, head = map(int, line.split()[0][1:].split("H"))
            cell = part.sel(layer=layer, head=head)
            label, marked = str(cell["label"].item()), line.split()[1] == "*"
            assert marked == (label == "repaired") and line.rstrip().endswith(label)
            assert not marked or (float(cell["self_repair_low"]) > 0 or float(cell["self_repair_high"]) < 0)
            found[filter] += marked
    assert 0 < sum(found.values()) < 3 * 16
    said = " ".join(printed(many, 200, print_summary).replace("│", " ").split())
    for filter, count in found.items():
        assert f"{filter}: heads repaired at a false discovery rate of 5%: {count} of 16" in said


def test_amplified_heads_have_a_mark_of_their_own(run):
    worse = changed(run, label="amplified")
    said = printed(worse, 140)
    assert all(line.split()[1] == "†" for line in table_of(said)) and "† amplified" in said
    assert "†" not in printed(changed(run, label="repaired"), 140)
    assert "amplified: 20" in printed(worse, 140, print_summary)


def test_post_norms_show_only_where_there_are_any(run):
    assert "post-norms" not in printed(run, 140) + printed(run, 140, print_summary)
    gemma = made_run(post_norms=True)
    assert "post-norms" in printed(gemma, 160) and "post-norms" in printed(gemma, 140, print_summary)


def test_interrupted_runs_say_so():
    said = printed(made_run(skip={(2, 1)}, status="interrupted"), 140)
    assert "Run interrupted" in said and "1 of 12 heads have none" in said
    assert "L2H1" not in said
    nothing = made_run(1, 1, skip={(0, 0)}, status="interrupted")
    assert "no head has tokens" in printed(nothing, 100) and "–" in printed(nothing, 100, print_summary)


@pytest.mark.parametrize("width", [60, 80, 100, 140])
@pytest.mark.parametrize("size", [1, 1e3, 1e7])
def test_the_summary_is_never_cut(run, width, size):
    shares = ("repaired_fraction", "fraction_heads", "fraction_mlps", "fraction_norm")
    names = [f"pooled_{name}{part}" for name in shares for part in ("", "_low", "_high")]
    large = with_heads(run, run.heads.assign({name: size * run.heads[name] for name in names}))
    said = printed(large, width, print_summary)
    assert "…" not in said and "±" not in said and max(map(len, said.splitlines())) <= width
    for label in run.filters:
        part = large.heads.sel(filter=label)
        for name in shares:
            number, interval = share(*(float(part[f"pooled_{name}{end}"]) for end in ("", "_low", "_high")))
            assert number in said and interval in said


def test_the_summary_puts_shares_of_what_may_be_nothing_in_brackets(run):
    low = run.heads["pooled_repaired_fraction_low"].copy(deep=True)
    low[:] = [-np.inf, 0.1, 0.1]
    said = printed(with_heads(run, run.heads.assign(pooled_repaired_fraction_low=low)), 140, print_summary)
    lines = {line.split()[1]: line for line in said.splitlines() if "%" in line and ":" not in line}
    assert lines["all"].count("%)") == 4 and "(" not in lines["top"]


def test_names_are_not_taken_for_markup():
    said = printed(made_run(model="[bold]x[/nonsense]", text="[red]"), 140)
    assert "[bold]x[/nonsense]" in said and "[red]" in said
    assert "[bold]x[/nonsense]" in printed(made_run(model="[bold]x[/nonsense]"), 140, print_summary)


def test_labels_are_the_first_to_go(run):
    said = printed(run, 190, filter="all", top=None)
    heading = next(line for line in said.splitlines() if line.startswith("head "))
    assert heading.rstrip().endswith("label") and "docs" in heading
    narrowest = 80 + bisect_left(range(80, 191), True, key=lambda width: " label" in headings(run, width))
    without = headings(run, narrowest - 1)
    assert "label: what" in said and "label: what" not in printed(run, narrowest - 1, filter="all")
    assert " label" not in without and [*without.split(), "label"] == headings(run, narrowest).split()


def headings(run, width):
    return next(line for line in printed(run, width, filter="all").splitlines() if line.startswith("head "))


def test_short_supplies_of_kept_tokens_are_confessed(run):
    for short, said in ((0.0, None), (0.004, "up to 1% of them"), (0.25, "up to 25% of them")):
        attributed = with_heads(run, run.heads.assign_attrs(inexact_replicates=short))
        for show in (print_heads, print_summary):
            text = " ".join(printed(attributed, 140, show).replace("│", " ").split())
            assert ("too few kept tokens" in text) == (said is not None)
            assert said is None or said in text


def test_the_summary_says_how_many_heads_could_not_be_tested(run):
    q = run.heads["q_value"].copy(deep=True)
    q[1, 0, :3] = np.nan
    said = " ".join(printed(with_heads(run, run.heads.assign(q_value=q)), 140, print_summary).split())
    assert "of 17 (3 more could not be tested)" in said


@pytest.mark.parametrize("width", [80, 140])
def test_the_summary_adds_up(run, width):
    said = printed(run, width, print_summary)
    for part in ("all", "top 2%", "bottom 2%", "by heads", "by MLPs", "by norm", "resample ablation"):
        assert part in " ".join(said.replace("│", " ").split())
    heads = run.heads
    parts = sum(heads[f"pooled_fraction_{part}"] for part in ("heads", "mlps", "post_norms", "norm"))
    assert abs(parts - heads["pooled_repaired_fraction"]).max() < 1e-5

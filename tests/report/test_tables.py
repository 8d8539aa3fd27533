from dataclasses import replace

import numpy as np
import pytest
from made_runs import made_run
from rich.console import Console

from selfrepair.report.tables import head_table, print_heads, print_summary


@pytest.fixture(scope="module")
def run():
    return made_run(5, 4, windows=9)


def printed(run, width, show=print_heads, **settings):
    console = Console(width=width, record=True, file=open("/dev/null", "w"), color_system=None)  # noqa: SIM115, PTH123
    show(console, run, **settings)
    return console.export_text()


@pytest.mark.parametrize("width", [80, 100, 140])
def test_nothing_is_cut_and_nothing_is_too_wide(run, width):
    said = printed(run, width)
    assert "…" not in said
    assert max(map(len, said.splitlines())) <= width
    assert "self-repair ± SE" in said and "norm" in said
    assert ("docs" in said) == (width == 140)


@pytest.mark.parametrize("width", [80, 140])
def test_the_table_says_what_the_numbers_rest_on(run, width):
    said = " ".join(printed(run, width, filter="bottom").split())
    for part in (
        "resample ablation", "donors: 1 from other documents", "bottom 2% of tokens", "tokens per head",
        "documents",
        "SmolLM2-135M-Instruct", "text: builtin", "engine: replay", "numerical floor 3.2e-06",
        "ledger residual 1.1e-06", "position 0 left out",
        "± is a bootstrap standard error over documents, the filter applied anew in each replicate",
    ):  # fmt: skip
        assert part in said, part


def test_numbers_are_signed_with_three_decimals(run):
    row = next(line for line in printed(run, 140, top=1).splitlines() if line.startswith("L"))
    top = run.table(top=1).iloc[0]
    assert f"{top.direct_effect:+.3f}" in row and f"{top.self_repair:+.3f} ± " in row
    assert f"{top.largest_repairer} {top.largest_repair_low:+.3f} to {top.largest_repair_high:+.3f}" in row


def test_the_largest_repairer_is_named_where_its_interval_is_above_zero(run):
    heads = run.heads.copy(deep=True)
    heads["largest_repair_low"][:] = -abs(heads["largest_repair_low"])
    assert "MLP 4 " in printed(run, 140) and "MLP 4 " not in printed(replace(run, heads=heads), 140)


def test_fractions_of_what_may_be_zero_stand_in_brackets(run):
    rows = head_table(run, "all", top=20)
    unbounded = [row["name"] for row in rows if row["repaired_fraction_low"] is None]
    assert {row["name"] for row in rows if row["repaired_fraction_unbounded"]} <= set(unbounded)
    found = [
        line.split()[0]
        for line in printed(run, 140, filter="all", top=20).splitlines()
        if "%)" in line and line[0] == "L"
    ]
    assert found == unbounded and 0 < len(unbounded) < len(rows)


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


@pytest.mark.parametrize("width", [80, 100, 140])
def test_the_summary_is_never_cut(run, width):
    said = printed(run, width, print_summary)
    assert "…" not in said
    for label in run.filters:
        part = run.heads.sel(filter=label)
        for name in ("repaired_fraction", "fraction_heads", "fraction_mlps", "fraction_norm"):
            value, error = float(part[f"pooled_{name}"]), float(part[f"pooled_{name}_standard_error"])
            assert f"{100 * value:.1f}" in said and f"± {100 * error:.1f}%" in said


def test_the_summary_puts_shares_of_next_to_nothing_in_brackets(run):
    low = run.heads["pooled_repaired_fraction_low"].copy(deep=True)
    low[:] = [-np.inf, 0.1, 0.1]
    said = printed(replace(run, heads=run.heads.assign(pooled_repaired_fraction_low=low)), 140, print_summary)
    lines = {line.split()[1]: line for line in said.splitlines() if line.split()[1:2] and "±" in line}
    assert lines["all"].count("(") == 4


def test_names_are_not_taken_for_markup():
    said = printed(made_run(model="[bold]x[/nonsense]", text="[red]"), 140)
    assert "[bold]x[/nonsense]" in said and "[red]" in said
    assert "[bold]x[/nonsense]" in printed(made_run(model="[bold]x[/nonsense]"), 140, print_summary)


def test_labels_are_the_first_to_go(run):
    said = printed(run, 170, filter="all", top=None)
    heading = next(line for line in said.splitlines() if line.startswith("head "))
    assert heading.rstrip().endswith("label") and "docs" in heading
    for line in said.splitlines():
        if line.startswith("L"):
            layer, head = map(int, line.split()[0][1:].split("H"))
            assert line.rstrip().endswith(str(run.heads["label"].sel(filter="all", layer=layer, head=head).item()))
    narrowest = next(width for width in range(80, 171) if " label" in headings(run, width))
    without = headings(run, narrowest - 1)
    assert "intervals decide" in said and "intervals decide" not in printed(run, narrowest - 1, filter="all")
    assert " label" not in without and without.split() == headings(run, narrowest).split()[:-1]


def headings(run, width):
    return next(line for line in printed(run, width, filter="all").splitlines() if line.startswith("head "))


def test_short_supplies_of_kept_tokens_are_confessed(run):
    for short, said in ((0.0, None), (0.004, "up to 1% of them"), (0.25, "up to 25% of them")):
        attributed = replace(run, heads=run.heads.assign_attrs(inexact_replicates=short))
        for show in (print_heads, print_summary):
            text = " ".join(printed(attributed, 140, show).replace("│", " ").split())
            assert ("too few kept tokens" in text) == (said is not None)
            assert said is None or said in text


@pytest.mark.parametrize("width", [80, 140])
def test_the_summary_counts_repaired_heads(run, width):
    q = np.full(run.heads["q_value"].shape, 0.9)
    q[0].flat[:7], q[1].flat[:2], q[1].flat[2:5] = 0.05, 0.01, np.nan
    said = printed(replace(run, heads=run.heads.assign(q_value=(run.heads["q_value"].dims, q))), width, print_summary)
    rate = "heads repaired at a false discovery rate of 5%"
    said = " ".join(said.replace("│", " ").split())
    assert f"all: {rate}: 7 of 20" in said and f"bottom 2%: {rate}: 0 of 20" in said
    assert f"top 2%: {rate}: 2 of 17 (3 more could not be tested)" in said


@pytest.mark.parametrize("width", [80, 140])
def test_the_summary_adds_up(run, width):
    said = printed(run, width, print_summary)
    for part in ("all", "top 2%", "bottom 2%", "by heads", "by MLPs", "by norm", "resample ablation"):
        assert part in said
    heads = run.heads
    parts = sum(heads[f"pooled_fraction_{part}"] for part in ("heads", "mlps", "post_norms", "norm"))
    assert abs(parts - heads["pooled_repaired_fraction"]).max() < 1e-5

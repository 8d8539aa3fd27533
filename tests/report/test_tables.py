import pytest
from made_runs import made_run
from rich.console import Console

from selfrepair.report.tables import print_heads, print_summary


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
        "ledger residual 1.1e-06", "position 0 left out", "± is the standard error over documents",
    ):  # fmt: skip
        assert part in said, part


def test_numbers_are_signed_with_three_decimals(run):
    row = next(line for line in printed(run, 140, top=1).splitlines() if line.startswith("L"))
    top = run.table(top=1).iloc[0]
    assert f"{top.direct_effect:+.3f}" in row and f"{top.self_repair:+.3f} ± " in row
    assert f"{top.largest_repairer} {top.largest_repair:+.3f}" in row


def test_uncertain_fractions_stand_in_brackets(run):
    heads = run.heads.copy(deep=True)
    heads["lost_direct_effect_standard_error"] += 100
    unsure = type(run)(run.plan, heads, run.tokens, run.windows)
    assert "%)" in printed(unsure, 140) and "%)" not in printed(run, 140).replace("(donors", "")


def test_post_norms_show_only_where_there_are_any(run):
    assert "post-norms" not in printed(run, 140) + printed(run, 140, print_summary)
    gemma = made_run(post_norms=True)
    assert "post-norms" in printed(gemma, 160) and "post-norms" in printed(gemma, 140, print_summary)


def test_interrupted_runs_print_dashes_and_say_so():
    said = printed(made_run(skip={(2, 1)}, status="interrupted"), 140)
    assert "–" in said and "Run interrupted" in said and "1 of 12 heads have none" in said
    nothing = made_run(1, 1, skip={(0, 0)}, status="interrupted")
    assert "no head has tokens" in printed(nothing, 100) and "–" in printed(nothing, 100, print_summary)


def test_names_are_not_taken_for_markup():
    said = printed(made_run(model="[bold]x[/nonsense]", text="[red]"), 140)
    assert "[bold]x[/nonsense]" in said and "[red]" in said
    assert "[bold]x[/nonsense]" in printed(made_run(model="[bold]x[/nonsense]"), 140, print_summary)


@pytest.mark.parametrize("width", [80, 140])
def test_the_summary_adds_up(run, width):
    said = printed(run, width, print_summary)
    for part in ("all", "top 2%", "bottom 2%", "by heads", "by MLPs", "by norm", "resample ablation"):
        assert part in said
    heads = run.heads
    parts = sum(heads[f"pooled_fraction_{part}"] for part in ("heads", "mlps", "post_norms", "norm"))
    assert abs(parts - heads["pooled_repaired_fraction"]).max() < 1e-5

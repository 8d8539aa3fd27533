"""Shares of section 5.3 and their intervals: heads chosen on one half of the templates, measured on the other."""

import numpy as np
import pytest

from selfrepair.ablation.sites import Head
from selfrepair.paper.experiments.name_movers import head_roles, name_mover_figures
from selfrepair.paper.experiments.name_movers.ioi_study import ALL_MOVERS, IoiStudy
from selfrepair.paper.experiments.name_movers.moved_stream import raised_share

TEMPLATES, EACH, HEADS = 14, 4, 300


def study(change, effects, lost=1.0, templates=TEMPLATES):
    """Prompts of some templates in turn; the first head is the only mover."""
    prompts = len(change)
    zeros = np.zeros(prompts)
    parts = {"lost": np.full(prompts, lost), "total": zeros - lost, "heads": change.sum(1)}
    parts |= dict.fromkeys(("mlps", "mixers", "post_norms", "norm"), zeros)
    moved = np.random.default_rng(1).normal(size=change.shape)
    heads = tuple(Head(number // 30, number % 30) for number in range(change.shape[1]))
    template = np.arange(prompts) % templates
    return IoiStudy(
        "", heads, heads[:1], zeros + 2, effects, {ALL_MOVERS: zeros + 1}, {ALL_MOVERS: change}, {ALL_MOVERS: parts},
        moved, zeros + 1, 0, template, np.arange(prompts) // templates % 2,
    )  # fmt: skip


def noise(scale=0.1):
    return scale * np.random.default_rng(0).normal(size=(TEMPLATES * EACH, HEADS))


def test_lucky_heads_make_up_nothing():
    """Heads of pure noise: those that respond on the prompts of their choice do so by luck."""
    change = noise()
    change[:, 0] = 0
    lucky = study(change, np.ones_like(change))
    table = head_roles.responses(lucky)
    chosen = (table["role"] == head_roles.BACKUP).to_numpy()
    assert chosen.any() and change[:, chosen].sum(1).mean() > 0.02
    number = head_roles.made_up(lucky, head_roles.BACKUP, "share")
    assert number.low < 0 < number.high and number.documents == TEMPLATES // 2


def test_a_backup_makes_up_what_it_does_on_the_other_half():
    change = noise(0.01)
    change[:, 0] = 0
    change[:, 5] += 0.6
    made = study(change, np.ones_like(change), lost=2.0)
    number = head_roles.made_up(made, head_roles.BACKUP, "share")
    second = made.template % 2 == 1
    assert number.value == pytest.approx(change[second, 5].mean() / 2, abs=0.02)
    assert number.low < 0.3 < number.high and number.high - number.low < 0.1
    released = head_roles.made_up(study(change, -np.ones_like(change), lost=2.0), head_roles.RELEASED, "share")
    assert released.value == number.value
    assert np.isnan(head_roles.made_up(made, head_roles.RELEASED, "share").value)


def test_two_templates_give_no_interval():
    change = np.full((8, 2), 0.5) * [0, 1]
    assert np.isnan(
        head_roles.made_up(study(change, np.ones_like(change), templates=2), head_roles.BACKUP, "share").low
    )


def test_heads_wake_by_their_means_over_prompts():
    rng = np.random.default_rng(2)
    template = np.arange(TEMPLATES * EACH) % TEMPLATES
    moved = rng.normal(size=(len(template), 4)) + np.array([9, 9, 9, -9])
    number = raised_share(template, moved)
    assert number.value == 0.75 and 0.4 < number.low < 0.75 < number.high < 1
    close = raised_share(template, moved - moved.mean(0) + [9, 1e-9, 9, -9])
    assert close.value == 0.75 and close.high - close.low >= number.high - number.low
    assert np.isnan(raised_share(template, moved[:, :0]).value)


def test_no_number_of_the_section_goes_without_an_interval():
    change = noise()
    change[:, 1] += 0.6
    made = study(change, np.ones_like(change))
    counts = ("name movers", "backups: heads", "suppressors released: the same")
    for exhibit in (name_mover_figures.movers_and_backups(made), name_mover_figures.logit_differences(made)):
        for number in exhibit.numbers:
            if np.isfinite(number.value) and not number.name.startswith(counts):
                assert np.isfinite(number.low) and number.low <= number.value <= number.high, number.name

"""The missing list holds its error rate because it confirms on prompts that had no part in selecting."""

from __future__ import annotations

import numpy as np
import pytest

from selfrepair import Prompt, Prompts
from selfrepair.questions.circuit.missing import Halves, confirmed, jaccard, selected, stability
from selfrepair.questions.measuring.sampling import Sampling

GROUPS, SIZE, COMPONENTS = 16, 4, 120


def null(rng) -> np.ndarray:
    """Lines without any repair, alike within groups, [prompt, component]."""
    units = np.repeat(np.arange(GROUPS), SIZE)
    return rng.normal(size=(GROUPS, COMPONENTS))[units] + 0.5 * rng.normal(size=(GROUPS * SIZE, COMPONENTS))


def sampling(prompts: np.ndarray) -> Sampling:
    units = np.unique(prompts // SIZE, return_inverse=True)[1]
    return Sampling(units, np.ones(len(prompts)), "groups")


def test_false_discoveries_stay_below_five_per_cent_and_break_without_the_split():
    rng, both, same = np.random.default_rng(0), 0, 0
    order = np.arange(GROUPS * SIZE)
    first, second = order[: len(order) // 2], order[len(order) // 2 :]
    for _ in range(200):
        lines, lost = null(rng), np.full(GROUPS * SIZE, 1e-9)
        chosen = np.flatnonzero(selected(lines[first], lost[first], sampling(first), 1, 0.05, 0.0))
        both += bool(confirmed(lines[second][:, chosen], sampling(second), 1, 0.05).any())
        largest = np.argsort(-lines[first].mean(0))[:3]  # what one is tempted to do: take the largest and test it there
        same += bool(confirmed(lines[first][:, largest], sampling(first), 1, 0.05).any())
        assert not (confirmed(lines[second][:, largest], sampling(second), 1, 0.05).all())
    assert both / 200 <= 0.05
    assert same / 200 > 0.5


def test_real_repairers_are_selected_and_confirmed():
    rng = np.random.default_rng(1)
    lines = 0.1 * null(rng)
    lines[:, :3] += 0.5
    half = np.arange(GROUPS * SIZE // 2)
    chosen = np.flatnonzero(selected(lines[half], np.ones(len(half)), sampling(half), 1, 0.05, 0.05))
    assert list(chosen) == [0, 1, 2]
    assert confirmed(lines[len(half) :][:, chosen], sampling(half), 1, 0.05).all()
    assert not selected(lines[half], np.full(len(half), 20.0), sampling(half), 1, 0.05, 0.05).any()  # too small a share


def asked(groups) -> Prompts:
    return Prompts.of([Prompt((5, 6, 7), ((8,),), group=str(group)) for group in groups], None)


def test_halves_share_no_group_and_are_alike_in_size():
    halves = Halves.of(asked([place // 5 for place in range(80)]), seed=0)
    groups = np.arange(80) // 5
    assert halves.split and halves.by == "groups"
    assert not set(groups[halves.select]) & set(groups[halves.confirm])
    assert sorted([*halves.select, *halves.confirm]) == list(range(80))
    assert abs(len(halves.select) - len(halves.confirm)) <= 10


def test_one_group_is_divided_by_prompts_and_few_prompts_not_at_all():
    assert Halves.of(asked([0] * 70), 0).by == "prompts"
    few = Halves.of(asked([place % 10 for place in range(59)]), 0)
    assert not few.split and len(few.select) == 59 and "same 59 prompts" in few.in_words
    eight = Halves.of(asked([place % 8 for place in range(64)]), 0)  # four groups a half are too few to test over
    assert not eight.split and "16 groups" in eight.in_words


def test_stability_of_a_sure_list_is_one_and_of_noise_is_not():
    rng = np.random.default_rng(2)
    lines = 0.1 * null(rng)
    lines[:, 0] += 0.5
    names = [str(place) for place in range(COMPONENTS)]
    units = np.repeat(np.arange(GROUPS), SIZE)
    index, shares = stability(
        lines, np.ones(len(units)), Sampling(units, np.ones(len(units)), "groups"), 1, (0.05, 0.2), names, draws=40
    )
    assert index == pytest.approx(1, abs=0.1) and shares["0"] == 1
    lines[:, 1] += 0.11 * rng.normal(size=GROUPS)[units] + 0.18  # sometimes in, sometimes not
    index, shares = stability(
        lines, np.ones(len(units)), Sampling(units, np.ones(len(units)), "groups"), 1, (0.05, 0.2), names, draws=40
    )
    assert index < 1 and 0 < shares["1"] < 1


def test_jaccard():
    assert jaccard(["a", "b"], ["b", "c"]) == pytest.approx(1 / 3)
    assert jaccard([], []) == 1

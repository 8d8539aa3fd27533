"""Prompts on the default model, which solves the task that they pose."""

import json

import pytest

from selfrepair import Prompt, Prompts

pytestmark = [pytest.mark.real, pytest.mark.long]  # beside each other: one process loads the model
NAMES = (("Mary", "John"), ("Tom", "James"), ("Anna", "Paul"), ("Mark", "Susan"))


def text(first: str, second: str, again: str) -> str:
    return f"When {first} and {second} went to the store, {again} gave a drink to"


def test_the_default_model_names_the_indirect_object(default):
    from selfrepair.prompts.checked_prompts import check_prompts

    prompts = Prompts.of(
        [
            Prompt(text(one, two, two), (f" {one}",), (f" {two}",), corrupt=text(two, one, one), group=f"{one}")
            for one, two in NAMES
        ],
        default,
    )
    found = check_prompts(default, prompts)
    assert found.accuracy == 1 and found.metric.min() > 2
    assert found.twin_metric.max() < -2  # the twin asks for the other name
    assert found.summary()["difference"] == pytest.approx(float((found.metric - found.twin_metric).mean()))
    assert [warning for warning in found.warnings if "groups" not in warning] == []
    assert json.dumps(found.summary())

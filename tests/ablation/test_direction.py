"""Directions as sites: what they keep of a vector, and what is refused with the reason."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from selfrepair import At, AtSpan, Attention, Circuit, Direction, Head, Mlp, Port, SelfRepairError, parse_names
from selfrepair.ablation.interventions import Intervention, each, freezing
from selfrepair.ablation.sites import Site
from selfrepair.ablation.spellings import spelled

VECTOR = (3.0, 0.0, -4.0)
DIRECTION = Direction(1, "refusal", VECTOR)


@pytest.mark.parametrize(
    "given", [VECTOR, list(VECTOR), np.array(VECTOR), np.float32(VECTOR), torch.tensor(VECTOR), np.array(VECTOR) * 7]
)
def test_any_sequence_of_numbers_becomes_a_tuple_of_length_one(given):
    made = Direction(1, "refusal", given)
    assert made.vector == pytest.approx((0.6, 0.0, -0.8), abs=1e-15)
    assert all(type(number) is float for number in made.vector)
    assert isinstance(made, Site) and hash(made) == hash(DIRECTION) and made == DIRECTION


def test_a_direction_made_from_another_is_equal_to_it():
    for seed in range(50):
        made = Direction(2, "v", np.random.default_rng(seed).normal(size=97))
        assert Direction(2, "v", made.vector) == made
        assert float(np.linalg.norm(made.vector)) == pytest.approx(1, abs=1e-14)


def test_ports_are_told_apart_by_the_vector_and_shown_without_it():
    other = Direction(1, "refusal", (1.0, 0.0, 0.0))
    assert other != DIRECTION and DIRECTION.port != other.port and Direction(2, "a", VECTOR) > DIRECTION
    assert Direction(1, "another-name", VECTOR).port == DIRECTION.port
    assert repr(DIRECTION.port) == "Port(layer=1, kind='stream', vector=<3 numbers>)"
    assert repr(Port(1, "mlp")) == "Port(layer=1, kind='mlp')" and "0.6" not in repr(DIRECTION)
    assert [str(one) for one in (DIRECTION, At(DIRECTION, (2, -1)), AtSpan(DIRECTION, "S2"))] == [
        "L1.d:refusal",
        "L1.d:refusal@2,-1",
        "L1.d:refusal@S2",
    ]
    assert Intervention((DIRECTION,)).kind == "direction"


@pytest.mark.parametrize("vector", [(), (0.0, 0.0), (1.0, np.nan), (1.0, np.inf), 3.0, ("a",), np.eye(2), torch.eye(2)])
def test_what_has_no_direction_is_refused(vector):
    with pytest.raises(SelfRepairError, match="The vector of the direction 'v'"):
        Direction(1, "v", vector)


@pytest.mark.parametrize("name", ["", "two words", "a@b", "a+b", "a,b", "a=b", "<b>", "x" * 81, 7])
def test_names_that_could_not_be_read_in_a_table_are_refused(name):
    with pytest.raises(SelfRepairError, match="cannot name a direction"):
        Direction(1, name, VECTOR)


OTHERS = (Direction(1, "w", (0, 1, 0)), Direction(0, "w", VECTOR))


@pytest.mark.parametrize("below", [Head(0, 1), Head(1, 1), Mlp(1), Attention(0), *OTHERS])
def test_what_would_erase_other_changes_is_refused(below):
    with pytest.raises(SelfRepairError, match="would also erase what changes because"):
        Intervention((DIRECTION, below))
    with pytest.raises(SelfRepairError, match="would also erase what changes because"):
        Intervention((below, At(DIRECTION, (1,))))


def test_a_frozen_direction_is_refused():
    with pytest.raises(SelfRepairError, match=r"L1\.d:refusal cannot be frozen"):
        freezing(Intervention((Head(0, 1),)), [DIRECTION])


def test_later_sites_frozen_ones_and_several_positions_are_not_refused():
    run = Intervention((DIRECTION, Head(2, 0)), (Mlp(0), Mlp(1), Attention(2)))
    assert run.name == "L1.d:refusal+L2H0" and run.start == 1
    assert Intervention((At(DIRECTION, (1,)), At(DIRECTION, (3,)))).start == 1


@pytest.mark.parametrize("name", ["L9.d:refusal", "L9.d:refusal@-1", "l9.D:some-name.2@S2"])
def test_a_bare_name_is_refused_with_how_to_give_the_vector(name):
    with pytest.raises(SelfRepairError, match="without its vector") as refusal:
        spelled(name)
    assert "Direction(9, 'refusal', vector)" in str(refusal.value)
    with pytest.raises(SelfRepairError, match="without its vector"):
        parse_names(f"L9H6, {name}")


def test_objects_stand_among_names():
    assert parse_names([DIRECTION, "L1H0", At(DIRECTION, (2,))]) == [DIRECTION, Head(1, 0), At(DIRECTION, (2,))]


def test_neither_plans_nor_circuits_take_what_a_name_does_not_tell():
    with pytest.raises(SelfRepairError, match=r"L1\.d:refusal cannot be ablated over a corpus"):
        each([DIRECTION])[0].described()
    with pytest.raises(SelfRepairError, match="no component of a circuit"):
        Circuit({"movers": [Head(0, 1), At(DIRECTION, (2,))]})

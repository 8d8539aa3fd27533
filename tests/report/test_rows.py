import json
from types import SimpleNamespace

import numpy as np
import pytest
from made_runs import made_run

from selfrepair.errors import SelfRepairError
from selfrepair.report.rows import head_table
from selfrepair.results.dataset import _largest
from selfrepair.results.filter_labels import resolve_filter
from selfrepair.results.quantities import LARGEST, PARTS
from support import with_heads


@pytest.fixture(scope="module")
def run():
    return made_run(skip={(1, 2), (2, 0)})


def test_rows_are_the_datasets_numbers(run):
    for row in head_table(run, "all", top=None):
        cell = run.heads.sel(filter="all", layer=row["layer"], head=row["head"])
        assert row["name"] == f"L{row['layer']}H{row['head']}" and row["filter"] == "all"
        for name in ("direct_effect", "self_repair", "self_repair_high", "repaired_fraction", "count", "q_value"):
            expected = float(cell[name])
            assert row[name] == (None if np.isnan(expected) else expected)
        assert row["label"] == str(cell["label"].item())


def test_heads_that_were_not_measured_are_left_out(run):
    names = {row["name"] for row in head_table(run, top=None)}
    assert len(names) == 10 and not names & {"L1H2", "L2H0"}
    nothing = made_run(skip={(layer, head) for layer in range(3) for head in range(4)})
    assert {row["label"] for row in head_table(nothing, top=None)} == {None}


def test_rows_are_sorted_with_missing_ones_last(run):
    for descending in (True, False):
        rows = head_table(run, sort="self_repair", descending=descending, top=None)
        values = [row["self_repair"] for row in rows]
        assert values == sorted(values, reverse=descending)
        q = [row["q_value"] for row in head_table(one_untested(run), sort="q_value", descending=descending, top=None)]
        known = [one for one in q if one is not None]
        assert 0 < len(known) < len(q) == 10
        assert q == sorted(known, reverse=descending) + [None] * (len(q) - len(known))


def one_untested(run):
    q = run.heads["q_value"].copy(deep=True)
    q[:, 0, 1] = np.nan
    return with_heads(run, run.heads.assign(q_value=q))


def test_rows_are_cut_as_asked(run):
    assert len(head_table(run, top=3)) == 3
    assert {row["layer"] for row in head_table(run, layers=[2, 0])} == {0, 2}
    assert [row["name"] for row in head_table(run, sort="name", descending=False, top=1)] == ["L0H0"]


def test_rows_are_strict_json(run):
    json.dumps(head_table(run, top=None), allow_nan=False)


@pytest.mark.parametrize(
    ("wanted", "label"),
    [(None, "top 2%"), ("top", "top 2%"), ("bottom:0.02", "bottom 2%"), ("top:2%", "top 2%"), ("all", "all")],
)
def test_spellings_of_filters(run, wanted, label):
    assert resolve_filter(run, wanted) == label


def test_unknown_names_say_what_there_is(run):
    with pytest.raises(SelfRepairError) as caught:
        head_table(run, "top:0.5")
    assert "all, top 2%, bottom 2%" in caught.value.fix
    with pytest.raises(SelfRepairError) as caught:
        head_table(run, sort="beauty")
    assert "self_repair" in caught.value.fix and "_low" not in caught.value.fix
    with pytest.raises(SelfRepairError, match="no layer 7"):
        head_table(run, layers=[7])


def test_the_largest_repairer_is_the_largest(run):
    lines = run.heads.sel(filter="all", layer=1, head=0)
    mlp, head = lines["repair_by_mlp"].values, lines["repair_by_head"].values
    row = next(row for row in head_table(run, "all", top=None) if row["name"] == "L1H0")
    assert row["largest_repair"] == pytest.approx(max(mlp.max(), head.max()))
    where = np.unravel_index(head.argmax(), head.shape)
    expected = f"MLP {mlp.argmax()}" if mlp.max() > head.max() else f"L{where[0]}H{where[1]}"
    assert row["largest_repairer"] == expected
    assert row["largest_repair_low"] < row["largest_repair"] < row["largest_repair_high"]
    assert row["largest_repair_among"] == (mlp != 0).sum() + (head != 0).sum()


def test_breakage_has_no_largest_repairer():
    run = made_run()
    variables = {f"{name}{part}": run.heads[f"{name}{part}"].variable for name in ("repair_by_head", "repair_by_mlp")
                 for part in PARTS}  # fmt: skip
    for name in ("repair_by_head", "repair_by_mlp"):
        variables[name] = -abs(variables[name])
    lines = SimpleNamespace(names=["repair_by_head", "repair_by_mlp"], documents=np.full((3, 3, 4), 6),
                            freedom=np.full((3, 3, 4), 5.0))  # fmt: skip
    broken = with_heads(run, run.heads.assign(_largest(variables, lines)))
    for row in head_table(broken, top=None):
        assert [row[name] for name in LARGEST[:4]] == [None] * 4


def test_components_by_layer_name_attention():
    names = {str(row["largest_repairer"]).split()[0] for row in head_table(made_run(components="layers"), top=None)}
    assert names <= {"MLP", "attention", "None"} and "attention" in names | {"attention"}
    assert "largest_repairer" not in head_table(made_run(components="none"))[0]

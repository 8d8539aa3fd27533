"""Runs against runs."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from selfrepair import Run
from selfrepair.statistics.accumulate import QUANTITIES

COMPONENTS = ("repair_by_attention", "repair_by_mlp", "repair_by_head", "largest_repair")
PLACE = ["layer", "head", "window", "position"]


def assert_same_heads(left: Run, right: Run, tolerance: float = 1e-9, names=None) -> None:
    """All means, counts, thresholds, standard errors and pooled numbers; NaN where the other has NaN."""
    assert set(left.heads.data_vars) == set(right.heads.data_vars)
    for name in names or left.heads.data_vars:
        ours, theirs = left.heads[name].values, right.heads[name].values
        if ours.dtype.kind in "OU":
            assert (ours == theirs).all(), name
            continue
        # component lines and thresholds are kept in single precision
        allowed = max(tolerance, 1e-6) if name.startswith(COMPONENTS) or name == "threshold" else tolerance
        if name.endswith("_standard_error"):
            allowed = max(allowed, 1e-7)  # ratios by small sums in some replicates
        if name.endswith("_fraction") or "fraction" in name or name.endswith(("_low", "_high")):
            allowed = max(allowed, 1e-7)  # ratios by small sums
        np.testing.assert_allclose(ours, theirs, rtol=allowed, atol=allowed, err_msg=name)


def assert_same_tokens(left: Run, right: Run, tolerance: float = 1e-6) -> None:
    ours, theirs = (run.tokens_frame().set_index(PLACE).sort_index() for run in (left, right))
    assert ours.index.equals(theirs.index)
    for name in QUANTITIES:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=tolerance, atol=tolerance, err_msg=name)
    for name in ("token", "target", "kept_as", "in_sample", "document"):
        assert (ours[name].astype(str) == theirs[name].astype(str)).all(), name


def rows(run: Run, unit: tuple[int, int]) -> pa.Table:
    frame = run.tokens_frame()
    return frame[(frame.layer == unit[0]) & (frame["head"] == unit[1])].set_index(["window", "position"]).sort_index()

"""Reads a results folder: the heads that are repaired most, who repairs them, and the tokens where it happens.

Run it on a folder that `selfrepair run --out` wrote: `python examples/read_a_run.py runs/small`.
"""

from __future__ import annotations

import sys

import pandas as pd

from selfrepair import Run, load_run

LINES = ["repair_heads", "repair_mlps", "repair_post_norms", "repair_norm"]


def most_repaired(run: Run, heads: int = 5) -> pd.DataFrame:
    """Heads with the largest lost direct effect under the first top filter: how much of it is made good."""
    return run.table(sort="direct_effect", top=heads)


def tokens_of(run: Run, layer: int, head: int, tokens: int = 3) -> pd.DataFrame:
    """The kept tokens of one head on which most was repaired, with what each line of the ledger gave, in logits."""
    kept = run.tokens_frame()
    own = kept[(kept["layer"] == layer) & (kept["head"] == head)]
    return own.nlargest(tokens, "self_repair")[["document", "direct_effect", "total_effect", "self_repair", *LINES]]


if __name__ == "__main__":
    run = load_run(sys.argv[1])
    print(run.outcome["status"], run.heads.attrs["operator"], run.heads["self_repair"].attrs["units"])
    print(most_repaired(run).to_string())
    effect = run.heads["direct_effect"].sel(filter="all").stack(component=("layer", "head")).dropna("component")
    layer, head = effect.idxmax().item()
    print(tokens_of(run, layer, head).to_string())

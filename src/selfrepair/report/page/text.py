"""The run's text for the page: tokens of windows, and the bytes that tokens stand for."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from selfrepair.report.page.pack import Blocks
from selfrepair.results.runs import Run


def window_lengths(run: Run) -> np.ndarray:
    """Tokens of every window."""
    return np.array(run.windows["tokens"].combine_chunks().value_lengths(), np.int64)


def text_block(run: Run, windows: np.ndarray, named: np.ndarray, blocks: Blocks) -> dict[str, Any]:
    """Windows as ranks of their tokens by how often they come: small numbers, which pack well.

    Args:
        run: the run.
        windows: numbers of the windows that go into the page.
        named: token ids that other parts of the page name.
        blocks: where it goes.
    """
    rows = run.windows.take(pa.array(windows))
    tokens = rows["tokens"].combine_chunks()
    flat = np.array(tokens.flatten(), np.int64)
    known, inverse, counts = np.unique(
        np.concatenate([flat, named.astype(np.int64)]), return_inverse=True, return_counts=True
    )
    order = np.argsort(-counts, kind="stable")
    rank = np.empty(len(known), np.int64)
    rank[order] = np.arange(len(known))
    ids = known[order]
    arrays = {
        "lengths": np.array(tokens.value_lengths(), np.int32),
        "numbers": windows.astype(np.int32),
        "ranks": rank[inverse[: len(flat)]].astype(np.int32),
        "ids": ids.astype(np.int32),
    }
    return {"tokens": blocks.arrays(arrays), "documents": blocks.json(_documents(rows))} | _bytes(run, ids, blocks)


def _bytes(run: Run, ids: np.ndarray, blocks: Blocks) -> dict[str, Any]:
    """The bytes of the tokens in `ids`, side by side; empty if the run did not keep them."""
    vocabulary = run.extras.vocabulary
    if vocabulary is None:
        return {}
    texts = dict(zip(vocabulary["token"].to_pylist(), vocabulary["bytes"].to_pylist(), strict=True))
    pieces = [texts.get(int(token)) for token in ids]
    lengths = np.array([-1 if piece is None else len(piece) for piece in pieces], np.int32)
    joined = b"".join(piece for piece in pieces if piece is not None)
    return {
        "pieces": blocks.arrays({"lengths": lengths, "bytes": np.frombuffer(joined, np.uint8)}),
    }


def _documents(rows: pa.Table) -> dict[str, Any]:
    """Names of documents, and which of them each window comes from."""
    names: dict[str, int] = {}
    of_window = []
    for given in rows["document"].to_pylist():
        document_names = [given] if isinstance(given, str) else given
        of_window.append([names.setdefault(str(name), len(names)) for name in document_names])
    return {"names": list(names), "windows": of_window}

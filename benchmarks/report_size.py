"""How large a report is, and how fast it opens and answers, for large runs: made-up numbers of the right shape.

    python benchmarks/report_size.py --layers 12 --heads 12 --tokens 1000000 --out report.html

With Playwright and a Chromium (CHROMIUM, by default /usr/bin/chromium) it also measures the page in the browser.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "results"))
from made_runs import made_run

from selfrepair.report.page import PageRun, write_page
from selfrepair.results.extras import SCHEMAS, Extras
from selfrepair.results.intervention_axis import cells_of_heads, flat
from selfrepair.results.runs import Run
from selfrepair.statistics.accumulate import QUANTITIES
from selfrepair.statistics.keep import TOKEN_SCHEMA

LENGTH, VOCABULARY = 128, 50_000
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def large_run(layers: int, heads: int, tokens: int) -> Run:
    """A run whose files have the size and the entropy of a real one of that size."""
    rng = np.random.default_rng(0)
    small = made_run()
    axes = {"layer": layers, "head": heads, "by_layer": layers, "by_head": heads}
    places = {axis: np.arange(size) % small.heads.sizes[axis] for axis, size in axes.items()}
    whole = small.heads.isel(places).assign_coords({axis: np.arange(size) for axis, size in axes.items()})
    for name, values in whole.data_vars.items():
        if values.dtype.kind == "f":
            whole[name] = values.copy(data=values.values * rng.lognormal(0, 0.3, values.shape).astype(values.dtype))
    windows = tokens // LENGTH
    stored = flat(whole, cells_of_heads([heads] * layers))
    return Run(small.plan, small.outcome, stored, kept(rng, layers, heads, tokens), text(rng, windows),
               extras(rng, layers, heads, windows))  # fmt: skip


def kept(rng: np.random.Generator, layers: int, heads: int, tokens: int) -> pa.Table:
    """Twice 2% of the tokens at both ends, and 64 others, for every head."""
    each = int(0.08 * tokens) + 64
    tables = []
    for layer in range(layers):
        rows = heads * each
        effect = (rng.standard_t(3, (heads, each)) * 0.1).astype(np.float32)
        effect[:, : each // 2] = np.abs(effect[:, : each // 2])
        columns = {name: (rng.standard_t(3, rows) * 0.1).astype(np.float32) for name in QUANTITIES}
        columns |= {"direct_effect": effect.reshape(-1), "sigma_ratio": 1 + columns["sigma_ratio"] / 10}
        columns |= {"layer": np.full(rows, layer), "head": np.repeat(np.arange(heads), each)}
        columns |= {"window": rng.integers(0, tokens // LENGTH, rows), "position": rng.integers(1, LENGTH - 1, rows)}
        columns |= {name: rng.integers(0, VOCABULARY, rows) for name in ("token", "target")}
        columns["in_sample"] = np.tile(np.arange(each) >= each - 64, heads)
        labels = pa.DictionaryArray.from_arrays(pa.array(np.zeros(rows, np.int32)), pa.array(["made up"]))
        arrays = [labels if pa.types.is_dictionary(one.type) else pa.array(columns[one.name]).cast(one.type)
                  for one in TOKEN_SCHEMA]  # fmt: skip
        tables.append(pa.Table.from_arrays(arrays, schema=TOKEN_SCHEMA))
    return pa.concat_tables(tables)


def text(rng: np.random.Generator, windows: int) -> pa.Table:
    """Tokens as frequent as words are."""
    tokens = np.minimum(rng.zipf(1.15, (windows, LENGTH)), VOCABULARY - 1)
    names = [[f"corpus.jsonl:{number // 4}"] for number in range(windows)]
    return pa.table({"window": np.arange(windows), "document": names, "length": np.full(windows, LENGTH),
                     "tokens": list(tokens), "donors": [[0]] * windows})  # fmt: skip


def extras(rng: np.random.Generator, layers: int, heads: int, windows: int) -> Extras:
    """Four whole windows, eight close-ups per head, and a vocabulary."""
    pieces = [bytes(rng.integers(97, 123, rng.integers(1, 9)).astype(np.uint8)) for _ in range(VOCABULARY)]
    vocabulary = pa.table([np.arange(VOCABULARY, dtype=np.int32), pieces], SCHEMAS["vocabulary"])
    cells = np.array(list(np.ndindex(layers, heads, 4, LENGTH - 2)))
    columns = dict(zip(("layer", "head", "window", "position"), cells.T, strict=True))
    columns |= {name: rng.standard_t(3, len(cells)) * 0.1 for name in QUANTITIES}
    passages = pa.table([pa.array(columns[one.name]).cast(one.type) for one in SCHEMAS["passages"]],
                        SCHEMAS["passages"])  # fmt: skip
    return Extras(vocabulary, passages, pa.Table.from_pylist(looks(rng, layers, heads, windows), SCHEMAS["closeups"]))


def looks(rng: np.random.Generator, layers: int, heads: int, windows: int) -> list[dict[str, object]]:
    """Eight close-ups of every head."""
    return [
        {
            "layer": layer, "head": head, "window": int(rng.integers(windows)), "position": int(rng.integers(40, 126)),
            "total_effect": 0.1, "tokens_before": rng.integers(0, 2000, 10).tolist(),
            "logprobs_before": (-rng.random(10)).tolist(), "tokens_after": rng.integers(0, 2000, 10).tolist(),
            "logprobs_after": (-rng.random(10)).tolist(), "target_logprob_before": -1.0, "target_logprob_after": -2.0,
            "repairer_layers": rng.integers(0, layers, 12).tolist(),
            "repairer_heads": rng.integers(-1, heads, 12).tolist(),
            "repairer_effects": rng.normal(0, 1, 12).tolist(), "attending_layer": layer, "attending_head": head,
            "attended_positions": sorted(rng.choice(40, 32, replace=False).tolist()),
            "attention_before": rng.random(32).tolist(), "attention_after": rng.random(32).tolist(),
        }
        for layer, head in np.ndindex(layers, heads)
        for _ in range(8)
    ]  # fmt: skip


def in_browser(path: Path, layers: int, heads: int) -> None:
    """Time until the page is usable, and from click to answer and to the last chart, in milliseconds."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=os.environ.get("CHROMIUM", "/usr/bin/chromium"), args=FLAGS
        )
        page = browser.new_page(viewport={"width": 1440, "height": 900})
        start = time.perf_counter()
        page.goto(path.resolve().as_uri() + "#map")
        page.wait_for_selector('#view[data-ready="#map"]')
        opened = time.perf_counter() - start
        print(f"usable after {page.evaluate('document.documentElement.dataset.usable')} ms; whole page {opened:.2f} s")
        page.wait_for_timeout(1500)
        for name in ("L0H0", f"L{layers // 2}H{heads // 2}", f"L{layers - 1}H{heads - 1}", f"L{layers // 2}H0"):
            print(name, page.evaluate(CLICK, name))
            page.goto(path.resolve().as_uri() + "#map")
            page.wait_for_selector('#view[data-ready="#map"]')
        browser.close()


CLICK = """async (name) => {
  const view = document.getElementById("view");
  const cell = document.querySelector(`a[data-head=${name}]`);
  const start = performance.now();
  const seen = new Promise((done) => new MutationObserver(() => {
    if (view.dataset.view === "head" && view.querySelector(".numbers")) done();
  }).observe(view, { childList: true, attributes: true }));
  cell.dispatchEvent(new MouseEvent("click", { bubbles: true, cancelable: true }));
  await seen;
  await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));
  const answered = performance.now() - start;
  while (view.dataset.ready !== location.hash) await new Promise((done) => setTimeout(done, 5));
  return { answered: Math.round(answered), charts: Math.round(performance.now() - start) };
}"""


def main() -> None:
    """Builds the page, and says its size and speed."""
    given = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    given.add_argument("--layers", type=int, default=12)
    given.add_argument("--heads", type=int, default=12)
    given.add_argument("--tokens", type=int, default=1_000_000)
    given.add_argument("--out", type=Path, default=Path("report.html"))
    options = given.parse_args()
    run = large_run(options.layers, options.heads, options.tokens)
    print(f"{run.tokens.num_rows:,} kept tokens, {run.windows.num_rows:,} windows")
    start = time.perf_counter()
    write_page([PageRun(run)], options.out)
    print(f"{options.out.stat().st_size / 1e6:.1f} MB, written in {time.perf_counter() - start:.1f} s")
    try:
        in_browser(options.out, options.layers, options.heads)
    except ImportError:
        print("No Playwright: the page was not opened.")


if __name__ == "__main__":
    main()

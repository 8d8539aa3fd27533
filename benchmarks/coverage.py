"""How often 95% intervals hold the truth, for every kind of number the package prints: makes docs/coverage.md.

    python benchmarks/coverage.py                       # a quarter of an hour on one core
    python benchmarks/coverage.py --corpora 5 --documents 20 --out /tmp/coverage.md

Made-up corpora with known answers go through the package's own booking, merging and statistics.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from simulation.corpora import TAILS
from simulation.lines import PATTERNS, book_lines
from simulation.measured import Tally, book
from simulation.stops import book_stops
from simulation.table import page

DOCUMENTS = (5, 10, 20, 60, 200)
CORPORA = {5: 100, 10: 100, 20: 80, 60: 50, 200: 24}  # fewer of the large ones, which take longer
PAGE = Path(__file__).parents[1] / "docs" / "coverage.md"


def simulated(documents: int, tails: str, corpora: int, seed: int = 0) -> Tally:
    """All kinds of numbers on made-up corpora of so many documents."""
    tally, earlier = Tally(), None
    for number in range(corpora):
        rng = np.random.default_rng([seed, documents, TAILS.index(tails), number])
        earlier = book(tally, rng, documents, tails, earlier)
        book_lines(tally, rng, documents, tails, PATTERNS[number % len(PATTERNS)])
        if number % 6 == 0:
            book_stops(tally, rng, documents, tails)
    return tally


def main(given: Sequence[str] | None = None) -> None:
    """Simulates, and writes the page."""
    asked = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    asked.add_argument("--documents", type=int, nargs="+", default=DOCUMENTS)
    asked.add_argument("--corpora", type=int, help="of each size; by default more of the small ones")
    asked.add_argument("--out", type=Path, default=PAGE)
    options = asked.parse_args(given)
    found = {}
    for documents in options.documents:
        for tails in TAILS:
            start, corpora = time.time(), options.corpora or CORPORA.get(documents, 100)
            found[documents, tails] = simulated(documents, tails, corpora)
            print(f"{documents} documents, {tails}: {corpora} corpora, {time.time() - start:.0f} s", file=sys.stderr)
    options.out.write_text(page(found), encoding="utf-8")


if __name__ == "__main__":
    main()

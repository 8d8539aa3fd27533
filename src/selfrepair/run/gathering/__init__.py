"""From finished units to a run: sums over units and texts, checks, results; folders merged and compared."""

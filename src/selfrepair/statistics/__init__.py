"""Accumulators that merge, filters and document-level intervals; numpy only, no model in here."""

"""Readouts, and the ledger of an ablated run."""

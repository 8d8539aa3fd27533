"""Circuits as text of other tools; `choices.CIRCUIT_WRITERS` lists the formats."""

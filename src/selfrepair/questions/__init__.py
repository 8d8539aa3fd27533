"""A researcher's own prompts and circuit: who covers for it, by how much, and whether that survives a test."""

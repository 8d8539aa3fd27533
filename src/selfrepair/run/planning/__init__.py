"""Plans a run: its settings, text and model, and how much fits into memory at once."""

"""From text and a model to a run: survey, sweep, merge."""

"""Spends a given time: how much of a text is measured is decided by a pilot, and then the plan is fixed."""

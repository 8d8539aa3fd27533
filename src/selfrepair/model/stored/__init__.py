"""Weights on file: what lies there, and how it becomes numbers of the precision that is measured in."""

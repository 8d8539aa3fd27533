"""Captions of the paper's figures."""

"""Inputs of experiments: windows of a recipe, clean runs in batches, recorded ablated runs, samples of tokens."""

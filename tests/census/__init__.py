"""The census: every causal language model of transformers, proven right, refused for a reason, or not built here.

`small.py` makes a small random model of each family, `forwards.py` computes effects with plain hooks and nothing of the
package, `study.py` compares and judges, `recorded.json` holds the verdicts. `tools/census.py` records them again.
"""

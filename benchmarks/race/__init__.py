"""What `benchmarks/peers.py` is made of: the same task given to every engine, timed in turn, compared, tabulated."""

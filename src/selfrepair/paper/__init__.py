"""Everything the paper measured, on any supported model: one module per experiment, each a plain function."""

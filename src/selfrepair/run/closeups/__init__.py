"""A closer look at single tokens, after the sweep."""

"""The experiments of the paper: each returns exhibits."""

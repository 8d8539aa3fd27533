"""Claims about a model that can be checked again: a file of them, and whether each holds."""

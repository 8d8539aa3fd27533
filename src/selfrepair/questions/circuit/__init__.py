"""The audit of a circuit, part by part."""

"""Hugging Face decoders: loading, anatomy, proofs."""

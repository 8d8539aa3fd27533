"""Planted models: small Hugging Face objects with hand-set weights, in which every component's part is known."""

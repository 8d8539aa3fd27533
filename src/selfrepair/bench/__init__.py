"""Benchmarks of truth: planted models in which who repairs is known, and Conditional Co-Ablation beside the ledger."""

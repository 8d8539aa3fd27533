"""Indirect object identification: the ledger's line, Conditional Co-Ablation and others, judged by freeze tests."""

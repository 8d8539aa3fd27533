"""Ledgers of interventions on prompts, with intervals over prompts or groups."""

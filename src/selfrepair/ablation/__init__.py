"""What an ablation replaces (sites) and what it puts there (operators); names of components."""

"""Where an ablation takes place (units) and what it puts there (operators)."""

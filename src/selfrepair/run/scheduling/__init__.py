"""Who does which unit, how far the run has come, and when it has enough."""

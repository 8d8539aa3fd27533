"""What sets of components do together beyond the sum, and what the intact model shows of it."""

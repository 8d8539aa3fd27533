"""What experiments read: text cut as a recipe says, clean runs in batches, recorded ablated runs, samples of tokens."""

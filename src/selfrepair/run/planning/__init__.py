"""What a run is going to do: its plan, the text and the model it goes with, and how much fits into memory at once."""

"""What captions of the paper's figures say."""

"""Numbers with intervals over documents: of one head, and over heads."""

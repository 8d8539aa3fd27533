"""One module per format of circuit files; `choices.CIRCUIT_FORMATS` lists them."""

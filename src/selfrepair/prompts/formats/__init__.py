"""Readers of prompt files, one module per format; `selfrepair.choices.PROMPT_FORMATS` lists them."""

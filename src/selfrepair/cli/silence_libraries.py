"""Silences progress bars and notices of libraries; must be called before they are imported."""

from __future__ import annotations

import os
import warnings


def quieten() -> None:
    """No progress bars and notices of transformers beside our own."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    warnings.filterwarnings("ignore", module="transformers")
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()

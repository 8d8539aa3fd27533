"""Takes the census of families again: `python tools/census.py [--only a,b] [--page] [--beside]`.

Writes tests/census/recorded.json and docs/families.md; ends with exit code 1 while anything is wrong or raises.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
os.environ.setdefault("HF_HUB_OFFLINE", "1")

from census import recording


def examined(entry: str) -> tuple[str, dict[str, Any]]:
    """An entry with its verdict; `wrong` and `raised` are verdicts too, here."""
    import torch

    from census import study

    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    try:
        return entry, study.verdict(entry)
    except study.WrongNumber as error:
        return entry, {"verdict": "wrong", "reason": str(error)}
    except Exception as error:  # shown for what it is: a traceback that a user would see
        return entry, {"verdict": "raised", "reason": f"{type(error).__name__}: {error}"}


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", help="entries, separated by commas; others stay as recorded")
    parser.add_argument("--page", action="store_true", help="only write the page, from what is recorded")
    parser.add_argument("--beside", action="store_true", help="record only what differs with this version")
    parser.add_argument("--workers", type=int, default=os.cpu_count())
    asked = parser.parse_args()
    if asked.page:
        recording.PAGE.write_text(recording.page())
        return
    import transformers

    from census.small import ENTRIES, MULTIMODAL

    chosen = asked.only.split(",") if asked.only else [*ENTRIES, *MULTIMODAL]
    kept = recording.recorded() if asked.only else {}
    failed = False
    with ProcessPoolExecutor(asked.workers) as pool:
        for entry, found in pool.map(examined, chosen):
            kept[entry] = found
            failed |= found["verdict"] in ("wrong", "raised")
            print(f"{entry:36} {found['verdict']:10} {found.get('identity') or found.get('reason') or ''}", flush=True)
    if failed:
        sys.exit("Nothing was recorded: numbers are wrong, or something was raised that is no refusal.")
    record = recording.write_beside if asked.beside else recording.write
    record(kept, transformers.__version__, datetime.now(UTC).date().isoformat())


if __name__ == "__main__":
    main()

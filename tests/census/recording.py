"""The recorded verdicts, and the page of families that is made of them."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from pathlib import Path
from typing import Any

from census.elsewhere import SOURCE, VERIFIED
from census.small import WITH
from census.study import NOT_BUILT, PROVEN, REFUSED, Verdict

RECORDED = Path(__file__).with_name("recorded.json")
PAGE = Path(__file__).parents[2] / "docs" / "families.md"

_HEAD = """\
# Families

Written by `python tools/census.py`. Every causal language model in the list of transformers {version} was built small
with random weights in float64. *Proven* means that total effects of a head and of the mixer of every layer that has
them, from each engine named, are those of plain Hugging Face forwards under hooks, to a relative 1e-9, and that every
ledger closes. *Refused* models fail the identity that is named; loading says so. `selfrepair check MODEL` does the same
for real weights. Layers of a mixer alone have no heads, or heads that write nothing into the stream themselves (Zamba).

{date}: of {families} families {proven} are proven, {delta} of them with the delta engine too; {refused} are refused;
{not_built} could not be built here. Entries with an @ are further published layouts of a family, and are not counted.

"""
_OTHER = (
    "With transformers {version} ({date}) no number was wrong either: of the entries below, {proven} are proven, "
    "{refused} refused and {not_built} not built, most of these because that version does not have them. {differ}"
)


_MULTIMODAL = """\
## Language models inside multimodal classes

Every class that transformers lists for images and text together, beyond those above, was tried in the same way on text
alone: the whole class, with a placeholder of an image among the tokens and no image. {proven} are proven, {refused}
refused, {not_built} not built. Families are those of the configuration.

"""


def recorded() -> dict[str, Verdict]:
    """Verdicts by entry."""
    found: dict[str, Verdict] = json.loads(RECORDED.read_text())["entries"]
    return found


def recorded_version() -> str:
    """The version of transformers that verdicts were recorded with."""
    version: str = json.loads(RECORDED.read_text())["transformers"]
    return version


def write(entries: dict[str, Verdict], version: str, date: str) -> None:
    """Records verdicts, and writes the page."""
    others = json.loads(RECORDED.read_text()).get("others", {})
    others.pop(version, None)
    _write({"transformers": version, "date": date, "others": others, "entries": dict(sorted(entries.items()))})


def write_beside(entries: dict[str, Verdict], version: str, date: str) -> None:
    """Records what another version than the recorded one makes of the recorded entries, and writes the page."""
    kept = json.loads(RECORDED.read_text())
    counts = Counter(entries.get(entry, {"verdict": NOT_BUILT})["verdict"] for entry in kept["entries"])
    differ = {
        entry: found.get("identity", found["verdict"])
        for entry, found in sorted(entries.items())
        if NOT_BUILT not in (found["verdict"], kept["entries"].get(entry, found)["verdict"])
        and found["verdict"] != kept["entries"].get(entry, found)["verdict"]
    }
    kept.setdefault("others", {})[version] = {"date": date, "verdicts": dict(sorted(counts.items())), "differ": differ}
    _write(kept)


def _write(kept: dict[str, Any]) -> None:
    RECORDED.write_text(json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    PAGE.write_text(page())


def page() -> str:
    """The page of families, from what is recorded."""
    kept = json.loads(RECORDED.read_text())
    entries = kept["entries"]
    wider = {entry.removeprefix(WITH): found for entry, found in entries.items() if entry.startswith(WITH)}
    entries = {entry: found for entry, found in entries.items() if not entry.startswith(WITH)}
    families = {entry: found for entry, found in entries.items() if "@" not in entry}
    counts = Counter(found["verdict"] for found in families.values())
    text = _HEAD.format(
        version=kept["transformers"],
        date=kept["date"],
        families=len(families),
        proven=counts[PROVEN],
        delta=sum("delta" in found.get("engines", ()) for found in families.values()),
        refused=counts[REFUSED],
        not_built=counts[NOT_BUILT],
    )
    text += "".join(_other(version, found) for version, found in sorted(kept.get("others", {}).items()))
    counts = Counter(found["verdict"] for found in wider.values())
    more = _MULTIMODAL.format(proven=counts[PROVEN], refused=counts[REFUSED], not_built=counts[NOT_BUILT])
    text += "\n".join([*_tables(entries, "##"), *_elsewhere(entries)])
    return text + "\n\n" + more + "\n".join(_tables(wider, "###")) + "\n"


def _tables(entries: dict[str, Verdict], level: str) -> list[str]:
    """The lines on all entries, under headings of that level."""
    return [
        line.replace("## ", f"{level} ") if line.startswith("## ") else line
        for line in (*_proven(entries), *_refused(entries), *_not_built(entries))
    ]


def _other(version: str, found: dict[str, Any]) -> str:
    verdicts = found["verdicts"]
    differ = ", ".join(f"{entry} ({said})" for entry, said in found["differ"].items())
    said = _OTHER.format(
        version=version,
        date=found["date"],
        proven=verdicts.get(PROVEN, 0),
        refused=verdicts.get(REFUSED, 0),
        not_built=verdicts.get(NOT_BUILT, 0),
        differ=f"Other verdicts than below: {differ}." if differ else "All other verdicts are those below.",
    )
    return "\n".join(textwrap.wrap(said, 118)) + "\n\n"


def _proven(entries: dict[str, Verdict]) -> list[str]:
    lines = ["## Proven", "", "| family | layers | delta |", "|---|---|---|"]
    for entry, found in entries.items():
        if found["verdict"] == PROVEN:
            delta = "yes" if "delta" in found["engines"] else f"no: {found['no_delta']}"
            lines.append(f"| {entry} | {'; '.join(found['layers'])} | {delta} |")
    return [*lines, ""]


def _refused(entries: dict[str, Verdict]) -> list[str]:
    by_identity: dict[str, list[str]] = {}
    for entry, found in entries.items():
        if found["verdict"] == REFUSED:
            by_identity.setdefault(found["identity"], []).append(entry)
    lines = ["## Refused", "", "| identity that fails | families |", "|---|---|"]
    return [*lines, *(f"| {identity} | {', '.join(names)} |" for identity, names in sorted(by_identity.items())), ""]


def _not_built(entries: dict[str, Verdict]) -> list[str]:
    lines = ["## Not built here", "", "| family | why |", "|---|---|"]
    for entry, found in entries.items():
        if found["verdict"] == NOT_BUILT:
            lines.append(f"| {entry} | {found['reason'].replace('|', '/')} |")
    return lines


def _elsewhere(entries: dict[str, Verdict]) -> list[str]:
    """Entries that stand for architectures which another package verifies on real weights."""
    counts = Counter(entries[entry]["verdict"] for names in VERIFIED.values() for entry in names)
    found = ", ".join(f"{number} {verdict}" for verdict, number in counts.items())
    lines = ["", "## What interp-engine verifies", ""]
    lines += [
        f"[interp-engine]({SOURCE}) captures {len(VERIFIED)} architectures on real weights and compares them point"
    ]
    lines += [
        f"by point with other engines. Their entries above: {found}.",
        "",
        "| architecture | entries |",
        "|---|---|",
    ]
    return [*lines, *(f"| {architecture} | {', '.join(names)} |" for architecture, names in VERIFIED.items())]

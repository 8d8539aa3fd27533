"""`claims.yaml`: a model, prompts, and claims about them.

    model: {id: default}
    prompts: {file: ioi.jsonl}
    ablation: zero
    claims:
      - L23H3 writes the answer: {direct_effect: L23H3, at_least: 1.5}
      - L24H4 covers for the movers: {covers: L24H4, for: "23.3+29.1", share: {at_least: 0.4}}

Files it names are looked for beside it, and nowhere above. Numbers have to be numbers: `9.10` for a head is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selfrepair.ablation.name_lists import Written
from selfrepair.circuits.yaml_text import parsed_yaml
from selfrepair.errors import SelfRepairError
from selfrepair.reading import read_bytes

_MOST_BYTES = 2**20
_TOP = {"model", "prompts", "ablation", "donors", "seed", "controls", "claims"}
_MODEL = {"id", "revision", "dtype", "device"}
_PROMPTS = {"file", "format", "ids_of", "groups", "counterfactual", "first_token", "chat", "metric"}


@dataclass(frozen=True)
class Claim:
    """One claim, as the file has it.

    Attributes:
        name: what it says, for people.
        kind: what is measured, one of `judging.KINDS`.
        subject: what it is about, as given: names, a list, a file.
        terms: everything else: bounds and conditions.
    """

    name: str
    kind: str
    subject: object
    terms: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ClaimsFile:
    """What a file asks for.

    Attributes:
        folder: where it lies; files that it names lie there too.
        model: keywords of `load`, with `id`.
        prompts: keywords of `Prompts.read`, with `file`.
        settings: keywords of `AuditSettings`.
        claims: in the file's order.
    """

    folder: Path
    model: Mapping[str, Any]
    prompts: Mapping[str, Any]
    settings: Mapping[str, Any]
    claims: tuple[Claim, ...]

    def beside(self, name: str) -> Path:
        """A file that this one names.

        Raises:
            SelfRepairError: it lies elsewhere, or is not there.
        """
        path = (self.folder / name).resolve()
        if not path.is_relative_to(self.folder.resolve()):
            raise SelfRepairError(f"'{name}' lies outside the folder of the claims.", "Put it beside the claims file.")
        if not path.is_file():
            raise SelfRepairError(f"There is no '{name}' beside the claims file.", "Check its name.")
        return path


def read_claims(path: Path, kinds: Mapping[str, object]) -> ClaimsFile:
    """The claims in a file.

    Args:
        path: the file.
        kinds: what can be claimed.

    Raises:
        SelfRepairError: it is no YAML, or says something that is not understood.
    """
    try:
        content = parsed_yaml(read_bytes(path, _MOST_BYTES).decode())
    except (ValueError, OSError) as problem:
        raise SelfRepairError(f"{path.name} cannot be read: {problem}.", "docs/claims.md has an example.") from problem
    if not isinstance(content, dict):
        raise SelfRepairError(f"{path.name} holds no claims.", "docs/claims.md has an example.")
    _known(content, _TOP, path.name)
    model, prompts = (_mapping(content.get(name), name) for name in ("model", "prompts"))
    _known(model, _MODEL, "model")
    _known(prompts, _PROMPTS, "prompts")
    if not isinstance(prompts.get("file"), str):
        raise SelfRepairError("The claims name no prompts.", "Give prompts: {file: prompts.jsonl}.")
    settings = {name: content[name] for name in ("ablation", "donors", "seed", "controls") if name in content}
    listed = content.get("claims")
    if not isinstance(listed, list) or not listed:
        raise SelfRepairError(
            f"{path.name} holds no claims.", "Give claims: - name: {direct_effect: L9H6, at_least: 1}"
        )
    claims = tuple(_claim(one, kinds) for one in listed)
    return ClaimsFile(path.parent, model or {"id": "default"}, prompts, settings, claims)


def bound(value: object, what: str) -> float:
    """A number of a claim.

    Raises:
        SelfRepairError: something else.
    """
    text = value.text if isinstance(value, Written) else value
    if isinstance(text, bool) or not isinstance(text, int | float | str):
        raise SelfRepairError(f"{what} is {value!r}.", "Give a number.")
    try:
        return float(text)
    except ValueError:
        raise SelfRepairError(f"{what} is {value!r}.", "Give a number.") from None


def _claim(content: object, kinds: Mapping[str, object]) -> Claim:
    if not isinstance(content, dict) or len(content) != 1:
        raise SelfRepairError(
            "A claim is one name with its terms.", "Write - movers write it: {direct_effect: L9H6, at_least: 1}"
        )
    name, terms = next(iter(content.items()))
    found = _mapping(terms, str(name))
    named = [kind for kind in kinds if kind in found]
    if len(named) != 1:
        raise SelfRepairError(
            f"The claim '{name}' says {'nothing that is known' if not named else ' and '.join(named)}.",
            f"Each claim is one of: {', '.join(kinds)}.",
        )
    return Claim(str(name), named[0], found[named[0]], {key: found[key] for key in found if key != named[0]})


def _mapping(content: object, what: str) -> dict[str, Any]:
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise SelfRepairError(f"'{what}' should have names and values.", "docs/claims.md has an example.")
    return content


def _known(content: Mapping[str, Any], known: set[str], where: str) -> None:
    unknown = sorted(set(content) - known)
    if unknown:
        raise SelfRepairError(f"{where} has an unknown part '{unknown[0]}'.", f"Known are {', '.join(sorted(known))}.")

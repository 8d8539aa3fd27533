"""A circuit from the command line: names, roles, or a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from selfrepair.ablation.names import parse_groups

if TYPE_CHECKING:
    from selfrepair.ablation.sites import Site
    from selfrepair.model.language_model import LanguageModel

ROLE = "circuit"  # of members that are given without one


def roles_of(given: str, model: LanguageModel | None) -> Mapping[str, tuple[Site, ...]]:
    """The circuit's sites by role.

    Args:
        given: names, with roles or without; or the path of a file.
        model: to check that they exist; None to leave that out.
    """
    text = f"@{given}" if Path(given).is_file() else given
    groups = parse_groups(text, model)
    return {role or ROLE: sites for role, sites in groups.items()}

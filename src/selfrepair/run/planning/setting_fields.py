"""Options of settings: help, name and place in the plan, read from annotated dataclass fields. No torch in here."""

# Without `from __future__ import annotations`: help is read from the annotations at run time.
import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, replace
from typing import Any, ForwardRef, get_args

from selfrepair.errors import SelfRepairError

TEXT, ABLATION, COMPUTING = "Text", "Ablation and statistics", "Computing"  # headings in `--help`


@dataclass(frozen=True)
class Option:
    """Properties of a field beside its type and default.

    Attributes:
        help: what it does, for `--help` and for docstrings.
        panel: heading in `--help`.
        plan: where the plan holds its resolved value (`text.first_position`); None: as given, under its own name;
            empty: not in the plan, because no number depends on it.
        least: the smallest number that makes sense.
        choices: names to choose from.
        flag: its name on the command line, if that is not the field's.
        typed: its type on the command line, where Python takes more than that.
    """

    help: str
    panel: str
    plan: str | None = None
    least: int | None = None
    choices: tuple[str, ...] = ()
    flag: str = ""
    typed: Any = None


@dataclass(frozen=True)
class Setting:
    """One field of a group.

    Attributes:
        name: name of the field and keyword.
        type: as annotated; a text if only type checkers know it.
        default: its default.
        option: its help and the like.
    """

    name: str
    type: Any
    default: Any
    option: Option

    def with_default(self, default: object) -> "Setting":
        """The same with another default."""
        return replace(self, default=default)


def settings_of(group: Any) -> Iterator[Setting]:
    """The fields of a group, in order.

    Args:
        group: `Text`, `Ablation`, ...
    """
    for field in fields(group):
        kind, option = get_args(field.type)
        assert field.default is not MISSING and isinstance(option, Option)
        yield Setting(field.name, kind.__forward_arg__ if isinstance(kind, ForwardRef) else kind, field.default, option)


def require_known_setting(name: str, known: Sequence[str]) -> None:
    """Refuses an unknown setting.

    Raises:
        SelfRepairError: the setting is unknown; names the nearest known one.
    """
    if name in known:
        return
    nearest = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    known_settings = f"Settings are: {', '.join(known)}."
    raise SelfRepairError(
        f"There is no setting '{name}'.",
        f"Did you mean '{nearest[0]}'? {known_settings}" if nearest else known_settings,
    )


def given_settings(group: Any, keywords: Mapping[str, Any]) -> dict[str, Any]:
    """The keywords that are fields of a group."""
    return {setting.name: keywords[setting.name] for setting in settings_of(group) if setting.name in keywords}

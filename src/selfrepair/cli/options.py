"""Options of the command line: those that several verbs share, and those that are made from the fields of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from enum import Enum, StrEnum
from functools import wraps
from typing import Annotated, Any

import typer

from selfrepair.run.planning.setting_fields import Setting, settings_of

Quiet = Annotated[
    bool, typer.Option("--quiet", "-q", help="No progress and no remarks: only results, warnings and errors.")
]


def options(group: Any, *names: str, **defaults: object) -> list[Setting]:
    """Fields of a group of settings.

    Args:
        group: `Text`, `Ablation`, ...
        names: which fields; all by default.
        defaults: defaults that differ from the field's.
    """
    chosen = [setting for setting in settings_of(group) if not names or setting.name in names]
    return [setting.with_default(defaults.get(setting.name, setting.default)) for setting in chosen]


def with_settings(
    settings: Sequence[Setting], panels: bool = True
) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Gives a verb an option for every setting; it takes their values as keywords, as plain texts and numbers.

    Args:
        settings: in the order of `--help`: after the verb's arguments, before its own options (after the `*`).
        panels: whether `--help` groups them under headings.
    """

    def decorated(verb: Callable[..., None]) -> Callable[..., None]:
        given = inspect.signature(verb, eval_str=True).parameters.values()
        arguments = [parameter for parameter in given if parameter.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD]
        made = [_parameter(setting, panels) for setting in settings]
        names = {setting.name for setting in settings}
        own = [
            parameter
            for parameter in given
            if parameter.kind is inspect.Parameter.KEYWORD_ONLY and parameter.name not in names
        ]

        @wraps(verb)
        def command(**values: Any) -> None:
            verb(**{name: _plain(value) if name in names else value for name, value in values.items()})

        command.__signature__ = inspect.Signature([*arguments, *made, *own])  # type: ignore[attr-defined]
        return command

    return decorated


def _parameter(setting: Setting, panels: bool) -> inspect.Parameter:
    """A setting as typer reads options: from a parameter of a signature."""
    option, default = setting.option, setting.default
    kind: Any = setting.type if option.typed is None else option.typed
    if option.choices:
        enumeration: Any = StrEnum  # type checkers want literal names
        names = enumeration(setting.name, {name: name for name in option.choices})
        kind = names if default is not None else names | None
        default = default if default is None else names(default)
    flag = option.flag or (f"--{setting.name}" if default is False else "")
    shown = typer.Option(
        *([flag] if flag else []),
        help=option.help,
        min=option.least,
        rich_help_panel=option.panel if panels else None,
    )
    return inspect.Parameter(
        setting.name,
        inspect.Parameter.KEYWORD_ONLY,
        default=list(default) if isinstance(default, tuple) else default,
        annotation=Annotated[kind, shown],
    )


def _plain(value: Any) -> Any:
    return value.value if isinstance(value, Enum) else value

"""The fields of `Settings` in the signature and the docstring of a function that takes them as keywords."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable
from typing import Any, TypeVar

from selfrepair.run.planning.setting_fields import settings_of
from selfrepair.run.planning.settings import GROUPS

Function = TypeVar("Function", bound=Callable[..., Any])


def with_keywords(function: Function) -> Function:
    """Puts the fields of `Settings` into the signature and the docstring of a function that takes `Keywords`."""
    given = inspect.signature(function)
    settings = [setting for group in GROUPS.values() for setting in settings_of(group)]
    own = [parameter for parameter in given.parameters.values() if parameter.kind is not inspect.Parameter.VAR_KEYWORD]
    keywords = [
        inspect.Parameter(
            setting.name, inspect.Parameter.KEYWORD_ONLY, default=setting.default, annotation=setting.type
        )
        for setting in settings
    ]
    function.__signature__ = given.replace(parameters=own + keywords)  # type: ignore[attr-defined]
    wrap = textwrap.TextWrapper(120, initial_indent=" " * 12, subsequent_indent=" " * 16)
    lines = "\n".join(wrap.fill(f"{setting.name}: {setting.option.help}") for setting in settings)
    function.__doc__ = (function.__doc__ or "").replace("{settings}", lines.lstrip())
    return function

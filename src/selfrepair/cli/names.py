"""`selfrepair names`: what components are called elsewhere."""

from __future__ import annotations

import json
import warnings
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Column, Table
from rich.text import Text

from selfrepair.terminal import Console

if TYPE_CHECKING:
    from selfrepair.ablation.name_lists import Place
    from selfrepair.model.language_model import LanguageModel


def names(
    components: Annotated[
        list[str],
        typer.Argument(
            metavar="NAME...", help="Components in any spelling: `9.6`, `a9.h6`, `MLP 5`, `L11N584@-1`, `@file`, ..."
        ),
    ],
    model: Annotated[
        str | None,
        typer.Option(help="Check that a model has them, and name its modules: hub id, folder, GGUF, `default`."),
    ] = None,
    hooks: Annotated[
        bool, typer.Option("--hooks", help="Print Python code that ablates them by zero in TransformerLens.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="JSON for programs, on standard output.")] = False,
) -> None:
    """Translate names of heads, MLPs, attention layers and neurons between tools.

    Layers and heads are counted from 0.
    """
    from selfrepair.circuits.elsewhere import elsewhere, transformer_lens_hooks

    loaded = None if model is None else _loaded(model)
    sites = _places(components, loaded)
    if hooks:
        typer.echo(transformer_lens_hooks(sites), nl=False)
        return
    spellings = {str(site): elsewhere(site, loaded) for site in sites}
    if as_json:
        typer.echo(json.dumps(spellings, indent=2, ensure_ascii=False))
        return
    table = Table("component", "tool", Column("is called", overflow="fold"))
    for called in spellings.values():
        for tool, name in called.items():
            table.add_row(Text(called["selfrepair"] if tool == "selfrepair" else ""), Text(tool), Text(name))
    Console().print(table)


def _places(components: list[str], model: LanguageModel | None) -> list[Place]:
    """The components; expansions of names are reported on standard error."""
    from selfrepair.ablation.name_lists import NameExpanded
    from selfrepair.ablation.names import parse_names

    files = any(name.startswith("@") for name in components)
    given = components if files else [" ".join(components)]  # a shell splits `MLP 5`
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", NameExpanded)
        sites = [site for name in given for site in parse_names(name, model)]
    for warning in caught:
        Console(stderr=True).print(Text(str(warning.message), "yellow"))
    return list(dict.fromkeys(sites))


def _loaded(model: str) -> LanguageModel:
    from selfrepair.cli.silence_libraries import quieten

    quieten()
    from selfrepair.model.load import load

    return load(model)

"""Options of the command line, made from the fields of settings."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import Field, fields
from typing import Annotated, Any, get_type_hints

import typer

from rnnfast.settings import Settings

Parameters = list[inspect.Parameter]


def option(name: str, kind: Any, default: Any, *flags: str, **details: Any) -> inspect.Parameter:
    """Make one option of a command; its flags are made of the name where none are given.

    The default is told by the help, in words.
    """
    return inspect.Parameter(
        name,
        inspect.Parameter.KEYWORD_ONLY,
        default=default,
        annotation=Annotated[kind, typer.Option(*flags, show_default=False, **details)],
    )


def setting_options(settings: type[Settings], length: Mapping[str, Any]) -> Parameters:
    """Make an option for each setting; one that is not given is None.

    Parameters
    ----------
    settings : type
        A dataclass of settings.
    length : mapping
        The default `epochs` or `minutes`.
    """
    kinds = get_type_hints(settings)
    return [
        option(
            entry.name,
            kinds[entry.name] | None,
            None,
            help=entry.metadata["help"] + _shown(entry, length),
        )
        for entry in fields(settings)
    ]


def _shown(entry: Field[Any], length: Mapping[str, Any]) -> str:
    """Tell the default, as the end of the help."""
    default = length.get(entry.name, entry.metadata["shown"] or entry.default)
    return "" if default is None else f" Default: {default}."


def command(name: str, doc: str, parameters: Parameters, body: Callable[..., None]) -> Any:
    """Make a function that typer takes for a command with these options."""

    def run(**given: Any) -> None:
        body(given)

    run.__name__, run.__doc__ = name, doc
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run

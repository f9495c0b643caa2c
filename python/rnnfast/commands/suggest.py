"""`rnnfast suggest`: writing together with a trained model."""

from __future__ import annotations

import contextlib
import io
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, cast

import typer

from rnnfast.models import LanguageModel, Suggestion, Writer
from rnnfast.systems import LANGUAGE
from rnnfast.trained import load_trained

_SHOWN = 400  # characters at the text's end that stand above the suggestions
_QUIT = ("", "quit")


def suggest(
    checkpoint: Annotated[Path, typer.Argument(help="From `rnnfast train text` or `words`.")],
    count: Annotated[int, typer.Option(help="Suggestions at a time.")] = 10,
    prompt: Annotated[str, typer.Option(help="Text to begin with.")] = "",
) -> None:
    """Write a text together with a model: it suggests what comes next, you pick or type.

    A number picks the suggestion, anything else is added to the text as it is typed; a space in
    front makes text of a number. An empty line, `quit`, the end of the input or Ctrl-C ends, and
    the whole text is printed. The choices may come from a pipe.
    """
    if count < 1:
        raise ValueError(f"--count is {count}, expected at least 1")
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")
    writer = Writer(cast(LanguageModel, load_trained(checkpoint, LANGUAGE).model), prompt)
    text = prompt
    with contextlib.suppress(KeyboardInterrupt):
        suggestions = _show(writer, text, count)
        for choice in _choices():
            try:
                text += _chosen(writer, suggestions, choice)
            except ValueError as error:  # of this choice: the next may be better
                print(error, file=sys.stderr)
            suggestions = _show(writer, text, count)
    print(f"\n{text}")


def _show(writer: Writer, text: str, count: int) -> list[Suggestion]:
    """Print the end of the text, and what may follow it."""
    suggestions = writer.suggestions(count)
    print(text if len(text) <= _SHOWN else f"... {text[-_SHOWN:]}")
    labels = [_label(one.text) for one in suggestions]
    width = max(map(len, labels))
    for number, (label, one) in enumerate(zip(labels, suggestions, strict=True), 1):
        print(f"{number:4}  {label:<{width}}  {one.probability:6.1%}")
    return suggestions


def _label(text: str) -> str:
    """Make white space visible."""
    bare = text.strip(" ")
    return bare if bare and bare.isprintable() else repr(text)


def _choices() -> Iterator[str]:
    """Read lines until one of them ends the writing; a person at a terminal is asked for them."""
    while True:
        if sys.stdin.isatty():
            print("> ", end="", flush=True)
        line = sys.stdin.readline()
        choice = line.rstrip("\r\n")
        if not line or choice in _QUIT:
            break
        yield choice


def _chosen(writer: Writer, suggestions: list[Suggestion], choice: str) -> str:
    """Add to the text; return what was added."""
    if not (choice.isascii() and choice.isdigit()):
        return writer.write(choice)
    number = int(choice)
    if not 1 <= number <= len(suggestions):
        raise ValueError(
            f"{number} is not one of 1 to {len(suggestions)}; with a space in front it is text"
        )
    return writer.take(suggestions[number - 1].token)

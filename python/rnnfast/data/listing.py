"""Lines of Python source by what they are: code, comment or docstring."""

from __future__ import annotations

import io
import tokenize
from collections.abc import Iterator
from pathlib import Path

from .text import python_sources

_SHORTEST = 10  # characters of a line that tells something
_LAYOUT = {
    tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
}  # fmt: skip

Labelled = tuple[str, str]


def listed_lines(folder: Path) -> Iterator[Labelled]:
    """Yield label and line of the programs in a folder; each line once."""
    seen: set[str] = set()
    for path in python_sources(folder):
        content = path.read_bytes()
        if not content.isascii():
            continue
        for label, line in listed(content.decode("ascii").replace("\r\n", "\n")):
            if len(line) >= _SHORTEST and line not in seen:
                seen.add(line)
                yield label, line


def listed(source: str) -> Iterator[Labelled]:
    """Yield label and line of a program, without indentation, quotes and number signs.

    Lines that are both, such as code with a comment behind it, are left out; so is a program that
    cannot be read to its end.
    """
    statement: list[tokenize.TokenInfo] = []
    try:
        tokens = list(tokenize.generate_tokens(io.StringIO(source).readline))
    except (tokenize.TokenError, SyntaxError):
        return
    for token in tokens:
        if token.type == tokenize.COMMENT and not statement:
            yield "comment", token.string.lstrip("#!:").strip()
        elif token.type == tokenize.NEWLINE:
            yield from _statement(statement)
            statement = []
        elif token.type not in _LAYOUT:
            statement.append(token)


def _statement(tokens: list[tokenize.TokenInfo]) -> Iterator[Labelled]:
    """Yield the lines of one statement."""
    if len(tokens) == 1 and tokens[0].type == tokenize.STRING:
        for line in tokens[0].string.lstrip("rRuU").strip("\"'").splitlines():
            yield "docstring", line.strip()
        return
    mixed = {
        row
        for token in tokens
        if token.type == tokenize.COMMENT or token.end[0] > token.start[0]
        for row in range(token.start[0], token.end[0] + 1)
    }
    lines = {token.start[0]: token.line for token in tokens if token.start[0] not in mixed}
    for _, line in sorted(lines.items()):
        yield "code", line.strip()

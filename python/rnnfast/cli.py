"""Entry point of the command line: checks the extras, and turns errors into one line.

The commands themselves are in `commands`, which needs the extras to be imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from typing import NoReturn

EXTRAS = ("typer", "rich", "safetensors", "threadpoolctl")
UNSAVED = 1
BAD_INPUT = 2
INTERRUPTED = 130
UNREAD = 1  # as typer has it


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line and exit.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of `sys.argv[1:]`.

    Raises
    ------
    SystemExit
        0 if all went well; 1 if the training diverged or could not be saved, or nobody reads the
        output any more; 2 for bad input; 130 when interrupted.
    """
    missing = [name for name in EXTRAS if find_spec(name) is None]
    if missing:
        _fail(f"the command line needs {', '.join(missing)}: pip install 'rnnfast[cli]'", BAD_INPUT)
    try:
        code = _run(arguments)
    except KeyboardInterrupt:
        _fail("interrupted", INTERRUPTED)
    sys.exit(code)


def _run(arguments: Sequence[str] | None) -> int:
    """Run a command and return its code, or exit with the line that tells what is wrong."""
    from .commands import app
    from .train import DivergenceError

    try:
        code = app(args=arguments, prog_name="rnnfast", standalone_mode=False)
        sys.stdout.flush()
    except DivergenceError as error:
        _fail(str(error), 1)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still buffered
        sys.exit(UNREAD)
    except OSError as error:
        _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), BAD_INPUT)
    except (ValueError, MemoryError) as error:
        _fail(str(error) or "not enough memory", BAD_INPUT)
    except Exception as error:
        # Usage errors; their class is typer's or click's own, depending on typer's version.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        _fail(message(), BAD_INPUT)
    return code if isinstance(code, int) else 0


def _fail(message: str, code: int) -> NoReturn:
    if message:  # a command group without a command has printed its help instead
        print("rnnfast:", " ".join(message.split()), file=sys.stderr)
    sys.exit(code)

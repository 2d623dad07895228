"""How a command ends: with its answer, or with an error in one line and an exit code that says what to do next.

Never with 1 for what nobody expected: that is an answer (`check`, `doctor`, `story` say no).
"""

from __future__ import annotations

import os
import select
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

from typer.core import TyperGroup

from schemas.errors import TriplineError

_UNEXPECTED = 70


class Commands(TyperGroup):
    """Lets `ended` see a broken pipe: typer ends with 1 at one, without a word."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that is asked for."""
        try:
            found = super().invoke(ctx)
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise _PipeBroken from error
        return found


class _PipeBroken(Exception):
    pass


def ended(app: Callable[..., Any]) -> None:
    """Run the command line; errors are one line on stderr and an exit code."""
    try:
        app(prog_name="tripline")
    except TriplineError as error:
        print(f"tripline: {error}" if "\n" not in str(error) else str(error), file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(130)
    except _PipeBroken as broken:
        if _reader_gone():
            # `| head`: not an error, and nothing can be said any more.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        _say_unexpected(broken.__cause__ or broken)
    except SystemExit:
        raise
    except BaseException as error:
        _say_unexpected(error)


def _reader_gone() -> bool:
    """Whether whoever read our output has gone: a broken pipe may be any other connection."""
    ends = select.poll()
    ends.register(sys.stdout.fileno(), 0)
    return any(what & select.POLLERR for _, what in ends.poll(0))


def _say_unexpected(error: BaseException) -> NoReturn:
    """End with 70. Never with 1, which is an answer: whoever runs us must not take a fault of ours for one."""
    traceback.print_exception(error)
    print(f"tripline: unexpected: {type(error).__name__}: {error}; this is a fault of ours", file=sys.stderr)
    sys.exit(_UNEXPECTED)

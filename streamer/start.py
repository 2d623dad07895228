"""Where `tripline` begins: the command line is imported here, so that not even a broken installation ends it with 1."""

from __future__ import annotations

import sys


def main() -> None:
    """Run the command line; 70 when it cannot be imported: 1 is an answer, and nobody has answered."""
    try:
        from streamer.commands import main as begin
    except Exception as error:
        import traceback

        traceback.print_exception(error)
        print(f"tripline: cannot start: {type(error).__name__}: {error}; is it installed whole?", file=sys.stderr)
        sys.exit(70)
    begin()

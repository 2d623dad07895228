"""Files that commands write: what cannot be written is said in one line."""

from __future__ import annotations

from pathlib import Path

from schemas.errors import TriplineError


class UnwritableError(TriplineError):
    """A file that a command was to write cannot be written."""

    exit_code = 2


def folder_for(path: Path) -> None:
    """Make the folder that `path` is to stand in. Called before long work, so that it is not done for nothing."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UnwritableError(f"{path}: cannot be written: {error.strerror}") from error
    if path.is_dir():
        raise UnwritableError(f"{path}: cannot be written: it is a folder")


def write(path: Path, content: bytes | str) -> None:
    """Write a whole file, and its folder where there is none."""
    folder_for(path)
    try:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise UnwritableError(f"{path}: cannot be written: {error.strerror}") from error

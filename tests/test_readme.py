"""The README does what it says: marked blocks run, configurations load, commands and targets exist.

A fenced block runs when the line before it is `<!-- run -->`:

* `python`: executed, all blocks in one namespace; with `>>>` as a doctest.
* `console`: each `$ command` runs in the repository's root with bash; the lines below it are the expected output,
  where `...` stands for anything. A command must exit 0; a block marked `<!-- run: exit 1 -->` that many.
"""

from __future__ import annotations

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import typer

from streamer.commands import app
from streamer.config import load_text

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
_FENCE = re.compile(
    r"(?:^<!-- run(?:: exit (?P<exit>\d+))? -->\n)?^```(?P<kind>\w*)[^\n]*\n(?P<body>.*?)^```$", re.M | re.S
)


class Block(NamedTuple):
    """A fenced block. run: whether it is marked; code: the exit code that its commands must have."""

    line: int
    kind: str
    body: str
    run: bool
    code: int


def blocks(text: str) -> list[Block]:
    """All fenced blocks of a Markdown text."""
    return [
        Block(
            text.count("\n", 0, found.start("body")),
            found["kind"],
            found["body"],
            found[0].startswith("<!-- run"),
            int(found["exit"] or 0),
        )
        for found in _FENCE.finditer(text)
    ]


BLOCKS = blocks(TEXT)


def by_line(block: Block) -> str:
    return f"line {block.line}"


def steps(body: str) -> list[tuple[str, str]]:
    """Commands of a console block with their expected output; a trailing backslash goes on in the next line."""
    found = re.split(r"^\$ ", body.replace("\\\n", ""), flags=re.M)[1:]
    return [(command, output) for command, _, output in (step.partition("\n") for step in found)]


def run_console(block: Block) -> None:
    """Run each command, and compare what it prints."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    environment = {**os.environ, "PATH": path, "COLUMNS": "120"}
    for command, expected in steps(block.body):
        done = subprocess.run(
            ["bash", "-c", command], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == block.code, f"README.md:{block.line}: {command}\n{done.stdout}{done.stderr}"
        got = _plain(done.stdout + done.stderr)
        if expected.strip():
            fits = doctest.OutputChecker().check_output(_plain(expected), got, doctest.ELLIPSIS)
            assert fits, f"README.md:{block.line}: {command}\nexpected:\n{expected}\ngot:\n{got}"


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines()) + "\n"


def run_python(block: Block, names: dict[str, object]) -> None:
    """Execute a block in `names`, or compare it with what it shows."""
    if ">>>" in block.body:
        test = doctest.DocTestParser().get_doctest(block.body, names, "README.md", "README.md", block.line)
        result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False)
        assert result.failed == 0
        return
    exec(compile("\n" * block.line + block.body, "README.md", "exec"), names)


def test_marked_console_blocks_print_what_they_show() -> None:
    for block in [block for block in BLOCKS if block.run and block.kind == "console"]:
        run_console(block)


def test_marked_python_blocks_run_in_their_order() -> None:
    names: dict[str, object] = {"__name__": "readme"}
    for block in [block for block in BLOCKS if block.run and block.kind == "python"]:
        run_python(block, names)


@pytest.mark.parametrize("block", [block for block in BLOCKS if block.kind == "yaml"], ids=by_line)
def test_a_configuration_in_the_readme_is_one(block: Block) -> None:
    assert load_text(block.body, file="README.md").config.models


def test_every_target_that_the_readme_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    assert set(re.findall(r"\bmake ([a-z]+)\b", _code(TEXT))) - targets == set()


def test_every_command_that_the_readme_names_is_there() -> None:
    """`tripline words`: groups with their commands."""
    root = typer.main.get_command(app)
    assert {words for words in named_commands(TEXT) if not _exists(root, words.split())} == set()


def named_commands(text: str) -> set[str]:
    """What follows `tripline` where the README shows a command: up to two words.

    >>> sorted(named_commands("`tripline reference build x.csv -o FILE`, `tripline check -c tripline.yaml`"))
    ['check', 'reference build']
    """
    found = re.findall(r"(?<![\w./-])tripline +([a-z]+)(?: +([a-z]+)\b(?![./|]))?", _code(text))
    return {" ".join(filter(None, words)) for words in found}


def _code(text: str) -> str:
    """Fenced and inline code of a Markdown text: prose may speak of making a thing."""
    fenced = "\n".join(block.body for block in blocks(text) if block.kind in ("", "console", "bash", "sh"))
    return "\n".join([fenced, *re.findall(r"`([^`\n]+)`", _FENCE.sub("", text))])


def _exists(command: object, words: list[str]) -> bool:
    commands: dict[str, object] | None = getattr(command, "commands", None)
    if commands is None:
        return True  # what follows a command is an argument
    return bool(words) and words[0] in commands and _exists(commands[words[0]], words[1:])


def test_a_command_that_is_not_there_is_noticed() -> None:
    root = typer.main.get_command(app)
    assert [_exists(root, words.split()) for words in ("check", "reference build", "fly", "reference fly")] == [
        True,
        True,
        False,
        False,
    ]


EXAMPLE = """
<!-- run -->
```console
$ echo one two
one ...
```

```console
$ false
```

<!-- run: exit 3 -->
```console
$ exit 3
```
"""


def test_a_marked_block_that_lies_is_caught() -> None:
    good, unmarked, failing = blocks(EXAMPLE)
    assert (good.run, unmarked.run, failing.run, failing.code) == (True, False, True, 3)
    run_console(good)
    run_console(failing)
    with pytest.raises(AssertionError, match=rf"README\.md:{good.line}: echo one two"):
        run_console(good._replace(body="$ echo one two\nthree\n"))
    with pytest.raises(AssertionError, match=rf"README\.md:{good.line}: false"):
        run_console(good._replace(body="$ false\n"))


def test_a_python_block_that_lies_is_caught() -> None:
    wrong = Block(1, "python", ">>> 1 + 1\n3\n", True, 0)
    with pytest.raises(AssertionError):
        run_python(wrong, {})

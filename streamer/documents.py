"""A YAML document whose every value knows its line.

YAML 1.2's core types only: `off`, `no` and `NO` are strings (a country is not a boolean), so are dates and `12:30`.
A repeated key is an error, aliases may not nest without end, and nothing but plain data is ever built.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

import yaml

from schemas.errors import ConfigurationError

Plain: TypeAlias = str | int | float | bool | list["Plain"] | dict[str, "Plain"] | None
Place: TypeAlias = tuple[str | int, ...]

#: More nodes than any honest file has; a few nested aliases can ask for billions.
MOST_NODES = 200_000
DEEPEST = 50


@dataclass
class Document:
    r"""Plain data of a file, the line of every place in it, and what was wrong with it already.

    >>> document = parse("models:\n  credit: {pane: 1m}\n", file="tripline.yaml")
    >>> document.data, document.line(("models", "credit", "pane"))
    ({'models': {'credit': {'pane': '1m'}}}, 2)
    """

    file: str
    data: Plain
    lines: dict[Place, int] = field(default_factory=dict)
    faults: list[ConfigurationError] = field(default_factory=list)

    def line(self, place: Place) -> int:
        """Line of a place, or of the nearest place above it that the file has."""
        for length in range(len(place), -1, -1):
            if place[:length] in self.lines:
                return self.lines[place[:length]]
        return 1

    def known(self, place: Place) -> Place:
        """`place` without the steps that only the parser's types have (an index where the file has a mapping)."""
        node, kept = self.data, []
        for at, step in enumerate(place):
            if isinstance(node, dict) and step in node:
                node = node[str(step)]
            elif isinstance(node, list) and isinstance(step, int) and step < len(node):
                node = node[step]
            elif at < len(place) - 1 or isinstance(step, int):
                continue
            kept.append(step)
        return tuple(kept)

    def value(self, place: Place) -> Plain:
        """What the file has at a place; None where it has nothing."""
        node = self.data
        for step in place:
            if isinstance(node, dict) and step in node:
                node = node[str(step)]
            elif isinstance(node, list) and isinstance(step, int) and step < len(node):
                node = node[step]
            else:
                return None
        return node

    def fault(self, place: Place, message: str) -> ConfigurationError:
        """An error at a place of this file."""
        return ConfigurationError(message, file=self.file, line=self.line(place), path=dotted(place))


def dotted(place: Place) -> str:
    """A place as people write it.

    >>> dotted(("models", "credit", "retrain", 2, "when"))
    'models.credit.retrain[2].when'
    """
    text = ""
    for step in place:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text


def read(path: Path) -> Document:
    """Document of a file; `ConfigurationError` when it is not there or is no YAML."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot be read: {error.strerror}", file=str(path)) from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"is not UTF-8: {error.reason} at byte {error.start}", file=str(path)) from error
    return parse(text, file=str(path))


def parse(text: str, *, file: str) -> Document:
    """Document of a text. Repeated keys and the like are collected in `faults`; broken YAML raises."""
    try:
        loader = _Loader(text)
        root = loader.get_single_node()
        document = Document(file, None)
        if root is not None:
            document.data = _Walk(loader, document).take(root, ())
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = mark.line + 1 if mark else 1
        raise ConfigurationError(f"is not YAML: {error.problem or error.context}", file=file, line=line) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ConfigurationError(f"is not YAML: {str(error).splitlines()[0]}", file=file, line=1) from error
    return document


class _Loader(yaml.SafeLoader):
    """The safe loader with YAML 1.2's implicit types."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012  the base class's form


for _tag, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^[-+]?[0-9]+$", list("-+0123456789")),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", list("-+0123456789.")),
    ("float", r"^(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$", list("-+.")),
    ("merge", r"^(?:<<)$", ["<"]),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


class _Walk:
    """Builds plain data from nodes, noting lines and repeated keys on the way."""

    def __init__(self, loader: _Loader, document: Document) -> None:
        self.loader, self.document, self.nodes = loader, document, 0

    def take(self, node: yaml.Node, place: Place) -> Plain:
        self.nodes += 1
        if self.nodes > MOST_NODES or len(place) > DEEPEST:
            raise yaml.MarkedYAMLError(problem="is too large or too deep", problem_mark=node.start_mark)
        self.document.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.take(item, (*place, i)) for i, item in enumerate(node.value)]
        return self._scalar(node)

    def _mapping(self, node: yaml.MappingNode, place: Place) -> Plain:
        seen: dict[str, int] = {}
        for key, _ in node.value:
            name, line = str(key.value), key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a word", problem_mark=key.start_mark)
            if name in seen:
                here = (*place, name)
                self.document.faults.append(
                    ConfigurationError(
                        f"is written twice, first on line {seen[name]}",
                        file=self.document.file, line=line, path=dotted(here),
                    )
                )  # fmt: skip
            seen.setdefault(name, line)
        self.loader.flatten_mapping(node)
        data: dict[str, Plain] = {}
        for key, value in node.value:
            here = (*place, str(key.value))
            self.document.lines[here] = key.start_mark.line + 1
            data[str(key.value)] = self.take(value, here)
        return data

    def _scalar(self, node: yaml.Node) -> Plain:
        if not node.tag.startswith("tag:yaml.org,2002:"):
            raise yaml.MarkedYAMLError(problem=f"the tag {node.tag} is not allowed", problem_mark=node.start_mark)
        kind = node.tag.rpartition(":")[2]
        if kind == "int":
            return int(node.value)
        if kind in ("null", "bool", "float", "str"):
            value: Plain = self.loader.construct_object(node)
            return value
        raise yaml.MarkedYAMLError(problem=f"the type {kind} is not allowed", problem_mark=node.start_mark)

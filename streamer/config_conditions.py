"""Conditions as people write them: a line such as `trend income in country=FR`, or `all`, `any`, `at_least … of` lines.

    when: drift for 30m
    when: {all: [drift income, {any: [drift age, missing country]}], for: 30m}
    page_when: {any: [rule, silence, inputs_moved]}          # a name from `conditions:`

Names are put in place of what they stand for when a layout is made; what a worker gets is one plain `Condition`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, NamedTuple, TypeAlias, get_args, get_type_hints

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    InstanceOf,
    Strict,
    Tag,
    WithJsonSchema,
    model_validator,
)

from schemas.layouts import Condition, View
from streamer import spans
from streamer.complaints import nearest
from streamer.config_fields import Duration

KINDS: tuple[str, ...] = get_args(get_type_hints(Condition)["kind"])
#: Rules on the model itself: there is no feature to name.
_OF_THE_MODEL = frozenset({"rows", "silence"})
_WORD = re.compile(r'"[^"]*"|[^\s"]+')
_GRAMMAR = "KIND [FEATURE] [in COLUMN=VALUE]"
#: Where something stands in an expression.
Place: TypeAlias = tuple[str | int, ...]


class Line(NamedTuple):
    """One line: a leaf, or the name of a condition. for_ms: only where a policy may say it."""

    leaf: Condition | None = None
    name: str = ""
    for_ms: int = 0


def line(text: object) -> Line:
    """What one line says. ValueError says what would be right.

    >>> line("drift for 30m").for_ms, line("missing country").leaf.feature, line('trend "annual *" in country=FR').name
    (1800000, 'country', '')
    >>> line("inputs_moved")
    Line(leaf=None, name='inputs_moved', for_ms=0)
    """
    if isinstance(text, Line):
        return text
    words = _WORD.findall(text) if isinstance(text, str) else []
    if not words:
        raise ValueError(f"must be a condition such as `drift for 30m`, or a mapping with {', '.join(_GROUPS)}")
    for_ms = 0
    if len(words) >= 2 and words[-2] == "for":
        for_ms = spans.duration(words[-1])
        words = words[:-2]
    kind, *rest = words
    if kind not in KINDS:
        if rest or not kind.isidentifier():
            raise ValueError(f"must be {_GRAMMAR}, KIND one of {', '.join(KINDS)}, or the name of a condition")
        return Line(name=kind, for_ms=for_ms)
    view = None
    if len(rest) >= 2 and rest[-2] == "in":
        view, rest = view_of(rest[-1]), rest[:-2]
    if len(rest) > 1 or (rest and kind in _OF_THE_MODEL):
        wanted = kind if kind in _OF_THE_MODEL else f'{_GRAMMAR}, a feature with spaces in "quotes"'
        raise ValueError(f"must be {wanted}, and `for DURATION` where a policy says it")
    feature = rest[0].strip('"') if rest else ""
    return Line(leaf=Condition(kind=kind, feature=feature, view=view), for_ms=for_ms)


def view_of(text: str) -> View:
    """The view that `model`, `version=…` or COLUMN=VALUE names. ValueError says what would be right."""
    column, equals, value = text.strip('"').partition("=")
    if text == "model":
        return View()
    if not (column and equals and value):
        raise ValueError(f"a view is `model`, `version=…` or COLUMN=VALUE, got {text}")
    return View(column, value)


def _timeless(text: object) -> Line:
    found = line(text)
    if found.for_ms:
        raise ValueError("`for DURATION` belongs to the whole condition of a policy, not to a part of it")
    return found


def _form(value: object) -> str:
    return "[group]" if isinstance(value, dict | Group) else "[line]"


_LINE_SCHEMA = {"type": "string", "examples": ["drift", "trend income", "missing country", "drift age in country=FR"]}
_WHEN_SCHEMA = {"type": "string", "examples": ["drift for 30m", "trend for 2h", "drift income"]}
_GROUPS = ("all", "any", "at_least and of")


class Group(BaseModel):
    """`all`, `any`, or `at_least: k` with `of`: exactly one of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    all: Expressions | None = None
    any: Expressions | None = None
    at_least: Annotated[int, Strict(), Field(ge=1)] | None = None
    of: Expressions | None = None

    @model_validator(mode="after")
    def _one_of(self) -> Group:
        if (self.at_least is None) != (self.of is None):
            raise ValueError("at_least and of belong together")
        if sum(part is not None for part in (self.all, self.any, self.of)) != 1:
            raise ValueError(f"must have exactly one of {', '.join(_GROUPS)}")
        if self.of is not None and (self.at_least or 0) > len(self.of):
            raise ValueError(f"at_least {self.at_least} of {len(self.of)} can never hold")
        return self

    @property
    def parts(self) -> tuple[str, list[Expression], int]:
        """Key, parts, and how many of them must hold."""
        if self.all is not None:
            return "all", self.all, len(self.all)
        return ("any", self.any, 1) if self.any is not None else ("of", self.of or [], self.at_least or 1)


Expression: TypeAlias = Annotated[
    Annotated[InstanceOf[Line], BeforeValidator(_timeless), WithJsonSchema(_LINE_SCHEMA), Tag("[line]")]
    | Annotated[Group, Tag("[group]")],
    Discriminator(_form),
]
Expressions: TypeAlias = Annotated[list[Expression], Field(min_length=1)]


class Lasting(Group):
    """A group that must hold `for` a while."""

    for_: Duration = Field(default=0, alias="for", description="Of event time, without a break.")


When: TypeAlias = Annotated[
    Annotated[InstanceOf[Line], BeforeValidator(line), WithJsonSchema(_WHEN_SCHEMA), Tag("[line]")]
    | Annotated[Lasting, Tag("[group]")],
    Discriminator(_form),
]
#: What a policy without `when` waits for.
DRIFT = Line(leaf=Condition())


def lasting(when: Line | Group) -> int:
    """For how long it must have held, ms of event time."""
    if isinstance(when, Line):
        return when.for_ms
    return when.for_ if isinstance(when, Lasting) else 0


def condition_of(expression: Line | Group, named: Mapping[str, Line | Group]) -> Condition:
    """The plain condition, with names replaced by what they stand for; `misnamed` has found that all are there."""
    if isinstance(expression, Line):
        return expression.leaf if expression.leaf is not None else condition_of(named[expression.name], named)
    _, parts, least = expression.parts
    return Condition(of=tuple(condition_of(part, named) for part in parts), least=least)


def leaves(expression: Line | Group, place: Place = ()) -> Iterator[tuple[Place, Line]]:
    """Every line with its place, relative to the expression."""
    if isinstance(expression, Line):
        yield place, expression
        return
    key, parts, _ = expression.parts
    for number, part in enumerate(parts):
        yield from leaves(part, (*place, key, number))


def misplaced(
    named: Mapping[str, Line | Group], used: Iterable[tuple[Place, Line | Group | None]]
) -> Iterator[tuple[Place, str]]:
    """Names that are not there, stand for themselves or mean something else. used: expressions, by place."""
    for name in named:
        if name in KINDS or not name.isidentifier():
            yield ("conditions", name), f"must be one word of letters, digits and _, and none of {', '.join(KINDS)}"
    for place, expression in (*((("conditions", name), one) for name, one in named.items()), *used):
        for inner, message in () if expression is None else misnamed(expression, named):
            yield (*place, *inner), message


def misnamed(expression: Line | Group, named: Mapping[str, Line | Group]) -> Iterator[tuple[Place, str]]:
    """What is wrong with the names in an expression: unknown ones, and such as stand for themselves."""
    for place, one in leaves(expression):
        if one.name and one.name not in named:
            yield place, "is no condition that is known" + nearest(one.name, [*KINDS, *named])
        elif one.name and _returns(one.name, named, ()):
            yield place, f"{one.name} stands for itself"


def _returns(name: str, named: Mapping[str, Line | Group], above: tuple[str, ...]) -> bool:
    if name in above:
        return True
    inside = [one.name for _, one in leaves(named[name]) if one.name in named]
    return any(_returns(inner, named, (*above, name)) for inner in inside)


Group.model_rebuild()
Lasting.model_rebuild()

"""What pydantic found wrong, in our words: at a line of the file, with the value, and with the nearest right key."""

from __future__ import annotations

import difflib
import types
import typing
from typing import Any

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from schemas.errors import ConfigurationError
from streamer.documents import Document, Place

#: Values under these keys never stand in a message.
SECRET_KEYS = frozenset({"password", "key_password", "bearer_token", "basic_auth"})

_TYPES = {
    "string_type": "must be text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "bool_type": "must be true or false",
    "list_type": "must be a list",
    "tuple_type": "must be a list",
    "dict_type": "must be a mapping",
    "model_type": "must be a mapping",
    "model_attributes_type": "must be a mapping",
}


def complaints(error: ValidationError, document: Document, root: type[BaseModel]) -> list[ConfigurationError]:
    """One `ConfigurationError` per thing that is wrong, at its place in the file."""
    found = {}
    for detail in error.errors():
        place = document.known(tuple(step for step in detail["loc"] if not str(step).startswith("[")))
        fault = document.fault(place, _message(detail, place, document, root))
        found[str(fault)] = fault
    return list(found.values())


def nearest(word: str, known: list[str]) -> str:
    """`, did you mean …?` when one of the known words is near; else the known ones, if they are few.

    >>> nearest("tolernace", ["tolerance", "timezone"])
    ', did you mean `tolerance`?'
    """
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    if close:
        return f", did you mean `{close[0]}`?"
    return f"; known are {', '.join(known)}" if 0 < len(known) <= 12 else ""


def shown(value: object) -> str:
    """A value for a message: short, on one line."""
    text = repr(value) if isinstance(value, str) else str(value)
    text = " ".join(text.split())
    return text if len(text) <= 60 else f"{text[:57]}..."


def _message(detail: ErrorDetails, place: Place, document: Document, root: type[BaseModel]) -> str:
    kind, limits = detail["type"], detail.get("ctx", {})
    if kind == "missing":
        return "is missing"
    if kind == "extra_forbidden":
        section = _section(detail["loc"][:-1], root)
        known = sorted(section.model_fields) if section else []
        return "is not a key that is known here" + nearest(str(place[-1]), known)
    # What is said to be a password, an address with one, is not said again.
    hidden = any(step in SECRET_KEYS for step in place) or "a password" in str(limits.get("error", ""))
    value = place[-1] if "[key]" in detail["loc"] else document.value(place)
    got = "" if hidden else f", got {shown('' if value is None else value) if value is not None else 'nothing'}"
    if kind in _TYPES:
        return _TYPES[kind] + got
    if kind == "literal_error":
        expected = str(limits.get("expected", "")).replace("'", "")
        return f"must be {expected}{got}"
    if kind in ("greater_than_equal", "greater_than", "less_than_equal", "less_than"):
        word = {"ge": "at least", "gt": "more than", "le": "at most", "lt": "less than"}
        name, limit = next((k, v) for k, v in limits.items() if k in word)
        return f"must be {word[name]} {limit:g}{got}"
    if kind in ("too_short", "too_long"):
        least, most = limits.get("min_length"), limits.get("max_length")
        bound = f"at least {least}" if kind == "too_short" else f"at most {most}"
        return f"must have {bound} {'entry' if bound.endswith(' 1') else 'entries'}, got {limits.get('actual_length')}"
    if kind == "value_error":
        text = str(limits.get("error", detail["msg"]))
        return text if "got " in text or hidden or isinstance(value, dict) else text + got
    return detail["msg"][0].lower() + detail["msg"][1:] + got


def _section(loc: tuple[int | str, ...], root: type[BaseModel]) -> type[BaseModel] | None:
    """The pydantic model that a place of the error belongs to."""
    annotation: Any = root
    for step in loc:
        section = _model_in(annotation)
        if section is not None and isinstance(step, str) and step in section.model_fields:
            annotation = section.model_fields[step].annotation
        elif section is not None and section.model_config.get("extra") == "allow":
            annotation = typing.get_type_hints(section)["__pydantic_extra__"]
            annotation = typing.get_args(annotation)[1]
        elif section is None:
            inner = _inner(annotation)
            if inner is None:
                return None
            annotation = inner
    return _model_in(annotation)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    if typing.get_origin(annotation) in (typing.Union, types.UnionType, typing.Annotated):
        return next(filter(None, map(_model_in, typing.get_args(annotation))), None)
    return None


def _inner(annotation: Any) -> Any:
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (list, dict, tuple):
        return arguments[1] if origin is dict else arguments[0]
    if origin in (typing.Union, types.UnionType, typing.Annotated):
        return next(filter(None, map(_inner, arguments)), None)
    return None

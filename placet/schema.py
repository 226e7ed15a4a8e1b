"""Dataclasses from plain YAML or JSON values and back. Pure.

One reader serves both kinds of outside data: records in etcd (unknown fields are kept, so that an older program
does not drop what a newer one wrote) and configuration files (an unknown key is an error that names the nearest
known one).
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from collections.abc import Hashable, Iterable, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, TypeVar, Union, cast

T = TypeVar("T")
EXTRA = "extra"
SCALARS = frozenset({str, int, float, bool, type(None)})


class Mismatch(Exception):
    """A value is not what its field takes; the message starts with the path of the field."""


def read(cls: type[T], value: object, path: str = "") -> T:
    """Build the dataclass `cls` from a mapping.

    Fields whose dataclass has an `extra: dict` keep unknown keys there; without one, unknown keys raise Mismatch,
    as do wrong types and missing fields that have no default.
    """
    if not isinstance(value, Mapping):
        raise Mismatch(f"{path or 'the whole'}: expected keys and values, found {_named(value)}")
    hints = _hints(cast(Hashable, cls))
    known = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    arguments: dict[str, Any] = {}
    extra: dict[str, Any] = {}
    for key, item in value.items():
        where = f"{path}.{key}" if path else str(key)
        if key in known and key != EXTRA:
            arguments[key] = _convert(hints[key], item, where)
        elif EXTRA in known:
            extra[key] = item
        else:
            raise Mismatch(f"{where}: unknown key{nearest(str(key), known)}")
    if extra:
        arguments[EXTRA] = extra
    for name, field in known.items():
        if name not in arguments and _required(field):
            raise Mismatch(f"{f'{path}.' if path else ''}{name}: missing")
    return cls(**arguments)


def plain(record: object) -> Any:
    """The inverse of read: dicts, lists and scalars, ready for JSON; None and empty extras are left out."""
    if type(record) in SCALARS:  # most of what a record holds, and quicker told than asked for
        return record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        found = {f.name: getattr(record, f.name) for f in dataclasses.fields(record)}
        extra = found.pop(EXTRA, {})
        return {**extra, **{name: plain(item) for name, item in found.items() if item is not None}}
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, Mapping):
        return {str(key): plain(item) for key, item in record.items()}
    if isinstance(record, (list, tuple)):
        return [plain(item) for item in record]
    return record


def changed(record: T, **changes: Any) -> T:
    """A copy of a record with some fields changed."""
    return dataclasses.replace(record, **changes)  # type: ignore[type-var]


def nearest(key: str, known: Iterable[str]) -> str:
    """The end of an error about an unknown key: the nearest known one, or all of them."""
    words = sorted(name for name in known if name != EXTRA)
    return similar(key, words) or f"; known: {', '.join(words)}"


def similar(key: str, known: Iterable[str]) -> str:
    """The same for one of many: the nearest word, or nothing when none is near."""
    close = difflib.get_close_matches(key, sorted(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


@cache
def _hints(cls: Hashable) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _convert(hint: Any, value: object, path: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any or hint is object:
        return value
    if origin in (Union, types.UnionType):
        return _convert_union(typing.get_args(hint), value, path)
    if origin in (list, tuple):
        return _convert_sequence(origin, typing.get_args(hint)[0], value, path)
    if origin in (dict, Mapping):
        if not isinstance(value, Mapping):
            raise Mismatch(f"{path}: expected keys and values, found {_named(value)}")
        inner = typing.get_args(hint)[1]
        return {str(key): _convert(inner, item, f"{path}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(hint) and isinstance(hint, type):
        return read(hint, value, path)
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _convert_enum(hint, value, path)
    return _convert_scalar(hint, value, path)


def _convert_union(options: Sequence[Any], value: object, path: str) -> Any:
    if value is None and type(None) in options:
        return None
    problems = []
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(option, value, path)
        except Mismatch as problem:
            problems.append(str(problem))
    raise Mismatch(problems[0] if len(problems) == 1 else " or ".join(problems))


def _convert_sequence(origin: type, inner: Any, value: object, path: str) -> Any:
    if not isinstance(value, (list, tuple)):
        raise Mismatch(f"{path}: expected a list, found {_named(value)}")
    return origin(_convert(inner, item, f"{path}[{index}]") for index, item in enumerate(value))


def _convert_enum(hint: type[Enum], value: object, path: str) -> Enum:
    try:
        return hint(value)
    except ValueError as problem:
        words = ", ".join(str(member.value) for member in hint)
        raise Mismatch(f"{path}: expected one of {words}; found {value!r}") from problem


def _convert_scalar(hint: type, value: object, path: str) -> Any:
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, hint) and not (isinstance(value, bool) and hint is not bool):
        return value
    raise Mismatch(f"{path}: expected {_WORDS.get(hint, hint.__name__)}, found {_named(value)}")


_WORDS: dict[type, str] = {str: "text", int: "a whole number", float: "a number", bool: "true or false"}


def _named(value: object) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, (Mapping, list)):
        return "a list" if isinstance(value, list) else "keys and values"
    return f"{value!r}"

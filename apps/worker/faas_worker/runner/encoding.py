"""JSON of what the plain encoder refuses, in the forms that FastAPI's `jsonable_encoder` gives.

FastAPI's own is not used: it builds the whole value before anybody can measure it, so a generator
without end takes all memory; it doesn't tell where it failed; and importing it costs a worker 0.3 s
and 20 MiB.
"""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import ipaddress
import json
import pathlib
import re
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from math import isfinite
from types import GeneratorType
from typing import Any

from .failures import cut, type_name

MAX_DEPTH = 1000
_PIECE_VALUES, _PIECE_CHARS = 500, 64 * 1024
# From this length on a list or dict may be plain though what it lies in is not, which is faster.
_TRIED_LENGTH = 100
# An enum's value may be a date; a conversion may also give back what it was given, for ever.
_MAX_CONVERSIONS = 8
_MAX_PAIRS = 4_000_000
# A larger exponent has more digits than Python turns into text.
_MAX_EXPONENT = 4300
_ARRAY_CHUNK = 4096
_PATH_CHARS = 500
# Types of packages that this worker doesn't import, which are encoded as their text.
_PYDANTIC_TEXTS = {
    *("SecretStr", "SecretBytes", "NameEmail", "Color"),
    *("AnyUrl", "Url", "MultiHostUrl", "_BaseUrl", "_BaseMultiHostUrl"),
}
_PANDAS_TEXTS = {"Period", "Interval"}

# ensure_ascii (the default) is what lets lone surrogates survive the way through UTF-8.
encode_plain = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode
_quote = json.encoder.encode_basestring_ascii  # type: ignore[attr-defined]


class NoJsonForm(Exception):  # noqa: N818 - named for what it says
    """A value inside the result has no JSON form. `path` is empty for the result itself."""

    def __init__(self, path: str, type_name: str, reason: str) -> None:
        super().__init__(f"{path or 'it'} {reason}")
        self.path = path
        self.type = type_name


class _Unencodable(Exception):  # noqa: N818 - NoJsonForm before the path is known
    pass


@dataclasses.dataclass(slots=True)
class _Container:
    """An array or object of which the beginning has been written."""

    children: Iterator[tuple[Any, Any]]
    #: Keeps it alive, so that no other value gets its id.
    original: Any
    is_object: bool
    #: The index or the key of the child that is being written; None before the first.
    key: int | str | None = None


def json_pieces(value: Any) -> Iterator[str]:
    """The ASCII text of `value`, some hundred values at a time.

    Raises NoJsonForm, and whatever a generator of the handler raises when it is asked for more.
    """
    out: list[str] = []
    stack: list[_Container] = []
    ids: set[int] = set()
    chars = 0

    def write(value: Any) -> bool:
        """False when it is a container: its children come next."""
        try:
            found = _text_or_container(value)
            if isinstance(found, str):
                out.append(found)
                return True
            if id(value) in ids:
                raise _Unencodable("contains itself")
            if len(stack) >= MAX_DEPTH:
                raise _Unencodable(f"is nested more than {MAX_DEPTH} deep")
        except _Unencodable as error:
            raise NoJsonForm(_path(stack), type_name(value), str(error)) from None
        out.append("{" if found.is_object else "[")
        ids.add(id(value))
        stack.append(found)
        return False

    write(value)
    while stack:
        top = stack[-1]
        separator = "" if top.key is None else ","
        for key, child in top.children:
            if top.is_object:
                top.key = key if type(key) is str else _key(key, stack)
                out.append(f"{separator}{_quote(top.key)}:")
            else:
                top.key = key
                out.append(separator)
            separator = ","
            is_whole = write(child)
            chars += len(out[-1])
            if len(out) > _PIECE_VALUES or chars > _PIECE_CHARS:
                yield "".join(out)
                out.clear()
                chars = 0
            if not is_whole:
                break
        else:
            out.append("}" if top.is_object else "]")
            ids.discard(id(top.original))
            stack.pop()
    yield "".join(out)


def _text_or_container(value: Any) -> str | _Container:
    original = value
    for _ in range(_MAX_CONVERSIONS):
        kind = type(value)
        if kind is str:
            return _quote(value)
        if value is None or kind is bool:
            return "null" if value is None else "true" if value else "false"
        if isinstance(value, enum.Enum):
            value = value.value
        elif isinstance(value, str):
            return _quote(value)
        elif isinstance(value, int):
            return _integer(value)
        elif isinstance(value, float):
            if not isfinite(value):
                raise _Unencodable(f"is {float.__repr__(value)}, which JSON can't express")
            return float.__repr__(value)
        elif kind in (list, dict) and len(value) >= _TRIED_LENGTH and (text := _plain(value)):
            return text
        elif isinstance(value, dict):
            # A copy, since generators in it and other threads may change the dict meanwhile.
            return _Container(iter(list(value.items())), original, is_object=True)
        elif isinstance(value, (list, tuple, GeneratorType)):
            return _Container(enumerate(value), original, is_object=False)
        else:
            value = _converted(value)
    raise _no_form(original)


def _plain(value: Any) -> str | None:
    try:
        return encode_plain(value)
    except (TypeError, ValueError, RecursionError):
        return None


def _integer(value: int) -> str:
    try:
        return int.__repr__(value)
    except ValueError:
        raise _Unencodable("is an integer with too many digits") from None


def _no_form(value: Any) -> _Unencodable:
    hint = "; list(...) of it has one" if hasattr(type(value), "__iter__") else ""
    return _Unencodable(f"is of type {type_name(value)}, which has no JSON form{hint}")


def _key(key: Any, stack: list[_Container]) -> str:
    """The name in JSON of a key that is not a plain string."""
    try:
        text = _text_or_container(key)
        if type(text) is str:
            return json.loads(text) if text.startswith('"') else text
        reason = f"is a key of type {type_name(key)}, which has no JSON form"
    except _Unencodable as error:
        reason = f"is a key that {error}"
    stack[-1].key = -1
    shown = cut(repr(key), 100) if type(key) in (tuple, float, int) else type_name(key)
    raise NoJsonForm(f"{_path(stack[:-1])}[{shown}]", type_name(key), reason)


def _path(stack: list[_Container]) -> str:
    """Such as `rows[1].bad`."""
    parts = []
    for container in stack:
        key = container.key
        if type(key) is str:
            parts.append(f".{key}" if key.isidentifier() else f"[{_quote(cut(key, 100))}]")
        else:
            parts.append(f"[{key}]")
    path = "".join(parts).removeprefix(".")
    return path if len(path) <= _PATH_CHARS else f"{path[:200]}…{path[-200:]}"


def _converted(value: Any) -> Any:
    """The same in types that are nearer to JSON's."""
    try:
        for types, convert in _CONVERSIONS:
            if isinstance(value, types):
                return convert(value)
        kind = type(value)
        if hasattr(kind, "model_dump"):
            return value.model_dump(mode="json", by_alias=True)
        if dataclasses.is_dataclass(kind):
            return {field.name: getattr(value, field.name) for field in dataclasses.fields(kind)}
        if hasattr(kind, "itertuples") and hasattr(value, "columns"):
            return _rows(value)
        if hasattr(kind, "tolist") and hasattr(value, "dtype"):
            return _array(value)
        for base in kind.__mro__:
            package, name = base.__module__.partition(".")[0], base.__name__
            if name in ("NAType", "PydanticUndefinedType"):
                return None
            if package == "pandas" and name in _PANDAS_TEXTS:
                return str(value)
            if package.startswith("pydantic") and name in _PYDANTIC_TEXTS:
                return str(value)
        return _members(value)
    except (MemoryError, _Unencodable):
        raise
    except Exception as error:
        message = f"{type_name(error)}: {error}"
        raise _Unencodable(f"could not be encoded: {cut(message, 500)}") from None


def _decimal(value: decimal.Decimal) -> int | float:
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int) or exponent < 0:
        return float(value)
    if exponent > _MAX_EXPONENT:
        raise _Unencodable("is an integer with too many digits")
    return int(value)


# The NaT of pandas belongs to all of these types, and differs from itself.
_CONVERSIONS: list[tuple[Any, Callable[[Any], Any]]] = [
    (pathlib.PurePath, str),
    ((set, frozenset, deque), list),
    (bytes, bytes.decode),
    ((datetime.date, datetime.time), lambda v: v.isoformat() if v == v else None),
    (datetime.timedelta, lambda v: v.total_seconds() if v == v else None),
    (decimal.Decimal, _decimal),
    (uuid.UUID, str),
    ((ipaddress.IPv4Address, ipaddress.IPv4Network), str),
    ((ipaddress.IPv6Address, ipaddress.IPv6Network), str),
    (re.Pattern, lambda v: v.pattern),
]


def _array(value: Any) -> Any:
    """Scalars, arrays and columns of numpy, and of packages that resemble it."""
    kind = getattr(value.dtype, "kind", "")
    if getattr(value, "ndim", 1) == 0:
        plain = value.tolist()
        if kind == "M" and isinstance(plain, int):
            return str(value)  # Its unit is too small for a datetime.
        if kind == "m" and isinstance(plain, int):
            return float(value / type(value)(1, "s"))
        return float(value) if type(plain) is type(value) else plain
    if not hasattr(type(value), "__array_interface__"):
        return value.tolist()
    # Piece by piece, for a list takes several times the array's memory.
    count = len(value)
    step = max(_ARRAY_CHUNK * count // max(value.size, 1), 1)
    chunks = (value[start : start + step] for start in range(0, count, step))
    return _flat(chunks if kind in "mM" else (chunk.tolist() for chunk in chunks))


def _flat(chunks: Iterable[Iterable[Any]]) -> Iterator[Any]:
    yield from chain.from_iterable(chunks)


def _rows(frame: Any) -> Iterator[dict[Any, Any]]:
    """One object for each row of a table."""
    names = list(frame.columns)
    for row in frame.itertuples(index=False, name=None):
        yield dict(zip(names, row, strict=True))


def _members(value: Any) -> dict[Any, Any]:
    """What `dict(value)` gives, or else its attributes."""
    try:
        if hasattr(value, "keys"):
            return {key: value[key] for key in value.keys()}  # noqa: SIM118 - it is no dict
        return _pairs(value)
    except (MemoryError, _Unencodable):
        raise
    except Exception:
        if not hasattr(value, "__dict__"):
            raise _no_form(value) from None
    # SQLAlchemy keeps its own state under these names.
    return {name: member for name, member in vars(value).items() if not name.startswith("_sa")}


def _pairs(value: Iterable[Any]) -> dict[Any, Any]:
    found = {}
    for count, (key, member) in enumerate(value):
        if count >= _MAX_PAIRS:
            raise _Unencodable(f"has more than {_MAX_PAIRS} members")
        found[key] = member
    return found

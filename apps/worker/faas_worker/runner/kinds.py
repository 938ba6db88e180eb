"""What a handler is called with: said by its setting, or found by its signature."""

from __future__ import annotations

import inspect
from typing import Any

from ..protocol import AUTO, Kind

_ASGI, _WSGI = ("scope", "receive", "send"), ("environ", "start_response")
_ARGUMENTS = {
    Kind.PAYLOAD: ("payload",),
    Kind.CONTEXT: ("payload", "context"),
    Kind.ASGI: _ASGI,
    Kind.WSGI: _WSGI,
    Kind.LAMBDA: ("event", "context"),
    Kind.OPENFAAS: ("event", "context"),
    Kind.FUNCTIONS_FRAMEWORK: ("request",),
    Kind.KNATIVE: (),
}


class Uncallable(Exception):  # noqa: N818 - named for what it says
    """It can't be called as its kind is."""


def kind_of(function: Any, name: str, asked: str = AUTO) -> Kind:
    """Raises Uncallable, and whatever the handler's own objects raise when they are looked at."""
    if not callable(function):
        raise Uncallable(f"{name} is not callable: it is a {type(function).__name__}")
    named = None if asked == AUTO else Kind(asked)
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return named or Kind.PAYLOAD  # Many callables written in C don't tell their signature.
    if named is not None:
        problem = _problem(signature, named)
        if problem is None:
            return named
        arguments = ", ".join(_ARGUMENTS[named])
        raise Uncallable(
            f"{name}{signature} can't be called with ({arguments}), as handler_kind {named} is: "
            f"{problem}"
        )
    required = _required(signature)
    if required == _WSGI:
        return Kind.WSGI
    if required == _ASGI or (len(required) == len(_ASGI) and _is_async_object(function)):
        return Kind.ASGI
    problem = _problem(signature, Kind.PAYLOAD)
    if problem is None:
        return Kind.PAYLOAD
    if _problem(signature, Kind.CONTEXT) is None:
        return Kind.CONTEXT
    raise Uncallable(f"{name}{signature} can't be called with one positional argument: {problem}")


def is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or _is_async_object(function)


def _is_async_object(function: Any) -> bool:
    return inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - not a test of callability
    )


def _problem(signature: inspect.Signature, kind: Kind) -> str | None:
    try:
        signature.bind(*_ARGUMENTS[kind])
    except TypeError as error:
        return str(error)
    return None


def _required(signature: inspect.Signature) -> tuple[str, ...]:
    positional = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
    )
    return tuple(
        parameter.name
        for parameter in signature.parameters.values()
        if parameter.kind in positional and parameter.default is inspect.Parameter.empty
    )

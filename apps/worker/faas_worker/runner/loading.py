"""Imports the handler and finds out what it can be called with."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import json
import os
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from types import CodeType, ModuleType
from typing import Any

from ..protocol import AUTO, Kind
from .failures import MESSAGE_CHARS, TRACEBACK_CHARS, Failure, cut, describe
from .kinds import Uncallable, is_async, kind_of
from .platforms import flask_application, knative_application

# What one message to the supervisor may hold.
REPORT_BYTES = 60_000
_MAX_NAMES = 20
# Fields of a report that are there though they are empty.
_ALWAYS = {"type", "message", "traceback", "line"}
_NAME_CHARS = 100
# A coding cookie (PEP 263), in the first line or in the second.
_COOKIE_BYTES = 64 * 1024
_COOKIE = re.compile(rb"[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)")

_TOO_COMPLEX = (
    "Python ran out of stack or memory while it compiled the file: an expression is nested too "
    "deeply or too long. Split it up, or read large data from a string, with json.loads."
)
_EXITED = (
    "Importing the file must not end the process: put what only a script does below "
    'if __name__ == "__main__".'
)
_MISSING_PACKAGE = (
    "It is neither part of Python nor installed where workers run. Whoever runs this service can "
    "add packages to the workers' image (WORKER_IMAGE) or, where workers are processes, to their "
    "Python (WORKER_PYTHON). Modules of your own must be in this one file."
)


class HandlerNotLoadable(Exception):  # noqa: N818 - named for what happened
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Handler:
    call: Callable[..., Any]
    is_async: bool
    file: str | None
    kind: Kind


def load_handler(path: str, app_dir: str, code: bytes | None = None, kind: str = AUTO) -> Handler:
    """`code`: the file's content, when it is not to be read from where it lies."""
    module_name, _, name = path.rpartition(".")
    if not module_name or not all(part.isidentifier() for part in path.split(".")):
        message = f"HANDLER_FUNCTION must look like package.module.function, not {cut(path, 200)!r}"
        raise HandlerNotLoadable(Failure("ValueError", message, ""))
    source = os.path.join(os.path.abspath(app_dir), *module_name.split(".")) + ".py"
    sys.path.insert(0, os.path.abspath(app_dir))
    if code is not None:
        sys.meta_path.insert(0, _GivenFinder(_GivenFile(module_name, source, code)))
    try:
        module = importlib.import_module(module_name)
    except BaseException as error:
        raise HandlerNotLoadable(_import_failure(error, source, code)) from None
    try:
        function = _defined(module, name)
        file = getattr(module, "__file__", None)
        found = kind_of(function, name, kind)
        if found is Kind.KNATIVE:
            function, found = knative_application(function), Kind.ASGI
        elif found is Kind.FUNCTIONS_FRAMEWORK:
            function, found = flask_application(function, name), Kind.WSGI
        on_loop = found is Kind.ASGI or (found is not Kind.WSGI and is_async(function))
    except Uncallable as error:
        raise HandlerNotLoadable(Failure("TypeError", str(error), "")) from None
    except _NotDefined as error:
        raise HandlerNotLoadable(_absence(module, name, str(error))) from None
    except BaseException as error:
        raise HandlerNotLoadable(describe(error, source)) from None
    return Handler(function, on_loop, file if type(file) is str else None, found)


def _defined(module: Any, name: str) -> Any:
    """What the file defines: every module has callables of its own, such as __init__."""
    if isinstance(module, ModuleType) and not {name, "__getattr__"} & vars(module).keys():
        raise _NotDefined(f"module {module.__name__!r} has no attribute {name!r}")
    return getattr(module, name)


class _NotDefined(Exception):  # noqa: N818 - named for what it says
    pass


def _absence(module: ModuleType, name: str, message: str) -> Failure:
    """The file was loaded, and has no such name."""
    found = sorted(filter(_is_of_the_user, vars(module).items()))
    own = [name for name, value in found if getattr(value, "__module__", None) == module.__name__]
    names = [cut(name, _NAME_CHARS) for name in own or [name for name, _ in found]]
    import difflib  # Few workers ever need it.

    similar = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    available = tuple(names[:_MAX_NAMES])
    advice = f"Did you mean {similar[0]!r}? " if similar else ""
    advice += f"The file has {', '.join(available)}." if names else "The file has no callable."
    return Failure("AttributeError", message, "", advice=advice, available=available)


def _is_of_the_user(item: tuple[str, Any]) -> bool:
    name, value = item
    with suppress(BaseException):
        return callable(value) and not name.startswith("_")
    return False


def _import_failure(error: BaseException, source: str, code: bytes | None) -> Failure:
    if type(error) is SyntaxError and not error.lineno and error.filename in (None, source):
        with suppress(OSError):
            error.lineno = _line_of_encoding(_content(source) if code is None else code)
    failure = describe(error, source)
    if isinstance(error, (MemoryError, RecursionError)) and failure.line is None:
        return replace(failure, advice=_TOO_COMPLEX)
    if isinstance(error, SystemExit):
        return replace(failure, advice=_EXITED)
    if isinstance(error, ModuleNotFoundError) and _is_missing_package(error.name):
        return replace(failure, advice=_MISSING_PACKAGE)
    return failure


def _is_missing_package(name: object) -> bool:
    if type(name) is not str:
        return False
    with suppress(BaseException):
        return importlib.util.find_spec(name.partition(".")[0]) is None
    return True


def _content(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


def _line_of_encoding(code: bytes) -> int | None:
    """The line of a cookie that names no encoding, or of what is not in the encoding it names;
    Python tells neither."""
    for number, line in enumerate(code[:_COOKIE_BYTES].splitlines()[:2], start=1):
        found = _COOKIE.match(line.removeprefix(b"\xef\xbb\xbf"))
        if found is None:
            continue
        try:
            code.decode(found[1].decode("ascii"))
        except UnicodeDecodeError as error:
            return len(code[: error.start + 1].splitlines())
        except LookupError:
            pass
        return number
    return None


class _GivenFile(importlib.machinery.SourceFileLoader):
    """Loads what it was given as if it had read it from its path."""

    def __init__(self, name: str, path: str, code: bytes) -> None:
        super().__init__(name, path)
        self._code = code

    def get_data(self, path: str) -> bytes:
        return self._code if path == self.path else super().get_data(path)

    def get_code(self, fullname: str) -> CodeType:
        # Not by way of a compiled file, which the handler may have left beside its path.
        return self.source_to_code(self._code, self.path)


class _GivenFinder:
    """Finds that file, and the folders it is in whatever the handler has done to them."""

    def __init__(self, loader: _GivenFile) -> None:
        self._loader = loader

    def find_spec(
        self, name: str, path: object = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        loader = self._loader
        if name == loader.name:
            return importlib.util.spec_from_file_location(name, loader.path, loader=loader)
        if not loader.name.startswith(f"{name}."):
            return None
        folder = loader.path
        for _ in range(loader.name.count(".") - name.count(".")):
            folder = os.path.dirname(folder)
        spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
        spec.submodule_search_locations = [folder]
        return spec


def report_line(failure: Failure) -> bytes:
    """One line of JSON that fits one message, whatever escapes its text needs."""
    message_limit, traceback_limit = MESSAGE_CHARS, TRACEBACK_CHARS
    while True:
        shorter = replace(
            failure,
            message=cut(failure.message, message_limit),
            traceback=failure.traceback[-traceback_limit:],
            stderr=failure.stderr[-message_limit:],
            advice=cut(failure.advice, message_limit),
        )
        fields = {
            name: value for name, value in asdict(shorter).items() if value or name in _ALWAYS
        }
        line = json.dumps({"faas": "handler_not_loadable", **fields}).encode()
        if len(line) <= REPORT_BYTES:
            return line
        message_limit, traceback_limit = message_limit // 2, traceback_limit // 2


def failure_in(report: bytes | None) -> Failure | None:
    """What a runner has said with `report_line`; or what handler code has said in its place, so
    only what can be part of a failure is taken."""
    try:
        fields = json.loads(report or b"")
        kind, message, trace = (str(fields[name]) for name in ("type", "message", "traceback"))
        line = fields["line"]
        advice = str(fields.get("advice", ""))
        names = [cut(str(name), _NAME_CHARS) for name in fields.get("available", ())[:_MAX_NAMES]]
    except Exception:
        return None
    line = line if type(line) is int else None
    return Failure(cut(kind, 200), message, trace, line, cut(advice, 4096), tuple(names))

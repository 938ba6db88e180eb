"""Imports the handler and checks that it can be called with one argument."""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from types import CodeType, ModuleType
from typing import Any

from .failures import MESSAGE_CHARS, TRACEBACK_CHARS, Failure, cut, describe

# What one message to the supervisor may hold.
REPORT_BYTES = 60_000


class HandlerNotLoadable(Exception):  # noqa: N818 - named for what happened
    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.message)
        self.failure = failure


@dataclass(frozen=True, slots=True)
class Handler:
    call: Callable[[Any], Any]
    is_async: bool
    file: str | None


def load_handler(path: str, app_dir: str, code: bytes | None = None) -> Handler:
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
        function = _defined(module, name)
        file = getattr(module, "__file__", None)
        problem = _problem(function, name)
        is_async = _is_async(function)
    except BaseException as error:
        raise HandlerNotLoadable(describe(error, source)) from None
    if problem is not None:
        raise HandlerNotLoadable(Failure("TypeError", problem, ""))
    return Handler(function, is_async, file if type(file) is str else None)


def _defined(module: Any, name: str) -> Any:
    """What the file defines: every module has callables of its own, such as __init__."""
    if isinstance(module, ModuleType) and not {name, "__getattr__"} & vars(module).keys():
        raise AttributeError(f"module {module.__name__!r} has no attribute {name!r}")
    return getattr(module, name)


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


def _problem(function: Any, name: str) -> str | None:
    if not callable(function):
        return f"{name} is not callable: it is a {type(function).__name__}"
    try:
        signature = inspect.signature(function)
    except (ValueError, TypeError):
        return None  # Many callables written in C don't tell their signature.
    try:
        signature.bind("payload")
    except TypeError as error:
        return f"{name}{signature} can't be called with one positional argument: {error}"
    return None


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - not a test of callability
    )


def report_line(failure: Failure) -> bytes:
    """One line of JSON that fits one message, whatever escapes its text needs."""
    message_limit, traceback_limit = MESSAGE_CHARS, TRACEBACK_CHARS
    while True:
        fields = asdict(failure)
        fields["message"] = cut(failure.message, message_limit)
        fields["traceback"] = failure.traceback[-traceback_limit:]
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
    except Exception:
        return None
    return Failure(cut(kind, 200), message, trace, line if type(line) is int else None)

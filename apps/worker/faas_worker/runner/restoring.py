"""Puts back what a call has taken away from the interpreter that all calls of a runner share.

Everything used here is bound at import: any of it may be what was taken away.
"""

from __future__ import annotations

import asyncio
import builtins
import json
import os
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from fcntl import F_DUPFD_CLOEXEC, fcntl
from functools import partial
from operator import itemgetter
from os import dup2, get_inheritable
from sys import getprofile, getrecursionlimit, gettrace, setprofile, setrecursionlimit, settrace
from types import ModuleType

_Anything = BaseException
_GONE = object()
_callable, _issubclass, _type = callable, issubclass, type
# Looked at after every call, at a few nanoseconds a name.
_COMMON = (builtins, sys, time, json, threading)
_COMMON_OF = {
    os: "_exit chdir close dup2 environ execv fork fsdecode fsencode fspath getcwd getenv getpid "
    "getppid kill listdir makedirs mkdir open path pipe read remove rename scandir stat urandom "
    "waitpid write",
    asyncio: "CancelledError Event Future Lock Queue Semaphore Task create_task current_task "
    "ensure_future gather get_event_loop get_running_loop run sleep timeout wait wait_for",
}
# Looked at now and then, with their classes: what answers are made with. Not all there is, for
# looking at a value makes the page it is on the runner's own.
_STACK = ("asyncio", "contextvars", "faas_worker", "gc", "json", "queue", "signal", "threading")
_SERVER = ("uvicorn.protocols.http", "uvicorn.server")
# Programs do replace these and call what was there; the other functions and types nobody does.
_REPLACEABLE = frozenset({"print", "open", "input", "breakpoint", "__import__"})

Names = Mapping[str, object]


class _Kept:
    """The names of one module or class, as they were when no call had run."""

    def __init__(
        self, names: Names, put: Callable[[str, object], None], only: str | None = None
    ) -> None:
        self.names = names
        self._put = put
        self._fixed = names is vars(builtins)
        self._originals = dict(names)
        self._look: Callable[[], object] = (
            partial(tuple, names.values()) if only is None else partial(_several(only), names)
        )
        self._seen = self._look()
        self.repairs = 0

    def check(self) -> None:
        try:
            if self._look() == self._seen:
                return
        except _Anything:  # a name is gone, or has a value whose comparison is the handler's own
            pass
        self.repair()

    def repair(self) -> None:
        names, originals = self.names, self._originals
        for name, original in originals.items():
            current = names.get(name, _GONE)
            if current is original:
                continue
            replaced = self._fixed and _callable(original) and name not in _REPLACEABLE
            if replaced or _is_lost(current, original):
                self._put(name, original)
                self.repairs += 1
            else:
                # Patched, not broken: what is there now is as good as what was there before.
                originals[name] = current
        self._seen = self._look()


def _several(names: str) -> Callable[[Names], tuple[object, ...]]:
    return itemgetter(*names.split())


def _is_lost(current: object, original: object) -> bool:
    if current is _GONE:
        return True
    if original is None:
        return False
    if current is None or (_callable(original) and not _callable(current)):
        return True
    return _issubclass(_type(original), _type) and not _issubclass(_type(current), _type)


class SharedNames:
    def __init__(self) -> None:
        self._common = [_of_module(module) for module in _COMMON]
        self._common += [_of_module(module, only) for module, only in _COMMON_OF.items()]
        self._common.append(_of_class(threading.Thread))
        modules = {name: sys.modules[name] for name in [*sys.modules] if _is_of_stack(name)}
        self._others = [_of_module(modules[name]) for name in modules.keys() - _names_of(_COMMON)]
        self._others += map(_of_class, _classes(modules))
        self._recursion_limit = 0

    def handler_is_loaded(self) -> None:
        """What its file has patched stays, what it broke does not."""
        self.put_back()
        self._recursion_limit = getrecursionlimit()

    def put_back(self) -> None:
        if getrecursionlimit() < self._recursion_limit:
            setrecursionlimit(self._recursion_limit)
        for kept in self._common:
            kept.check()

    def put_back_all(self) -> None:
        self.put_back()
        for kept in self._others:
            kept.check()

    def repairs(self) -> int:
        """How many names were put back, ever."""
        return sum(kept.repairs for kept in (*self._common, *self._others))


class Streams:
    """stdin, stdout and stderr: `open(0).read()` closes the first, and what is opened next gets
    its number."""

    def __init__(self) -> None:
        self._copies = {fd: fcntl(fd, F_DUPFD_CLOEXEC, 3) for fd in (0, 1, 2)}

    def put_back(self) -> None:
        for fd, copy in self._copies.items():
            try:
                # Unlike fcntl it keeps the interpreter's lock, for which threads would take turns.
                get_inheritable(fd)
            except _Anything:
                with suppress(_Anything):  # the copy may be closed too: then the runner is unfit
                    dup2(copy, fd)


def end_tracing() -> None:
    """Of this thread, which serves other calls next."""
    if gettrace() is not None or getprofile() is not None:
        settrace(None)
        setprofile(None)


def _of_module(module: ModuleType, only: str | None = None) -> _Kept:
    names = vars(module)
    return _Kept(names, names.__setitem__, only)


def _of_class(found: type) -> _Kept:
    return _Kept(vars(found), partial(type.__setattr__, found))


def _is_of_stack(name: str) -> bool:
    return name.partition(".")[0] in _STACK or name.startswith(_SERVER)


def _names_of(modules: Iterable[ModuleType]) -> set[str]:
    return {module.__name__ for module in modules}


def _classes(modules: Mapping[str, ModuleType]) -> Iterator[type]:
    for name, module in modules.items():
        for found in [*vars(module).values()]:
            if isinstance(found, type) and found.__module__ == name:
                yield found

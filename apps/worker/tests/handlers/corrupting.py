"""Breaks what it shares with its runner; "good" needs most of it."""

from __future__ import annotations

import asyncio
import builtins
import ctypes
import gc
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import Any


def good() -> str:
    print("fine")
    deadline = time.monotonic() + 1
    words = json.loads(json.dumps(["go", "od"]))
    thread = threading.Thread(target=words.sort, kwargs={"reverse": False})
    thread.start()
    thread.join()
    assert len(words) == 2
    assert isinstance(words, list)
    assert os.getpid() > 0
    assert time.monotonic() < deadline
    assert os.environ["PATH"]
    assert sys.stdout is not None
    gc.collect()
    return "".join(words[::-1]) if words[0] == "od" else "".join(words)


def owner_of(path: str) -> tuple[Any, str]:
    """`module=name` or `module=Class.name`"""
    module, _, names = path.partition("=")
    *parents, name = names.split(".")
    owner: Any = importlib.import_module(module)
    for parent in parents:
        owner = getattr(owner, parent)
    return owner, name


def raise_always(*_: object) -> None:
    raise RuntimeError("traced")


def close_listener() -> None:
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            found = socket.socket(fileno=os.dup(fd))
        except OSError:
            continue
        with found:
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                os.close(fd)


def lower(limit: int) -> None:
    resource.setrlimit(limit, (1, resource.getrlimit(limit)[1]))


def replace_builtins() -> None:
    for name in ("len", "isinstance", "type", "str", "getattr"):
        setattr(builtins, name, lambda *_: 0)


def raise_in_other_threads(error: type[BaseException]) -> None:
    for thread in sys._current_frames().keys() - {threading.get_ident()}:
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(error))


def leave_timers() -> None:
    for timer in TIMERS:
        signal.setitimer(timer, 0.02)


def default_alarm() -> None:
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.setitimer(signal.ITIMER_REAL, 0.01)
    time.sleep(0.05)


def timers_run() -> bool:
    # The clock of two of them stands still while the process waits.
    return any(signal.getitimer(timer)[0] for timer in TIMERS)


TIMERS = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
TRICKS: dict[str, Callable[[], object]] = {
    "recursion limit": lambda: sys.setrecursionlimit(30),
    "trace": lambda: sys.settrace(raise_always),
    "profile": lambda: sys.setprofile(raise_always),
    "close listener": close_listener,
    "no more files": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0)),
    "little address space": lambda: lower(resource.RLIMIT_AS),
    "no address space": lambda: resource.setrlimit(resource.RLIMIT_AS, (1, 1)),
    "no stack": lambda: resource.setrlimit(resource.RLIMIT_STACK, (4096, 4096)),
    "no processes": lambda: lower(resource.RLIMIT_NPROC),
    "close streams": lambda: os.closerange(0, 3),
    "builtins": replace_builtins,
    "clear builtins": lambda: vars(builtins).clear(),
    "clear time": lambda: vars(time).clear(),
    "SystemExit in other threads": lambda: raise_in_other_threads(SystemExit),
    "ValueError in other threads": lambda: raise_in_other_threads(ValueError),
    "timers": leave_timers,
    "default alarm": default_alarm,
    "sleep": lambda: time.sleep(0.5),
}


def break_later(damage: Callable[[], None]) -> None:
    time.sleep(LATER_SECONDS)
    damage()
    time.sleep(LATER_SECONDS)


async def break_later_on_loop(damage: Callable[[], None]) -> None:
    await asyncio.sleep(LATER_SECONDS)
    damage()
    await asyncio.sleep(LATER_SECONDS)


def leave_behind(damage: Callable[[], None]) -> None:
    try:
        LEFT_BEHIND.append(asyncio.get_running_loop().create_task(break_later_on_loop(damage)))
    except RuntimeError:
        threading.Thread(target=break_later, args=(damage,), daemon=True).start()


def leave_patch_timer() -> None:
    def patch() -> None:
        setattr(*owner_of("faas_worker.runner.app=respond"), raise_always)

    asyncio.get_running_loop().call_later(LATER_SECONDS, patch)


LATER_SECONDS = 0.8
LEFT_BEHIND: list[asyncio.Task[None]] = []


def handle(payload: str) -> Any:
    trick, _, argument = payload.partition(":")
    if trick == "good":
        return good()
    if trick == "patch later":
        leave_patch_timer()
        return "done"
    if trick == "later":
        leave_behind(lambda: setattr(*owner_of(argument), None))
        return "done"
    if trick == "set to None":
        setattr(*owner_of(argument), None)
    elif trick == "delete":
        delattr(*owner_of(argument))
    elif trick == "timers run":
        return timers_run()
    elif trick == "patch":
        owner, name = owner_of(argument)
        original = getattr(owner, name)
        setattr(owner, name, lambda *args, **kwargs: original(*args, **kwargs))
        return "patched"
    elif trick == "is patched":
        return getattr(*owner_of(argument)).__module__ == __name__
    else:
        TRICKS[trick]()
    return "done"


async def handle_async(payload: str) -> Any:
    if payload == "good":
        await asyncio.sleep(0)
    return handle(payload)

"""What a handler shouldn't do, by name; anything else comes back as it went in."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import functools
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any


class StrangeError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")

    __repr__ = __str__


class NumberError(Exception):
    def __str__(self) -> Any:
        return 42


class HugeError(Exception):
    def __str__(self) -> str:
        letter: str = self.args[0]
        return letter * 50_000_000


def spin() -> None:
    while True:
        pass


def group_of_errors() -> None:
    raise ExceptionGroup("several", [ValueError("one"), ExceptionGroup("in", [KeyError("two")])])


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def recurse_without_limit() -> int:
    sys.setrecursionlimit(10**9)
    return len(repr(functools.reduce(lambda inner, _: [inner], range(10**6), [])))


def cycle() -> list[Any]:
    found: list[Any] = []
    found.append(found)
    return found


def deep() -> list[Any]:
    return functools.reduce(lambda inner, _: [inner], range(100_000), [])


KEPT: list[bytearray] = []


def keep_memory() -> int:
    while True:
        KEPT.append(bytearray(2**20))


def take_memory() -> int:
    taken = []
    while True:
        taken.append(bytearray(16 * 1024 * 1024))


def fork_bomb() -> None:
    while True:
        os.fork()


def fork_for_ever() -> None:
    while True:
        with contextlib.suppress(OSError):
            os.fork()


def fork_away_for_ever() -> None:
    """Out of every group and session."""
    while True:
        with contextlib.suppress(OSError):
            if os.fork() == 0:
                os.setsid()


def fork_and_leave() -> str:
    """Returns when there can be no more; its children go on."""
    try:
        while True:
            if os.fork() == 0:
                fork_for_ever()
    except OSError:
        return "left"


def leave_session() -> str:
    if os.fork() == 0:
        os.setsid()
        time.sleep(3600)
    return "left"


def limit_the_first_process() -> list[str]:
    """How each try has ended; the last one is a program's."""
    program = "import resource; resource.prlimit(1, resource.RLIMIT_NOFILE, (3, 3))"
    tries: list[Callable[[], object]] = [
        lambda: resource.prlimit(1, resource.RLIMIT_NPROC, (0, 0)),
        lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
        lambda: os.setpriority(os.PRIO_USER, 0, 19),
        lambda: os.sched_setaffinity(1, {0}),
        lambda: os.sched_setscheduler(1, os.SCHED_IDLE, os.sched_param(0)),
        lambda: subprocess.run([sys.executable, "-c", program], check=True, capture_output=True),
    ]
    ends = []
    for attempt in tries:
        try:
            attempt()
            ends.append("done")
        except (OSError, subprocess.CalledProcessError) as error:
            ends.append(type(error).__name__)
    # What is its own it may set.
    os.setpriority(os.PRIO_PROCESS, 0, 19)
    os.sched_setaffinity(0, os.sched_getaffinity(0))
    resource.prlimit(os.getpid(), resource.RLIMIT_CORE, (0, 0))
    return ends


def leave_fork() -> str:
    if os.fork() == 0:
        fork_for_ever()
    return "left"


def leave_daemon() -> str:
    if pid := os.fork():
        os.waitpid(pid, 0)
        return "left"
    os.setsid()
    if os.fork() == 0:
        time.sleep(3600)
    os._exit(0)


def fork_and_return() -> int:
    return os.fork() and 1


def leave_threads() -> str:
    for _ in range(5):
        threading.Thread(target=time.sleep, args=(3600,)).start()
    return "left"


def thread_bomb() -> str:
    while True:
        with contextlib.suppress(RuntimeError):
            threading.Thread(target=time.sleep, args=(3600,), daemon=True).start()


def leave_processes() -> list[int]:
    command = [sys.executable, "-c", "import time; time.sleep(3600)"]
    return [
        subprocess.Popen(command).pid,
        subprocess.Popen(command, start_new_session=True).pid,
    ]


def close_descriptors() -> str:
    os.closerange(0, 4096)
    return "closed"


def own_sockets() -> list[socket.socket]:
    found = []
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(socket.socket(fileno=os.dup(int(fd))))
    return found


def shut_listener_down() -> str:
    for found in own_sockets():
        if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            found.shutdown(socket.SHUT_RDWR)
    return "shut"


def flood_supervisor() -> str:
    for found in own_sockets():
        if found.type == socket.SOCK_SEQPACKET:
            found.setblocking(False)
            for _ in range(20_000):
                with contextlib.suppress(BlockingIOError):
                    found.send(b"stuck" + b"\xff" * 10_000)
    return "flooded"


def kill_all_of_its_user() -> None:
    assert os.getuid() > 60_000
    os.kill(-1, signal.SIGKILL)


def print_much() -> str:
    line = "x" * 99
    for _ in range(500_000):
        print(line)
    return "printed"


def print_strangely() -> str:
    print("lone \ud800, nul \0", end="")
    sys.stdout.buffer.write(b"bytes \xff\n")
    return "printed"


SYNC: dict[str, Callable[[], Any]] = {
    "spin": spin,
    "exit": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "kill": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "stop": lambda: os.kill(os.getpid(), signal.SIGSTOP),
    "terminate parent": lambda: os.kill(os.getppid(), signal.SIGTERM),
    "kill parent": lambda: os.kill(os.getppid(), signal.SIGKILL),
    "kill all of its user": kill_all_of_its_user,
    "look into parent": lambda: os.open(f"/proc/{os.getppid()}/mem", os.O_RDWR),
    "hold the gil": lambda: 7 ** (10**8),
    "sys.exit": lambda: sys.exit(4),
    "strange error": lambda: (_ for _ in ()).throw(StrangeError()),
    "number error": lambda: (_ for _ in ()).throw(NumberError()),
    "keyboard interrupt": lambda: (_ for _ in ()).throw(KeyboardInterrupt()),
    "generator exit": lambda: (_ for _ in ()).throw(GeneratorExit()),
    "cancelled": lambda: (_ for _ in ()).throw(asyncio.CancelledError()),
    "group": group_of_errors,
    "recurse": recurse,
    "recurse without limit": recurse_without_limit,
    "nan": lambda: float("nan"),
    "cycle": cycle,
    "deep": deep,
    "object": object,
    "tuple key": lambda: {(1, 2): 3},
    "large": lambda: "x" * 2_000_000,
    "memory": take_memory,
    "keep memory": keep_memory,
    "two megabytes": lambda: len(bytearray(2**21)),
    "fork bomb": fork_bomb,
    "fork bomb and wait": fork_for_ever,
    "fork away": fork_away_for_ever,
    "fork and leave": fork_and_leave,
    "leave a fork": leave_fork,
    "daemon": leave_daemon,
    "leave a session": leave_session,
    "fork": fork_and_return,
    "threads": leave_threads,
    "thread bomb": thread_bomb,
    "processes": leave_processes,
    "close descriptors": close_descriptors,
    "shut listener down": shut_listener_down,
    "flood": flood_supervisor,
    "input": input,
    "print much": print_much,
    "print strangely": print_strangely,
    "limit the first process": limit_the_first_process,
    "pid": os.getpid,
    "users": os.getresuid,
}


def handle(payload: str) -> Any:
    name, _, argument = payload.partition(":")
    if name == "sleep":
        time.sleep(float(argument))
        return payload
    if name == "wait for":
        Path(argument + ".reached").touch()
        while not Path(argument).exists():
            time.sleep(0.005)
        Path(argument + ".left").touch()
        return payload
    if name == "print":
        print(argument)
        return payload
    if name == "huge error":
        raise HugeError(argument)
    if name == "signal 1":
        os.kill(1, int(argument))
        return None
    if name == "signal self":
        os.kill(os.getpid(), int(argument))
        return None
    if name == "awaitable":
        return handle_async(argument)
    return SYNC[name]() if name in SYNC else payload


async def cancel_self() -> str:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(1)
    return "not cancelled"


async def refuse_cancelling() -> None:
    while True:
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(3600)


async def stop_loop() -> str:
    async def leave() -> None:
        sys.exit(5)

    asyncio.get_running_loop().stop()
    task = asyncio.get_running_loop().create_task(leave())
    await asyncio.wait([task])
    return "still here"


async def fork_and_wait() -> int:
    pid = os.fork()
    await asyncio.sleep(0.2)
    return pid and 1


async def leave_spinning() -> str:
    async def spin_on() -> None:
        spin()

    KEPT.append(asyncio.get_running_loop().create_task(spin_on()))
    return "good"


async def spin_later() -> str:
    asyncio.get_running_loop().call_later(0.05, spin)
    return "good"


KEPT: list[asyncio.Task[None]] = []
ASYNC: dict[str, Callable[[], Any]] = {
    "cancel self": cancel_self,
    "refuse cancelling": refuse_cancelling,
    "stop loop": stop_loop,
    "fork and wait": fork_and_wait,
    "spin later": spin_later,
    "leave spinning": leave_spinning,
}


async def handle_async(payload: str) -> Any:
    name, _, argument = payload.partition(":")
    if name == "async sleep":
        await asyncio.sleep(float(argument))
        return payload
    if name == "mark when cancelled":
        try:
            await asyncio.sleep(3600)
        finally:
            Path(argument).touch()
    return await ASYNC[name]() if name in ASYNC else handle(payload)

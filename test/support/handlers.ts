/** Handlers as their authors would write them. */

export const ECHO = `def handle(payload):
    return payload
`;

export const ASYNC_ECHO = `import asyncio

async def handle(payload: str):
    await asyncio.sleep(0)
    return {"echo": payload}
`;

/** Does what it is told. */
export const OBEDIENT = `import os, time

def handle(payload):
    command, _, argument = payload.partition(" ")
    if command == "raise":
        raise ValueError(argument)
    if command == "return":
        return eval(argument)
    if command == "exit":
        os._exit(int(argument))
    if command == "sleep":
        time.sleep(float(argument))
        return "slept"
    if command == "allocate":
        return len(bytearray(int(argument) * 1024 * 1024))
    return command
`;

/** A coroutine that sleeps for as long as it is told. */
export const SLEEPY = `import asyncio

async def handle(payload):
    await asyncio.sleep(float(payload.removeprefix("sleep ")))
    return "slept"
`;

/**
 * Loads, until it has been told to end its worker: from then on loading it fails there. Files go with their process, so
 * it leaves its mark on the listening socket.
 */
export const POISONABLE = `import contextlib, os, socket

def listener():
    for fd in range(3, 64):
        with contextlib.suppress(OSError):
            found = socket.socket(fileno=os.dup(fd))
            if found.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return found

if listener().getsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY) == 3:
    raise RuntimeError("it has been poisoned")

def handle(payload):
    if payload == "poison":
        listener().setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, 3)
        os._exit(3)
    return payload
`;

/** Tells which load of the file it is, and sleeps when told how long. */
export const WITNESS = `import asyncio, uuid

ME = str(uuid.uuid4())

async def handle(payload):
    if payload == "who":
        return ME
    await asyncio.sleep(float(payload))
    return "slept"
`;

/** Breaks what its worker runs on, by name; "good" uses much of that. */
export const HOSTILE = `import asyncio, builtins, contextlib, importlib, json, os, signal, sys, threading, time

KEPT = []

def good():
    print("fine")
    words = json.loads(json.dumps(["good"]))
    thread = threading.Thread(target=words.reverse)
    thread.start()
    thread.join()
    assert len(words) == 1 and isinstance(words, list) and time.monotonic() > 0 and os.environ["PATH"]
    return words[0]

def handle(payload):
    command, _, argument = payload.partition(" ")
    if command == "good":
        return good()
    if command == "break":
        module, _, name = argument.rpartition(".")
        setattr(importlib.import_module(module), name, None)
    elif command == "close":
        os.closerange(0, 4096)
    elif command == "kill-parent":
        os.kill(os.getppid(), signal.SIGKILL)
    elif command == "recursion":
        sys.setrecursionlimit(30)
    elif command == "fork":
        while True:
            with contextlib.suppress(OSError):
                os.fork()
    elif command == "fork-memory":
        while True:
            with contextlib.suppress(OSError, MemoryError):
                if os.fork() == 0:
                    KEPT.append(b"x" * 40_000_000)
                    time.sleep(60)
    elif command == "threads":
        while True:
            with contextlib.suppress(RuntimeError):
                threading.Thread(target=time.sleep, args=(60,)).start()
    elif command == "sleepers":
        with contextlib.suppress(RuntimeError):
            for _ in range(300):
                threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
    elif command == "fork-later":
        if os.fork() == 0:
            time.sleep(float(argument))
            while True:
                with contextlib.suppress(OSError):
                    os.fork()
        time.sleep(10)
    elif command == "sleep":
        time.sleep(float(argument))
    return "done"
`;

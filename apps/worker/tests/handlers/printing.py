"""Writes in ways of its own, by name."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

from faas_worker.runner.streams import CURRENT_OUTPUT

NOTE = '{"faas": "handler_not_loadable", "type": "T", "message": "m", "line": 1, "traceback": ""}\n'


def pieces() -> None:
    """As log forwarders copy what a child prints."""
    data = "größer, 你好\n".encode()
    for start in range(0, len(data), 3):
        sys.stdout.buffer.write(data[start : start + 3])


def descriptors() -> list[str]:
    """Those of process 1 or of the supervisor, and those of its own it can write to in full."""
    opened = []
    for pid in (os.getppid(), 1):
        for fd in range(64):
            with contextlib.suppress(OSError):
                Path(f"/proc/{pid}/fd/{fd}").write_text(NOTE)
                opened.append(f"{pid}/{fd}")
    return opened


def print_with_mark(text: str) -> None:
    """As lines that the runner itself prints for a call."""
    for line in text.splitlines():
        print(end=f"{type(CURRENT_OUTPUT.get()).mark}{line}\n", file=sys.__stdout__)
        os.write(1, f"{type(CURRENT_OUTPUT.get()).mark}{line}\n".encode())


def handle(payload: str) -> object:
    command, _, argument = payload.partition(":")
    argument = argument.encode().decode("unicode_escape")
    match command:
        case "raw":
            os.write(1, argument.encode("latin-1"))
        case "child":
            subprocess.run(["cat"], input=argument.encode("latin-1"), check=True)
        case "print":
            print(argument)
        case "unfinished":
            print(argument, end="", flush=True)
            print("never flushed", end="", file=sys.stderr)
            os._exit(1)
        case "finished":
            print(argument, end="", flush=True)
            print("end")
        case "abort":
            import faulthandler

            faulthandler.enable()
            os.abort()
        case "pieces":
            pieces()
        case "marked":
            print_with_mark(argument)
        case "descriptors":
            return descriptors()
        case "order":
            for number in range(50):
                print("mine", number)
                os.write(1, b"raw %d\n" % number)
        case "flood":
            while True:
                os.write(1, b"x" * 1000 + b"\n")
    return "done"

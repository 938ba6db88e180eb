"""Tells what it may use of what the host counts, and tries to use more."""

from __future__ import annotations

import os
import resource

NAMES = ("CORE", "NOFILE", "MEMLOCK", "MSGQUEUE", "SIGPENDING")


def descriptors(most: int) -> str:
    held: list[int] = []
    try:
        while len(held) < most:
            held.append(os.dup(1))
    except OSError as error:
        return f"{len(held) // 1000} thousand, then {error.strerror}"
    finally:
        for descriptor in held:
            os.close(descriptor)
    return "all"


def handle(payload: str) -> object:
    if payload == "limits":
        return {name: resource.getrlimit(getattr(resource, f"RLIMIT_{name}")) for name in NAMES}
    if payload.isdigit():
        return descriptors(int(payload))
    return payload

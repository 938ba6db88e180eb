"""Keeps what there is only so much of."""

import fcntl
import mmap
import resource
import socket
import tempfile
import time

KEPT = []


def until_there_is_no_more(take, most=100_000):
    start = len(KEPT)
    try:
        for _ in range(most):
            KEPT.append(take())
    except (OSError, MemoryError):
        pass
    return len(KEPT) > start


def reserve():
    """Addresses without memory behind them."""
    return mmap.mmap(-1, SIZES[0], mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_NORESERVE, mmap.PROT_READ)


SIZES = [1 << 40]


def reserve_all():
    found = False
    while SIZES[0] >= 1 << 20:
        found = until_there_is_no_more(reserve) or found
        SIZES[0] >>= 4
    return found


def lock():
    file = tempfile.TemporaryFile()
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return file


def lower_limit():
    hard = resource.getrlimit(resource.RLIMIT_AS)[1]
    resource.setrlimit(resource.RLIMIT_AS, (1 << 20, hard))
    return True


def handle(payload):
    if payload == "descriptors":
        return until_there_is_no_more(socket.socket)
    if payload == "locks":
        return until_there_is_no_more(lock, most=500)
    if payload == "addresses":
        return reserve_all()
    if payload == "limit":
        return lower_limit()
    if payload == "sleep":
        time.sleep(0.2)
    return "good"

"""Replaces much of the standard library when it is loaded, as packages for cooperative threads do."""

import functools
import os
import queue
import select
import socket
import subprocess
import threading
import time

own_sleep = time.sleep
slept = []
time.sleep = slept.append


def replaced(function):
    @functools.wraps(function)
    def replacement(*arguments, **named):
        return function(*arguments, **named)

    return replacement


class Thread(threading.Thread):
    pass


class Socket(socket.socket):
    pass


for module, names in {
    os: ("read", "write", "fork", "waitpid"),
    select: ("select",),
    socket: ("create_connection", "getaddrinfo", "socketpair"),
    subprocess: ("run",),
    threading: ("get_ident", "current_thread", "_start_new_thread"),
}.items():
    for name in names:
        setattr(module, name, replaced(getattr(module, name)))
for name in ("poll", "epoll"):
    delattr(select, name)
threading.Thread, socket.socket, queue.SimpleQueue = Thread, Socket, queue._PySimpleQueue


def handle(payload):
    started = time.monotonic()
    for _ in range(5):
        time.sleep(20)
    own_sleep(0.001)
    print("patched", payload)
    return [len(slept), time.monotonic() - started < 10]

"""Replaces much of the standard library when it is loaded, as packages for cooperative threads do."""

import os
import queue
import select
import socket
import subprocess
import threading
import time

OWN_SLEEP = time.sleep
SLEPT = []


def sleep(seconds):
    SLEPT.append(seconds)


def refuse(*arguments, **named):
    raise AssertionError("only the handler's own code may come by what it has patched")


time.sleep = sleep
for name in ("poll", "epoll", "select"):
    if hasattr(select, name):
        delattr(select, name)
socket.socket.recv = socket.socket.send = socket.socket.accept = refuse
os.read = os.write = os.waitpid = refuse
threading.Thread = threading.Event = queue.SimpleQueue = queue.Queue = subprocess.Popen = refuse


def handle(payload):
    started = time.monotonic()
    for _ in range(5):
        time.sleep(20)
    OWN_SLEEP(0.001)
    print("patched", payload)
    return [len(SLEPT), time.monotonic() - started < 10]

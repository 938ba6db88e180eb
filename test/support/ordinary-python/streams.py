"""What handlers do with the streams during a call."""

import contextlib
import io
import os
import subprocess
import sys
import threading
import time


def redirect(seconds):
    captured = io.StringIO()
    with contextlib.redirect_stdout(captured):
        print("captured for", seconds)
        time.sleep(seconds)
    return captured.getvalue()


def write_in_pieces():
    data = "größer – 你好\n".encode()
    for start in range(0, len(data), 3):
        sys.stdout.buffer.write(data[start : start + 3])
        sys.stdout.buffer.flush()
    return len(data)


def handle(payload):
    command, _, argument = payload.partition(" ")
    if command == "redirect":
        return redirect(float(argument))
    if command == "pieces":
        return write_in_pieces()
    if command == "unfinished":
        print("step one is done, step two ... ", end="", flush=True)
        if argument == "crash":
            os._exit(1)
        print("done too")
    if command == "thread":
        thread = threading.Thread(target=print, args=("from a thread",))
        thread.start()
        thread.join()
    if command == "program":
        subprocess.run(["sh", "-c", "echo from a program; echo and its stderr >&2"], check=True)
    if command == "detach":
        sys.stdout.flush()
        sys.stdout = io.TextIOWrapper(sys.stdout.detach(), "utf-8", line_buffering=True)
        print("after detaching")
    if command == "close":
        sys.stdout.close()
    if command == "say":
        print(argument)
    return type(sys.stdout).__name__

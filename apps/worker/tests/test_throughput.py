"""The hot route must be worth having: measured against a plain FastAPI route in the same run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import uvloop
from support import Worker, eventually

REQUEST = (
    b"POST / HTTP/1.1\r\nHost: worker\r\nContent-Type: application/json\r\n"
    b'Content-Length: 19\r\n\r\n{"payload":"hello"}'
)
CONNECTIONS = 16
SECONDS = 0.4
ROUNDS = 3


async def _calls_per_second(path: str) -> float:
    count = 0
    end = time.monotonic() + SECONDS

    async def client() -> None:
        nonlocal count
        reader, writer = await asyncio.open_unix_connection(path)
        while time.monotonic() < end:
            writer.write(REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            _, _, rest = head.lower().partition(b"content-length: ")
            await reader.readexactly(int(rest.partition(b"\r\n")[0]))
            count += 1
        writer.close()

    await asyncio.gather(*(client() for _ in range(CONNECTIONS)))
    return count / SECONDS


def measure(path: str) -> float:
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(_calls_per_second(path))


@pytest.mark.parametrize("birth", ["started with it"], indirect=True)
@pytest.mark.parametrize("handler", ["hostile.handle", "hostile.handle_async"])
def test_the_hot_route_outruns_a_plain_route(
    start: Callable[..., Worker], tmp_path: Path, handler: str
) -> None:
    worker = start(handler)
    path = tmp_path / "plain.sock"
    program = str(Path(__file__).parent / "plain_fastapi.py")
    plain = subprocess.Popen([sys.executable, program, str(path)])
    try:
        eventually(path.exists, "the plain application listens")
        # Alternating, best of a few: whatever else the machine does hits both.
        pairs = [(measure(worker.socket_path), measure(str(path))) for _ in range(ROUNDS)]
    finally:
        plain.kill()
        plain.wait()
    ratio = max(ours for ours, _ in pairs) / max(theirs for _, theirs in pairs)
    print(f"{handler}: {pairs} calls/s, ratio {ratio:.2f}")
    assert ratio >= 1.5

"""WebSockets of ASGI applications, as a manager hands them over."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from faas_worker.runner.frames import Opcode
from support import WebSocketClient, Worker, eventually

Start = Callable[..., Worker]


@contextmanager
def opened(worker: Worker, path: str, **headers: str) -> Iterator[WebSocketClient]:
    client = WebSocketClient(worker, path, **headers)
    try:
        yield client
    finally:
        client.close()


def closed(code: int, reason: str = "") -> tuple[int, bytes]:
    return Opcode.CLOSE, code.to_bytes(2) + reason.encode()


@pytest.fixture(scope="module")
def worker(start_shared: Start) -> Any:
    return start_shared("web.app", FAAS_MAX_BODY_BYTES="1000000")


def test_messages_go_both_ways_until_the_client_closes(worker: Worker) -> None:
    with opened(worker, "/echo") as client:
        assert client.status == 101
        assert client.response["sec-websocket-accept"] == client.accept.lower()
        assert client.response["x-mine"] == "1"
        assert client.response["x-faas-answer"] == "1"
        for opcode, payload in (
            (Opcode.TEXT, "grüß".encode()),
            (Opcode.BINARY, bytes(range(256)) * 300),
            (Opcode.TEXT, b""),
        ):
            client.send(opcode, payload)
            assert client.receive() == (opcode, payload)
        client.send(Opcode.PING, b"there?")
        assert client.receive() == (Opcode.PONG, b"there?")
        client.send(Opcode.CLOSE, b"\x0b\xb8bye")
        assert client.receive() == closed(3000, "bye")
        assert client.ends()
    eventually(lambda: "left with 3000" in worker.log(), "the application is told the code")


def test_an_application_is_told_of_the_request_and_chooses_subprotocol_and_code(
    worker: Worker,
) -> None:
    headers = {
        "Sec_WebSocket_Protocol": "first",
        "SEC_WebSocket_Protocol": "second",
        "X_Told": "yes",
        "X_Faas_Root": "/f/x",
    }
    with opened(worker, "/told/7?colour=red", **headers) as client:
        assert client.response["sec-websocket-protocol"] == "second"
        assert json.loads(client.receive()[1]) == {
            "number": 7,
            "colour": "red",
            "url": "ws://worker/f/x/told/7?colour=red",
            "offered": ["first", "second"],
            "header": "yes",
            "greeting": "hello",
        }
        assert client.receive() == closed(3001, "that is all")


@pytest.mark.parametrize(
    ("path", "status", "body"),
    [
        ("/refuse", 403, b""),
        ("/deny", 402, b"not you"),
        ("/forbidden", 404, b"no such room"),
        ("/fails-before", 400, b"ValueError"),
    ],
)
def test_an_application_may_refuse_with_an_answer_of_its_own(
    worker: Worker, path: str, status: int, body: bytes
) -> None:
    with opened(worker, path) as client:
        assert client.status == status
        assert body in client.body()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/policy", closed(1008, "no")),
        ("/fails", closed(1011, "The application failed.")),
        ("/returns", closed(1000)),
    ],
)
def test_an_application_that_ends_closes(
    worker: Worker, path: str, expected: tuple[int, bytes]
) -> None:
    with opened(worker, path) as client:
        assert client.receive() == expected
        client.send(Opcode.CLOSE, expected[1])
        assert client.ends()
    if path == "/fails":
        eventually(lambda: "ValueError: of the WebSocket" in worker.log(), "its traceback")


@pytest.mark.parametrize(
    ("opcode", "payload", "code"),
    [
        (Opcode.TEXT, b"\xff", 1007),
        (Opcode.BINARY, b"x" * 1_000_001, 1009),
        (Opcode.CONTINUATION, b"", 1002),
    ],
)
def test_what_is_no_message_closes(
    worker: Worker, opcode: Opcode, payload: bytes, code: int
) -> None:
    with opened(worker, "/echo") as client:
        client.send(opcode, payload)
        found, content = client.receive()
        assert (found, int.from_bytes(content[:2])) == (Opcode.CLOSE, code)
        # No more is listened to, whatever comes.
        assert client.ends()


def test_a_client_that_vanishes_frees_the_application_at_once(start: Start) -> None:
    worker = start("web.app", FAAS_CONCURRENCY="1", FAAS_TIMEOUT_MS="60000")
    for _ in range(3):
        with opened(worker, "/tutorial") as client:
            client.send(Opcode.TEXT, b"hello")
            assert client.receive() == (Opcode.TEXT, b"you said hello")
        # The one slot is free again.
        assert worker.request("GET", "/.http/text").body == b"plain"
    eventually(lambda: worker.log().count("disconnected with 1006") == 3, "it is told")


def test_an_application_that_does_not_listen_is_ended_soon_after(start: Start) -> None:
    worker = start("web.app", FAAS_CONCURRENCY="1", FAAS_TIMEOUT_MS="60000")
    with opened(worker, "/deaf"):
        pass
    assert worker.request("GET", "/.http/text").body == b"plain"
    eventually(lambda: "the deaf one was ended" in worker.log(), "it is cancelled")


@pytest.mark.parametrize("code", [1000, 1006])
def test_an_application_ends_what_it_has_begun_when_its_client_leaves(
    start: Start, code: int
) -> None:
    worker = start("web.app", FAAS_TIMEOUT_MS="60000")
    with opened(worker, "/thorough") as client:
        client.send(Opcode.TEXT, b"one")
        client.send(Opcode.TEXT, b"two")
        if code == 1000:
            client.send(Opcode.CLOSE, code.to_bytes(2))
            assert client.receive() == closed(1000)
    eventually(lambda: f"cleaned up after {code}" in worker.log(), "it is not cancelled")
    assert "dealt with one" in worker.log()
    assert "dealt with two" in worker.log()


def test_what_was_sent_before_it_closed_arrives_however_slowly_it_is_read(start: Start) -> None:
    worker = start("web.app", FAAS_TIMEOUT_MS="60000")
    with opened(worker, "/bulk") as client:
        time.sleep(3)  # Longer than a client may take that has been sent everything.
        opcode, payload = client.receive()
        assert (opcode, len(payload)) == (Opcode.BINARY, 16 * 1024 * 1024)
        assert client.receive() == closed(1000)


def test_a_client_that_does_not_read_holds_the_application_up(worker: Worker) -> None:
    with opened(worker, "/flood"):
        pass
    line = eventually(
        lambda: [line for line in worker.log().splitlines() if "flooded" in line], "it ends"
    )
    # What the buffers of two sockets hold, and not what an application can make meanwhile.
    assert int(line[0].rpartition(" ")[2]) < 300


def test_a_time_limit_closes_and_ends_it(start: Start) -> None:
    worker = start("web.app", FAAS_TIMEOUT_MS="500")
    with opened(worker, "/tutorial") as client:
        assert client.receive() == closed(1001, "The time is over.")
    eventually(lambda: "disconnected with 1001" in worker.log(), "the application is told")
    with opened(worker, "/deaf") as client:
        assert client.receive() == closed(1001, "The time is over.")
        assert client.ends()
    eventually(lambda: "the deaf one was ended" in worker.log(), "it is ended")
    assert worker.request("GET", "/.http/text").body == b"plain"


def test_a_worker_that_leaves_closes_at_once_so_that_clients_come_again(start: Start) -> None:
    worker = start("web.app", FAAS_TIMEOUT_MS="60000")
    with opened(worker, "/tutorial") as client:
        client.send(Opcode.TEXT, b"hello")
        assert client.receive()[1] == b"you said hello"
        worker.process.terminate()
        assert client.receive() == closed(1012, "The worker is leaving.")
        client.send(Opcode.CLOSE, b"\x03\xf4")
        assert client.ends()
    assert worker.process.wait(15) == 0
    eventually(lambda: "disconnected with 1012" in worker.log(), "the application is told")


@pytest.mark.parametrize("handler", ["web.handle", "web.with_context", "web.wsgi"])
def test_handlers_of_other_kinds_refuse(start: Start, handler: str) -> None:
    with opened(start(handler), "/") as client:
        assert client.status == 400
        assert b"websocket_unsupported" in client.body()


def test_strangers_open_no_web_socket(start: Start) -> None:
    worker = start("web.app", guarded=True)
    with opened(worker, "/echo", X_Faas_Token="wrong") as client:
        assert client.status == 403
    with opened(worker, "/echo") as client:
        assert client.status == 101

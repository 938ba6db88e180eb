"""A worker that answers its manager only: whoever shows the token of which it knows the digest."""

from __future__ import annotations

import gc
import hashlib
import http.client
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from faas_worker.runner.gate import Gate
from faas_worker.runner.server import CONNECTION
from support import CALL_TOKEN, PATIENCE_SECONDS, Answer, Worker, eventually, running

COUNTS = b"""
calls = 0
def handle(payload):
    global calls
    calls += 1
    return calls
"""
FUNCTION = "mfrggzdfmztwq2lk"
SLOWLY = 0.4


@pytest.fixture(params=[False, True], ids=["cold", "specialised"])
def worker(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Worker]:
    handlers = tmp_path / "handlers" / "function"
    handlers.mkdir(parents=True)
    (handlers / "handler.py").write_bytes(COUNTS)
    with running(
        tmp_path,
        guarded=True,
        generic=request.param,
        HANDLER_FUNCTION="function.handler.handle",
        FAAS_APP_DIR=str(handlers.parent),
        FAAS_FUNCTION=FUNCTION,
    ) as started:
        yield started


@contextmanager
def waiting(tmp_path: Path, **env: str) -> Iterator[Worker]:
    worker = Worker(tmp_path, guarded=True, generic=True, **env)
    try:
        yield worker.wait_generic()
    finally:
        worker.close()


def refused(answer: Answer) -> bool:
    return answer.status == 403 and answer.error["code"] == "worker_misdirected"


@pytest.mark.parametrize("token", ["", "wrong", CALL_TOKEN[:-1], f"{CALL_TOKEN}x"])
def test_a_call_without_its_token_is_refused_slowly_and_not_run(worker: Worker, token: str) -> None:
    answer = worker.call("x", X_Faas_Token=token, X_Faas_Function=FUNCTION)
    assert refused(answer)
    assert answer.seconds > SLOWLY
    assert worker.call("x").result == 1


def test_however_often_it_is_refused_it_goes_on(worker: Worker) -> None:
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: worker.call("x", X_Faas_Token="wrong"), range(24)))
    assert all(map(refused, answers))
    assert worker.call("x").result == 1
    assert worker.health()["worker"]["runner"] == 1


def test_a_crowd_of_refused_is_cut_off_and_the_manager_served(worker: Worker) -> None:
    def attempt(_: int) -> bool:
        with suppress(ConnectionError, http.client.HTTPException):
            return refused(worker.call("x", X_Faas_Token="wrong"))
        return False

    with ThreadPoolExecutor(64) as pool:
        crowd = [pool.submit(attempt, number) for number in range(64)]
        assert worker.call("x").result == 1
        outcomes = [one.result() for one in crowd]
    assert 16 <= outcomes.count(True) < 64
    assert "ASGI" not in worker.log()


def test_the_end_of_a_refused_body_is_not_waited_for(worker: Worker) -> None:
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(worker.socket_path)
        peer.sendall(b"POST / HTTP/1.1\r\nHost: worker\r\nContent-Length: 400000000\r\n\r\n{")
        began = time.monotonic()
        assert peer.recv(65_536).startswith(b"HTTP/1.1 403 ")
        assert time.monotonic() - began < 3


def test_a_large_refused_body_still_gets_its_answer(worker: Worker) -> None:
    assert refused(worker.call("x" * 8_000_000, X_Faas_Token="wrong"))


def test_a_call_for_another_function_is_told_so_at_once_whatever_its_token(worker: Worker) -> None:
    for token in ["", "another's", CALL_TOKEN]:
        answer = worker.call("x", X_Faas_Token=token, X_Faas_Function="another")
        assert (answer.status, answer.error["code"]) == (421, "worker_misdirected")
        assert answer.seconds < SLOWLY
    assert worker.call("x").result == 1


def test_health_tells_anybody_that_it_is_well_and_its_manager_the_rest(worker: Worker) -> None:
    anybody = worker.request("GET", "/health", X_Faas_Token="")
    assert anybody.status == 200
    assert anybody.json.keys() == {"status", "timestamp"}
    assert anybody.json["status"] == "ok"
    assert worker.health()["worker"] == {"protocol": 1, "runner": 1, "last_exit": None}
    wrong = worker.request("GET", "/health", X_Faas_Token="wrong")
    assert refused(wrong)
    assert wrong.seconds > SLOWLY


@pytest.mark.parametrize("header", ["Origin", "Sec_Fetch_Site"])
def test_a_web_page_is_refused_even_with_the_token(worker: Worker, header: str) -> None:
    for method, path in [("POST", "/"), ("GET", "/health"), ("GET", "/elsewhere")]:
        answer = worker.request(method, path, b"{}", **{header: "null"})
        assert answer.status == 403
    assert worker.call("x").result == 1


def test_an_open_worker_refuses_web_pages_too(tmp_path: Path) -> None:
    with running(tmp_path, HANDLER_FUNCTION="hostile.handle") as worker:
        assert worker.call("x", Origin="http://localhost").status == 403
        assert worker.call("x", Host="any.name.at.all").result == "x"
        assert worker.health()["worker"]["protocol"] == 1


def test_its_address_by_another_name_is_refused_without_the_token(worker: Worker) -> None:
    for host in ["10.1.2.3:8000", "[fd00::1]:8000", "localhost", "worker", "127.0.0.1"]:
        assert worker.request("GET", "/health", Host=host, X_Faas_Token="").status == 200
    for host in ["evil.example", "evil.example:8000", "10.1.2.3.evil.example", "a@10.1.2.3"]:
        assert worker.request("GET", "/health", Host=host, X_Faas_Token="").status == 403
    # A manager outside of a cluster calls by the API server's name.
    assert worker.call("x", Host="api.cluster.example:6443").result == 1


def test_other_paths_tell_only_the_manager_what_there_is(worker: Worker) -> None:
    assert worker.request("GET", "/elsewhere").status == 404
    assert refused(worker.request("GET", "/elsewhere", X_Faas_Token=""))


def test_a_worker_goes_on_finding_itself_fit(worker: Worker) -> None:
    end = time.monotonic() + 1.5
    eventually(lambda: worker.call("x").status == 200 and time.monotonic() > end, "some looks")
    assert worker.health()["worker"] == {"protocol": 1, "runner": 1, "last_exit": None}


def test_handler_code_finds_the_token_in_no_environment_and_no_frame(tmp_path: Path) -> None:
    looks = b"""
import os, sys
def handle(payload):
    texts = [open("/proc/self/environ").read(), str(dict(os.environ))]
    frame = sys._getframe()
    while frame is not None:
        texts += [repr(value) for value in frame.f_locals.values()]
        frame = frame.f_back
    return "".join(texts)
async def wait(payload):
    return handle(payload)
"""
    (tmp_path / "looks.py").write_bytes(looks)
    for number, name in enumerate(["handle", "wait"]):
        place = tmp_path / str(number)
        place.mkdir()
        with running(
            place, guarded=True, FAAS_APP_DIR=str(tmp_path), HANDLER_FUNCTION=f"looks.{name}"
        ) as worker:
            seen = worker.call("x").result
            assert "FAAS_CALL_SHA256" in seen
            assert CALL_TOKEN not in seen


@pytest.mark.parametrize(
    "words",
    [
        b"",
        b"POST / HTTP/1.1\r\nHost: worker\r\nX-Faas-",
        b"GET /health HTTP/1.1\r\nHost: worker\r\n\r\n",
    ],
)
def test_a_connection_of_somebody_unknown_ends_by_itself(worker: Worker, words: bytes) -> None:
    known = worker.connect()
    known.request("GET", "/health", headers=worker.headers)
    assert known.getresponse().read()
    with socket.socket(socket.AF_UNIX) as peer:
        peer.settimeout(PATIENCE_SECONDS)
        peer.connect(worker.socket_path)
        peer.sendall(words)
        with suppress(ConnectionError):
            while peer.recv(65_536):
                pass
    known.request("GET", "/health", headers=worker.headers)
    assert known.getresponse().status == 200
    known.close()


# Without a function yet


@pytest.mark.parametrize("token", ["", "wrong"])
def test_only_its_manager_renews_the_lease_of_a_generic_worker(tmp_path: Path, token: str) -> None:
    with waiting(tmp_path, FAAS_GENERIC_LEASE_MS="1500") as worker:
        end = time.monotonic() + 3.5

        def renewed() -> bool:
            answer = worker.request("GET", "/health", X_Faas_Lease="renew")
            assert (answer.status, answer.json["worker"]) == (503, {"protocol": 1})
            return time.monotonic() > end

        eventually(renewed, "its lease has passed twice")
        began = time.monotonic()
        answer = worker.request("GET", "/health", X_Faas_Lease="renew", X_Faas_Token=token)
        assert refused(answer)
        assert worker.process.wait(PATIENCE_SECONDS) == 0
        assert time.monotonic() - began < 1.9


def test_a_generic_worker_tells_anybody_that_it_waits_and_no_more(tmp_path: Path) -> None:
    with waiting(tmp_path) as worker:
        answer = worker.request("GET", "/health", X_Faas_Token="")
        assert (answer.status, answer.json["status"]) == (503, "generic")
        assert answer.json.keys() == {"status", "timestamp"}
        assert refused(worker.call("x", X_Faas_Token=""))
        assert worker.call("x").status == 421
        assert worker.request("GET", "/health", Origin="null").status == 403


# The check itself


@pytest.mark.parametrize("token", [b"", b"wrong"])
def test_a_wrong_token_opens_nothing_before_and_after_the_right_one(token: bytes) -> None:
    right = b"t" * 43
    gate = Gate(hashlib.sha256(right).hexdigest())

    def admits(shown: bytes) -> bool:
        headers = {b"x-faas-token": shown}
        connection = SimpleNamespace(is_own=False, unknown=None)
        return gate.admits(
            {"headers": [*headers.items()], "state": {CONNECTION: connection}}, headers
        )

    assert [admits(token), admits(right), admits(token)] == [False, True, False]


def test_a_crowd_that_says_nothing_takes_no_place_of_the_managers(worker: Worker) -> None:
    crowd = []
    try:
        for _ in range(1_500):
            peer = socket.socket(socket.AF_UNIX)
            peer.setblocking(False)
            with suppress(OSError):
                peer.connect(worker.socket_path)
            crowd.append(peer)
        assert [worker.call("x").result for _ in range(3)] == [1, 2, 3]
        assert worker.health()["worker"]["runner"] == 1
    finally:
        for peer in crowd:
            peer.close()


def test_a_known_token_is_told_within_a_microsecond() -> None:
    token = b"t" * 43
    gate = Gate(hashlib.sha256(token).hexdigest())
    headers = {b"host": b"10.1.2.3:8000", b"x-faas-token": token}
    entries = [(b"x-faas-token", token), *headers.items()]
    connection = SimpleNamespace(is_own=False, unknown=None)
    scope = {"headers": entries, "state": {CONNECTION: connection}}
    assert gate.admits(scope, headers)
    assert len(entries) == 2

    def seconds() -> float:
        began = time.perf_counter()
        for _ in range(10_000):
            entries.append((b"x-faas-token", token))
            gate.admits(scope, headers)
        return (time.perf_counter() - began) / 10_000

    gc.collect()
    eventually(lambda: seconds() < 1e-6, "it takes less than a microsecond")

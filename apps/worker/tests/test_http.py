"""HTTP calls: what handlers of each kind get, and how their answers go out."""

from __future__ import annotations

import functools
import http.client
import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from faas_worker.protocol import Kind
from faas_worker.runner.http import AnswerInvalid, encoded_head
from faas_worker.runner.kinds import Uncallable, kind_of
from support import Answer, Worker, eventually

Start = Callable[..., Worker]


def http_call(
    worker: Worker, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    return worker.request(method, f"/.http{path}", body, **headers)


# Kinds


class Application:
    def __call__(self, environ: Any, start_response: Any) -> Any: ...


class AsyncApplication:
    async def __call__(self, one: Any, two: Any, three: Any) -> None: ...


async def asgi(scope: Any, receive: Any, send: Any) -> None: ...


def wsgi(environ: Any, start_response: Any) -> Any: ...


@pytest.mark.parametrize(
    ("function", "kind"),
    [
        (lambda payload: None, Kind.PAYLOAD),
        (lambda payload, context=None: None, Kind.PAYLOAD),
        (lambda *everything: None, Kind.PAYLOAD),
        (lambda payload, context: None, Kind.CONTEXT),
        (lambda event, context, *more: None, Kind.CONTEXT),
        (functools.partial(lambda first, payload: None, 1), Kind.PAYLOAD),
        (asgi, Kind.ASGI),
        (AsyncApplication(), Kind.ASGI),
        (wsgi, Kind.WSGI),
        (Application(), Kind.WSGI),
        (print, Kind.PAYLOAD),
    ],
)
def test_a_handlers_parameters_tell_what_it_is_called_with(function: Any, kind: Kind) -> None:
    assert kind_of(function, "handle") is kind


@pytest.mark.parametrize(
    "function", [lambda: None, lambda a, b, c: None, lambda payload, *, key: None, 3]
)
def test_what_no_kind_can_call_is_refused(function: Any) -> None:
    with pytest.raises(Uncallable):
        kind_of(function, "handle")


def test_a_kind_that_is_named_must_fit() -> None:
    assert kind_of(wsgi, "app", "context") is Kind.CONTEXT
    assert kind_of(lambda *everything: None, "app", "asgi") is Kind.ASGI
    with pytest.raises(Uncallable, match="handler_kind asgi"):
        kind_of(wsgi, "app", "asgi")


# Heads


@pytest.mark.parametrize(
    ("status", "headers", "problem"),
    [
        (199, [], "status"),
        (600, [], "status"),
        ("200", [], "status"),
        (True, [], "status"),
        (200, [(b"x", b"y")] * 129, "128 headers"),
        (200, [(b"x", b"y" * 16_384)], "16384 bytes"),
        (200, [(b"a b", b"")], "name"),
        (200, [(b"", b"")], "name"),
        (200, [(b"a", b"b\r\nc: d")], "control characters"),
        (200, [(b"content-length", b"-1")], "no length"),
        (200, [(b"content-length", b"1"), (b"content-length", b"2")], "no length"),
    ],
)
def test_a_head_that_is_none_is_refused(status: Any, headers: Any, problem: str) -> None:
    with pytest.raises(AnswerInvalid, match=problem):
        encoded_head(status, headers)


def test_a_head_has_no_say_in_the_connection() -> None:
    headers = [
        (b"Transfer-Encoding", b"chunked"),
        (b"Connection", b"close"),
        (b"X-Faas-Runner", b"9"),
        (b"Content-Length", b"3"),
        (b"X-A", b" b "),
    ]
    assert encoded_head(200, headers) == (b"x-a: b\r\n", 3)


# Handlers of a payload


@pytest.fixture(scope="module", params=["web.handle", "web.handle_async"])
def payloads(request: pytest.FixtureRequest, start_shared: Start) -> Worker:
    return start_shared(request.param)


@pytest.mark.parametrize(
    ("payload", "status", "kind", "body"),
    [
        ("text", 200, "text/plain; charset=utf-8", b"text"),
        ("gr\u00fc\u00df", 200, "text/plain; charset=utf-8", "gr\u00fc\u00df".encode()),
        ("", 200, "text/plain; charset=utf-8", b""),
        ("json", 200, "application/json", b'{"a":1}'),
        ("response", 201, "text/plain; charset=utf-8", b"made"),
        ("typed", 200, "text/html", b"<p>"),
        ("empty", 204, None, b""),
        ("reset", 205, "application/octet-stream", b""),
        ("stream", 200, "text/plain; charset=utf-8", b"0\n1\n2\n"),
        ("async stream", 200, "application/octet-stream", b"012"),
        ("response of async stream", 202, "application/octet-stream", b"012"),
    ],
)
def test_what_a_handler_returns_is_the_answer(
    payloads: Worker, payload: str, status: int, kind: str | None, body: bytes
) -> None:
    answer = http_call(payloads, "POST", "/a?x=1", payload.encode())
    assert (answer.status, answer.headers.get("content-type"), answer.body) == (status, kind, body)
    assert answer.headers["x-faas-answer"] == "1"


def test_executing_is_what_it_was(payloads: Worker) -> None:
    answer = payloads.call("json")
    assert answer.body == b'{"result":{"a":1}}'
    assert "x-faas-answer" not in answer.headers
    assert payloads.call("stream").result == ["0\n", "1\n", "2\n"]


@pytest.mark.parametrize(
    ("payload", "status", "code"),
    [
        (b"bomb", 502, "handler_response_invalid"),
        (b"length", 502, "handler_response_invalid"),
        (b"beyond", 502, "handler_response_invalid"),
        (b"\xff", 400, "payload_not_text"),
    ],
)
def test_an_error_is_told_as_the_workers_own(
    payloads: Worker, payload: bytes, status: int, code: str
) -> None:
    answer = http_call(payloads, "POST", "/", payload)
    assert (answer.status, answer.error["code"]) == (status, code)
    assert "x-faas-answer" not in answer.headers


def test_an_error_of_a_head_has_its_code_in_a_header(start: Start) -> None:
    worker = start("web.bare", FAAS_FUNCTION="mine")
    for path, headers, status, code in [
        ("/nothing", {}, 400, "handler_error"),
        ("/short", {}, 200, None),
        ("/", {"X_Faas_Function": "another"}, 421, "worker_misdirected"),
    ]:
        head = http_call(worker, "HEAD", path, **headers)
        assert (head.status, head.headers.get("x-faas-error"), head.body) == (status, code, b"")
    # A body says it itself.
    assert "x-faas-error" not in http_call(worker, "GET", "/nothing").headers
    assert "x-faas-error" not in worker.call("x", X_Faas_Function="another").headers


def test_a_payload_has_the_limit_that_its_manager_names(payloads: Worker) -> None:
    assert http_call(payloads, "POST", "/", b"x" * 10, X_Faas_Payload_Bytes="10").status == 200
    answer = http_call(payloads, "POST", "/", b"x" * 11, X_Faas_Payload_Bytes="10")
    assert (answer.status, answer.error["code"]) == (413, "payload_too_large")


def test_a_stream_that_fails_is_broken_off_and_its_traceback_logged(payloads: Worker) -> None:
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        http_call(payloads, "POST", "/", b"failing stream")
    eventually(lambda: "in the middle" in payloads.log(), "the traceback is logged")
    assert http_call(payloads, "POST", "/", b"good").body == b"good"


def test_a_stream_ends_with_its_reader(payloads: Worker) -> None:
    connection = payloads.connect()
    connection.request("POST", "/.http/", b"endless", payloads.headers)
    response = connection.getresponse()
    assert response.read(100_000) == b"x" * 100_000
    before = payloads.log().count("the stream was closed")
    response.close()
    connection.close()
    eventually(
        lambda: payloads.log().count("the stream was closed") > before, "the generator is closed"
    )
    assert http_call(payloads, "POST", "/", b"good").body == b"good"


def test_a_stream_without_end_has_the_time_limit_of_calls(start: Start) -> None:
    worker = start("web.handle", FAAS_TIMEOUT_MS="400")
    with pytest.raises((http.client.HTTPException, ConnectionError)):
        http_call(worker, "POST", "/", b"endless")
    assert http_call(worker, "POST", "/", b"slow").error["code"] == "handler_timeout"
    assert http_call(worker, "POST", "/", b"good").body == b"good"


def test_a_reader_that_pauses_costs_the_handler_no_time(start: Start) -> None:
    worker = start("web.app", FAAS_TIMEOUT_MS="1000")
    connection = worker.connect()
    connection.request("GET", "/.http/large", headers=worker.headers)
    response = connection.getresponse()
    threading.Event().wait(2.5)
    assert len(response.read()) == 64 * 2**18
    connection.close()
    assert http_call(worker, "GET", "/text").runner == 1


def test_a_body_comes_as_it_is_read(application: Worker) -> None:
    assert http_call(application, "POST", "/upload", b"x" * 3_000_000).json == 3_000_000


def test_an_async_generator_of_the_main_thread_ends_with_its_reader(start: Start) -> None:
    worker = start("web.handle", FAAS_CONCURRENCY="1")
    connection = worker.connect()
    connection.request("POST", "/.http/", b"endless async", worker.headers)
    response = connection.getresponse()
    assert response.read(100_000) == b"x" * 100_000
    response.close()
    connection.close()
    eventually(lambda: "the stream was closed" in worker.log(), "the generator is closed")
    assert http_call(worker, "POST", "/", b"good").body == b"good"


def test_async_generators_stream_from_the_main_thread_too(start: Start) -> None:
    worker = start("web.handle", FAAS_CONCURRENCY="1")
    for payload in b"async stream", b"response of async stream":
        assert http_call(worker, "POST", "/", payload).body == b"012"
    assert http_call(worker, "POST", "/", b"stream").body == b"0\n1\n2\n"


# Handlers that take a context


def test_a_context_tells_of_the_call(start: Start) -> None:
    worker = start("web.with_context", FAAS_FUNCTION="mine", FAAS_REVISION="3")
    headers = {"X_Mine": "yes", "X_Request_Id": "r1", "X_Faas_Attempt": "2"}
    told = http_call(worker, "PUT", "/a%20b?x=1&x=2&y=", b"\xff\x00", **headers).json
    assert told.pop("left") > 0
    assert told == {
        "payload": "\ufffd\0",
        "request_id": "r1",
        "function": "mine",
        "revision": 3,
        "attempt": 2,
        "deadline": True,
        "method": "PUT",
        "path": "/a b",
        "all": ["1", "2"],
        "last": "2",
        "header": "yes",
        "body": [255, 0],
    }
    executed = worker.call("text", X_Request_Id="r2").result
    assert (executed["payload"], executed["request_id"], executed["attempt"]) == ("text", "r2", 1)
    assert (executed["method"], executed["all"], executed["body"]) == (None, None, None)


def test_a_query_has_as_many_fields_as_it_likes(start: Start) -> None:
    worker = start("web.with_context")
    path = "/?" + "&".join(f"x={number}" for number in range(1500))
    assert http_call(worker, "GET", path).json["all"] == [str(number) for number in range(1500)]


# Web applications


@pytest.fixture(scope="module")
def application(start_shared: Start) -> Worker:
    return start_shared("web.app")


def test_an_application_of_fastapi_runs_unchanged(application: Worker) -> None:
    answer = http_call(application, "GET", "/items/7?x=1", X_Faas_Root="/f/mine", Host="h.example")
    assert answer.json == {
        "number": 7,
        "root": "/f/mine",
        "url": "http://h.example/f/mine/state",
    }
    assert http_call(application, "GET", "/items/x").status == 422
    assert http_call(application, "DELETE", "/items/7").status == 405
    assert http_call(application, "GET", "/health").status == 404
    text = http_call(application, "GET", "/text")
    assert (text.body, text.headers["x-a"]) == (b"plain", "1")
    found = http_call(application, "GET", "/state").json
    assert (found["started"], found["greeting"]) == (1, "hello")
    events = http_call(application, "GET", "/events")
    assert events.headers["content-type"].startswith("text/event-stream")
    assert events.body == b"data: 0\n\ndata: 1\n\ndata: 2\n\n"
    assert application.request("GET", "/health").json["status"] == "ok"


def test_an_application_is_executed_with_its_payload_as_a_post(application: Worker) -> None:
    assert application.call('{"a": 1}').result == {"got": {"a": 1}}
    answer = application.call("no JSON")
    assert (answer.status, answer.error["code"]) == (400, "handler_error")
    assert "422" in answer.error["message"]


def test_what_an_application_does_after_its_answer_is_done(application: Worker) -> None:
    assert http_call(application, "GET", "/after").json == "before"
    eventually(
        lambda: http_call(application, "GET", "/state").json["after"] == 1, "the task has run"
    )


def test_an_application_hears_that_its_worker_leaves(start: Start) -> None:
    worker = start("web.app")
    assert http_call(worker, "GET", "/state").json["started"] == 1
    assert worker.terminate() == 0
    assert "the application has ended" in worker.log()


def test_an_application_knows_the_scheme_of_its_client(application: Worker) -> None:
    headers = {"X_Faas_Root": "/f/mine", "Host": "h.example", "X_Forwarded_Proto": "https, http"}
    found = http_call(application, "GET", "/items/7?x=1", **headers).json
    assert found["url"] == "https://h.example/f/mine/state"


@pytest.mark.parametrize("host", ["h:\xb2", "h:" + "9" * 5000, "h:x", ":", "[::1]:8", ""])
def test_a_host_of_any_form_is_no_error_of_the_application(start: Start, host: str) -> None:
    for worker in start("web.bare"), start("web.wsgi"):
        assert http_call(worker, "GET", "/", Host=host).status == 200


def test_an_applications_own_error_is_its_answer(application: Worker) -> None:
    answer = http_call(application, "GET", "/raise")
    assert (answer.status, answer.body) == (500, b"Internal Server Error")


def test_an_application_of_asgi_is_held_to_its_contract(start: Start) -> None:
    worker = start("web.bare")
    assert http_call(worker, "GET", "/").body == b"answer"
    assert worker.call("x").result == "answer"
    for path in "/nothing", "/twice":
        assert http_call(worker, "GET", path).error["code"] == "handler_error"
    for path in "/short", "/swallowed":
        assert http_call(worker, "GET", path).error["code"] == "handler_response_invalid"
    head = http_call(worker, "HEAD", "/head")
    assert (head.status, head.headers["content-length"], head.body) == (200, "9", b"")
    reset = http_call(worker, "GET", "/reset")
    assert (reset.status, reset.headers["content-length"], reset.body) == (205, "0", b"")


def test_an_application_of_wsgi_runs_unchanged(start: Start) -> None:
    worker = start("web.wsgi")
    body = json.dumps(list(range(50_000))).encode()
    answer = http_call(worker, "POST", "/", body)
    assert (answer.body, answer.headers["content-type"]) == (body, "application/json")
    assert http_call(worker, "GET", "/write").body == b"written returned"
    assert http_call(worker, "GET", "/none").error["code"] == "handler_error"
    assert http_call(worker, "GET", "/bad").error["code"] == "handler_response_invalid"
    assert worker.call('{"a": 1}').result == {"a": 1}
    text = http_call(worker, "GET", "/text")
    assert (text.status, text.error["type"]) == (400, "TypeError")
    assert text.error["message"] == "The application must yield bytes, not str."


def test_an_application_of_wsgi_gets_the_bytes_of_its_path_and_one_line_of_cookies(
    start: Start,
) -> None:
    worker = start("web.wsgi")
    connection = worker.connect()
    connection.putrequest("GET", "/.http/environ/%C3%BC%FF", skip_host=True)
    for name, value in ("Host", "h"), ("Cookie", "a=1"), ("Cookie", "b=2"):
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().read() == repr(("/environ/\xc3\xbc\xff", "a=1; b=2")).encode()
    connection.close()


@pytest.mark.parametrize("name", ["misanswering", "misanswering_wsgi"])
def test_an_answer_that_is_none_is_refused_by_execute_as_over_http(start: Start, name: str) -> None:
    worker = start(f"web.{name}")
    for answer in worker.call("99"), http_call(worker, "POST", "/", b"99"):
        assert (answer.status, answer.error["code"]) == (502, "handler_response_invalid")
    assert worker.call("200").result == "x"


# Who may call, and when


def test_a_page_that_calls_the_worker_itself_is_turned_away(start: Start) -> None:
    worker = start("web.handle")
    assert http_call(worker, "GET", "/", Origin="https://page.example").status == 403
    assert worker.request("GET", "/a").status == 404


def test_a_caller_who_shows_no_token_is_turned_away(start: Start) -> None:
    worker = start("web.handle", guarded=True)
    assert http_call(worker, "POST", "/", b"x").body == b"x"
    assert http_call(worker, "POST", "/", b"x", X_Faas_Token="").status == 403
    meant = http_call(start("web.handle", FAAS_FUNCTION="mine"), "GET", "/", X_Faas_Function="x")
    assert (meant.status, meant.error["code"]) == (421, "worker_misdirected")


@contextmanager
def holding(worker: Worker, path: str = "") -> Iterator[socket.socket]:
    """A call that has sent the first half of its body, "abc", and holds the other one."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller:
        caller.settimeout(15)
        caller.connect(worker.socket_path)
        head = f"POST /.http/{path} HTTP/1.1\r\nHost: w\r\nX-Faas-Hold: 1\r\nContent-Length: 6"
        caller.sendall(f"{head}\r\n\r\nabc".encode())
        yield caller


def test_a_held_body_is_asked_for_when_it_is_read(start: Start) -> None:
    worker = start("web.handle")
    with holding(worker) as caller:
        assert caller.recv(1000) == b"HTTP/1.1 102 Processing\r\n\r\n"
        caller.sendall(b"def")
        answer = b""
        while not answer.endswith(b"abcdef"):
            answer += caller.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_that_has_begun_before_a_held_body_is_read_stays_whole(start: Start) -> None:
    worker = start("web.bare")
    with holding(worker, "begun") as caller:
        answer = b""
        while b"begun " not in answer:
            answer += caller.recv(1000)
        caller.sendall(b"def")
        while not answer.endswith(b"0\r\n\r\n"):
            answer += caller.recv(1000)
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")
        assert answer.endswith(b"\r\n\r\n6\r\nbegun \r\n1\r\n6\r\n0\r\n\r\n")


def test_a_runner_does_not_leave_while_a_held_body_arrives(start: Start) -> None:
    worker = start("web.handle")
    with holding(worker) as caller:
        assert caller.recv(1000) == b"HTTP/1.1 102 Processing\r\n\r\n"
        late = worker.call("slow", X_Faas_Timeout_Ms="100")
        assert late.error["code"] == "handler_timeout"
        eventually(lambda: worker.call("x").runner == 2, "the next runner serves")
        threading.Event().wait(3)
        caller.sendall(b"def")
        answer = b""
        while not answer.endswith(b"abcdef"):
            received = caller.recv(1000)
            assert received, answer
            answer += received
        assert answer.startswith(b"HTTP/1.1 200 OK\r\n")


def test_an_answer_to_a_call_that_has_one_already_gets_into_no_other(start: Start) -> None:
    worker = start("web.bare", FAAS_TIMEOUT_MS="400")
    connection = worker.connect()
    connection.request("GET", "/.http/stubborn", headers=worker.headers)
    response = connection.getresponse()
    assert (response.status, json.loads(response.read())["error"]["code"]) == (
        504,
        "handler_timeout",
    )
    eventually(lambda: "nobody waits" in worker.log(), "the application has heard of it")
    connection.request("GET", "/.http/", headers=worker.headers)
    assert connection.getresponse().read() == b"answer"
    connection.close()


def test_an_application_that_can_not_start_is_not_loadable(
    tmp_path: Any,
) -> None:
    worker = Worker(tmp_path, HANDLER_FUNCTION="web.failing_lifespan")
    assert worker.process.wait(15) == 65
    assert '"message": "no database"' in worker.log()

"""What was written for other platforms runs unchanged."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from support import Answer, Worker

Start = Callable[..., Worker]


def http_call(
    worker: Worker, method: str, path: str, body: bytes | None = None, **headers: str
) -> Answer:
    return worker.request(method, f"/.http{path}", body, **headers)


def test_a_handler_of_lambda_gets_events_of_api_gateway(start: Start) -> None:
    worker = start("platforms.orders_of_lambda", FAAS_HANDLER_KIND="lambda")
    headers = {"Cookie": "c=3; d=4", "X_Agent": "test", "X_Request_Id": "r1"}
    answer = http_call(worker, "POST", "/orders?colour=red", b'{"what": "tea"}', **headers)
    assert (answer.status, answer.headers["content-type"]) == (201, "application/json")
    assert (answer.headers["x-request"], answer.headers["set-cookie"]) == ("r1", "b=2")
    assert answer.json == {
        "method": "POST",
        "order": {"what": "tea"},
        "colour": "red",
        "cookies": ["c=3", "d=4"],
        "agent": "test",
        "left": True,
    }
    picture = http_call(worker, "POST", "/picture", b"\xff\x00\x01")
    assert (picture.body, picture.headers["content-type"]) == (b"\x01\x00\xff", "image/png")
    plain = http_call(worker, "GET", "/plain")
    assert (plain.status, plain.json) == (200, {"message": "no status"})
    text = http_call(worker, "GET", "/text")
    assert (text.body, text.headers["content-type"]) == (b"Hello from Lambda!", "application/json")
    for status in b'"202"', b"202", b"202.0":
        assert http_call(worker, "POST", "/status", status).status == 202
    for status in b'"abc"', b"null", b"99":
        answer = http_call(worker, "POST", "/status", status)
        assert (answer.status, answer.error["code"]) == (502, "handler_response_invalid")


def test_a_handler_of_lambda_gets_the_payload_as_its_event(start: Start) -> None:
    worker = start("platforms.total_of_lambda", FAAS_HANDLER_KIND="lambda", FAAS_FUNCTION="mine")
    assert worker.call('{"amounts": [1, 2]}').result == {"total": 3, "name": "mine"}
    assert "not JSON" in worker.call("text").error["message"]


def test_a_handler_of_openfaas_gets_event_and_context(start: Start) -> None:
    worker = start("platforms.openfaas", FAAS_HANDLER_KIND="openfaas")
    answer = http_call(worker, "PUT", "/?x=1", b"body", X_Mine="yes")
    assert (answer.status, answer.body) == (202, b"PUT 1 yes body")
    assert answer.headers["x-host"]
    assert http_call(worker, "GET", "/json").json == {"a": 1}
    nothing = http_call(worker, "GET", "/nothing")
    assert (nothing.status, nothing.body) == (200, b"")
    assert worker.call("body").result == "POST None None body"
    assert worker.call("number").result == 5
    failed = worker.call("failed")
    assert (failed.status, failed.error["code"]) == (400, "handler_error")
    assert "answered 500: {'a': 1}" in failed.error["message"]
    assert http_call(worker, "POST", "/", b"number").body == b"5"
    assert worker.call("status 200").result == "x"
    for bad in "status abc", "status 99", "status 600":
        for answer in worker.call(bad), http_call(worker, "POST", "/", bad.encode()):
            assert (answer.status, answer.error["code"]) == (502, "handler_response_invalid")


def test_a_function_of_knative_is_made_started_and_called(start: Start) -> None:
    worker = start("platforms.new", FAAS_HANDLER_KIND="knative", FAAS_FUNCTION="mine")
    answer = http_call(worker, "POST", "/a", b"body")
    assert (answer.status, answer.body) == (200, b"Hello from mine /a body")


@pytest.mark.parametrize(
    ("handler", "kind", "message"),
    [
        ("platforms.new", "lambda", "handler_kind lambda"),
        ("platforms.openfaas", "knative", "handler_kind knative"),
        ("platforms.of_nothing", "knative", "no method handle"),
        ("platforms.greet_of_cloud", "functions-framework", "add flask"),
    ],
)
def test_what_does_not_fit_its_platform_can_not_be_loaded(
    tmp_path: Path, handler: str, kind: str, message: str
) -> None:
    worker = Worker(tmp_path, HANDLER_FUNCTION=handler, FAAS_HANDLER_KIND=kind)
    assert worker.process.wait(15) == 65
    assert message in worker.log()

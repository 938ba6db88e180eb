"""CloudEvents, as handlers get them that ask for them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from typing import Any

import pytest

from support import Answer, Worker

Start = Callable[..., Worker]

EVENT = {"specversion": "1.0", "id": "1", "source": "/sensors/7", "type": "com.example.measured"}
BINARY = {f"ce-{name}": value for name, value in EVENT.items()}


def send(worker: Worker, body: bytes, headers: dict[str, str]) -> Answer:
    return worker.request("POST", "/.http/", body, **headers)


def structured(worker: Worker, event: Any) -> Answer:
    body = event if isinstance(event, bytes) else json.dumps(event).encode()
    return send(worker, body, {"Content-Type": "application/cloudevents+json; charset=utf-8"})


@pytest.fixture
def worker(start: Start) -> Worker:
    return start("events.shown")


@pytest.mark.parametrize(
    ("media_type", "body", "data"),
    [
        ("application/json", b'{"n": 1}', ["dict", "{'n': 1}"]),
        ("application/vnd.example+json; charset=utf-8", b"[1]", ["list", "[1]"]),
        ("text/plain", "grüß".encode(), ["str", "'grüß'"]),
        ("text/plain", b"\xff", ["bytes", "b'\\xff'"]),
        ("image/png", b"\xff\x00", ["bytes", "b'\\xff\\x00'"]),
        ("application/json", b"", ["NoneType", "None"]),
    ],
)
def test_data_of_the_binary_mode_is_what_its_type_says(
    worker: Worker, media_type: str, body: bytes, data: list[str]
) -> None:
    headers = BINARY | {"Content-Type": media_type, "ce-subject": "gr%C3%BC%C3%9Fe"}
    answer = send(worker, body, headers).json
    attributes = EVENT | {"datacontenttype": media_type, "subject": "grüße"}
    assert (answer["attributes"], answer["data"]) == (attributes, data)


@pytest.mark.parametrize(
    ("members", "data"),
    [
        ({"data": {"n": 1}}, ["dict", "{'n': 1}"]),
        ({"data": "text"}, ["str", "'text'"]),
        ({"data": None}, ["NoneType", "None"]),
        ({}, ["NoneType", "None"]),
        ({"data_base64": "/wA="}, ["bytes", "b'\\xff\\x00'"]),
        ({"data_base64": "WzFd", "datacontenttype": "application/json"}, ["list", "[1]"]),
    ],
)
def test_data_of_the_structured_mode_is_a_member(
    worker: Worker, members: dict[str, Any], data: list[str]
) -> None:
    answer = structured(worker, EVENT | members | {"sampled": True}).json
    assert answer["data"] == data
    assert EVENT.items() <= answer["attributes"].items()
    assert answer["attributes"]["sampled"] is True


def test_what_is_no_event_has_none(worker: Worker) -> None:
    assert send(worker, b"x", {"ce-madeup": "1", "Content-Type": "application/json"}).json is None
    assert worker.call("x").result is None


@pytest.mark.parametrize(
    ("event", "attribute"),
    [
        (b"{", "body"),
        (b"[]", "body"),
        ({"specversion": "1.0"}, "id"),
        (EVENT | {"specversion": "0.3"}, "specversion"),
        (EVENT | {"source": ""}, "source"),
        (EVENT | {"data_base64": "?"}, "data_base64"),
    ],
)
def test_a_bad_event_is_refused_with_its_attribute(
    worker: Worker, event: Any, attribute: str
) -> None:
    answer = structured(worker, event)
    assert (answer.status, answer.error["code"]) == (400, "event_invalid")
    assert answer.error["path"] == attribute
    bad = send(worker, b"{", BINARY | {"Content-Type": "application/json"})
    assert (bad.status, bad.error["path"]) == (400, "data")


@pytest.mark.parametrize("mode", [{"Content-Type": "application/cloudevents+json"}, BINARY])
def test_a_compressed_event_is_refused_with_the_header(
    worker: Worker, mode: dict[str, str]
) -> None:
    body = gzip.compress(json.dumps(EVENT).encode())
    headers = {"Content-Type": "application/json", **mode, "Content-Encoding": "gzip"}
    answer = send(worker, body, headers)
    assert (answer.status, answer.error["code"]) == (400, "event_invalid")
    assert answer.error["path"] == "Content-Encoding"
    assert "is 'gzip', and events are not unpacked. Send it uncompressed" in answer.json["detail"]


def test_a_function_of_knative_gets_the_event_and_the_body(start: Start) -> None:
    worker = start("events.new", FAAS_HANDLER_KIND="knative")
    headers = BINARY | {"Content-Type": "application/json"}
    assert send(worker, b'{"n": 7}', headers).body == b"1 7 8"
    event = json.dumps(EVENT | {"data": {"n": 8}}).encode()
    assert structured(worker, event).body == b"1 8 %d" % len(event)
    assert structured(worker, {"id": "1"}).error["code"] == "event_invalid"

"""CloudEvents as handlers get them.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import base64
import importlib
import json
import re
from datetime import datetime
from typing import Any
from urllib.parse import unquote

from .http import EventInvalid, Headers

_PREFIX = "ce-"
_STRUCTURED = re.compile(r"application/cloudevents\+json\s*(;|$)", re.IGNORECASE)
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_JSON = re.compile(r"[^/;\s]+/(?:[^/;\s]+\+)?json\s*(;|$)", re.IGNORECASE)
_REQUIRED = ("specversion", "id", "source", "type")


class NotJson(EventInvalid):
    """What should be JSON is none."""


class Event(dict[str, Any]):
    """A CloudEvent: its attributes by name, and its data."""

    def __init__(self, attributes: dict[str, Any], data: Any) -> None:
        super().__init__(attributes)
        #: Values of JSON where it is JSON, else a text, or bytes; None: there is none.
        self.data = data


def is_event(pairs: Headers) -> bool:
    """Whether a request says that it is one."""
    headers = _texts(pairs)
    if _STRUCTURED.match(headers.get("content-type", "")):
        return True
    return f"{_PREFIX}specversion" in headers


def event_of(pairs: Headers, body: bytes) -> Event:
    """Of a request that is one. Raises EventInvalid."""
    headers = _texts(pairs)
    try:
        return _event_of(headers, body)
    except NotJson as error:
        encoding = headers.get("content-encoding", "identity")
        if encoding == "identity":
            raise
        # What it is compressed to is its sender's to choose: nothing here unpacks it.
        why = f"{error} Its Content-Encoding is {encoding[:64]!r}, and events are not unpacked."
        what = "Send it uncompressed, without that header."
        raise EventInvalid("Content-Encoding", f"{why} {what}") from None


def _event_of(headers: dict[str, str], body: bytes) -> Event:
    if _STRUCTURED.match(headers.get("content-type", "")):
        return _structured(body)
    attributes: dict[str, Any] = {
        name.removeprefix(_PREFIX): unquote(_unquoted(value))
        for name, value in headers.items()
        if name.startswith(_PREFIX)
    }
    if "content-type" in headers:
        attributes["datacontenttype"] = headers["content-type"]
    return Event(_checked(attributes), _data_of(body, attributes.get("datacontenttype")))


def _texts(pairs: Headers) -> dict[str, str]:
    return {name.decode("latin-1"): value.decode("latin-1") for name, value in pairs}


def _unquoted(value: str) -> str:
    return re.sub(r"\\(.)", r"\1", value[1:-1]) if _QUOTED.fullmatch(value) else value


def _structured(body: bytes) -> Event:
    try:
        attributes = json.loads(body)
    except (ValueError, RecursionError):
        raise NotJson("body", "The event is not JSON.") from None
    if type(attributes) is not dict:
        raise EventInvalid("body", "The event is not a JSON object.")
    attributes = {name: value for name, value in attributes.items() if value is not None}
    data, encoded = attributes.pop("data", None), attributes.pop("data_base64", None)
    if encoded is not None:
        try:
            binary = base64.b64decode(encoded, validate=True)
        except (ValueError, TypeError):
            raise EventInvalid("data_base64", "data_base64 is not base64.") from None
        media_type = _checked(attributes).get("datacontenttype", "application/octet-stream")
        data = _data_of(binary, media_type)
    return Event(_checked(attributes), data)


def _checked(attributes: dict[str, Any]) -> dict[str, Any]:
    for name in _REQUIRED:
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise EventInvalid(name, f"{name} is missing.")
    if attributes["specversion"] != "1.0":
        raise EventInvalid("specversion", "specversion must be 1.0.")
    if not isinstance(attributes.get("datacontenttype", ""), str):
        raise EventInvalid("datacontenttype", "datacontenttype must be a text.")
    return attributes


def _data_of(body: bytes, media_type: str | None) -> Any:
    if not body:
        return None
    if media_type is not None and _JSON.match(media_type):
        try:
            return json.loads(body)
        except (ValueError, RecursionError):
            raise NotJson("data", f"The data is not JSON, which {media_type} says.") from None
    if media_type is not None and media_type.lower().startswith("text/"):
        try:
            return body.decode()
        except UnicodeDecodeError:
            return body
    return body


def packaged(event: Event) -> Any:
    """The same of the package `cloudevents`, where its function has brought that along."""
    try:
        made = importlib.import_module("cloudevents.core.v1.event").CloudEvent
    except ImportError:
        return event
    attributes = dict(event)
    if "time" in attributes:
        try:
            attributes["time"] = datetime.fromisoformat(attributes["time"])
        except (ValueError, TypeError):
            raise EventInvalid("time", "time must be a time (RFC 3339).") from None
    return made(attributes, event.data)

"""Handlers as other platforms have them, called as those call them."""

from __future__ import annotations

import base64
import importlib
import inspect
import json
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import import_module
from typing import Any

from .events import event_of, is_event, packaged
from .http import Disconnected, EventInvalid, ExecutedCall, Request, encoded_head, latin_header
from .kinds import Uncallable, is_async
from .payloads import JSON, TEXT, Context, ContextCall, PayloadHttpCall, Values
from .results import Answer, application_answer

Pairs = list[tuple[bytes, bytes]]

_MOST_EVENT_BYTES = 16 * 1024 * 1024

# AWS Lambda: https://docs.aws.amazon.com/apigateway/latest/developerguide/http-api-develop-integrations-lambda.html


class LambdaContext:
    """The second argument of a handler of AWS Lambda."""

    function_version = "$LATEST"
    identity = None
    client_context = None

    def __init__(self, context: Context) -> None:
        name = context.function or "function"
        self.aws_request_id = context.request_id or ""
        self.function_name = name
        self.invoked_function_arn = f"arn:aws:lambda:local:000000000000:function:{name}"
        self.memory_limit_in_mb = os.environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "")
        self.log_group_name = f"/aws/lambda/{name}"
        self.log_stream_name = str(context.revision or 1)
        self.get_remaining_time_in_millis = context.remaining_ms


def lambda_event(context: Context, request: Request) -> dict[str, Any]:
    """Of API Gateway's HTTP APIs, in their version 2.0."""
    headers, query, body = context.headers, context.query, context.body or b""
    assert headers is not None
    assert query is not None
    now = datetime.now(UTC)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query.decode("latin-1"),
        "headers": {name: ",".join(headers.all(name)) for name in headers if name != "cookie"},
        "requestContext": {
            "accountId": "000000000000",
            "apiId": context.function or "function",
            "domainName": headers.get("host", ""),
            "domainPrefix": headers.get("host", "").partition(".")[0],
            "http": {
                "method": request.method,
                "path": request.path,
                "protocol": "HTTP/1.1",
                "sourceIp": headers.get("x-forwarded-for", "").rpartition(",")[2].strip(),
                "userAgent": headers.get("user-agent", ""),
            },
            "requestId": context.request_id or "",
            "routeKey": "$default",
            "stage": "$default",
            "time": now.strftime("%d/%b/%Y:%H:%M:%S +0000"),
            "timeEpoch": int(now.timestamp() * 1000),
        },
        "isBase64Encoded": False,
    }
    if cookies := headers.all("cookie"):
        event["cookies"] = [part.strip() for cookie in cookies for part in cookie.split(";")]
    if query:
        event["queryStringParameters"] = {name: ",".join(query.all(name)) for name in query}
    if body:
        try:
            event["body"] = body.decode()
        except UnicodeDecodeError:
            event["body"] = base64.b64encode(body).decode()
            event["isBase64Encoded"] = True
    return event


class LambdaHttpCall(PayloadHttpCall):
    def start(self, function: Any) -> Any:
        assert self.context is not None
        return function(lambda_event(self.context, self.request), LambdaContext(self.context))

    def parts(self, value: Any) -> tuple[Any, Pairs, Any]:
        if not isinstance(value, dict) or "statusCode" not in value:
            # Without a status all of it is the body.
            return 200, [(b"content-type", JSON)], value
        headers = [
            *_pairs(value.get("headers")),
            *_pairs(value.get("multiValueHeaders")),
            *(latin_header("set-cookie", one) for one in value.get("cookies") or ()),
        ]
        body = value.get("body")
        if body is None:
            body = b""
        elif value.get("isBase64Encoded"):
            body = base64.b64decode(body)
        return _status_of(value["statusCode"]), headers, body


class LambdaCall(ContextCall):
    """`execute`: the payload is the event, as JSON."""

    def start(self, function: Any) -> Any:
        try:
            event = json.loads(self.payload) if self.payload else {}
        except ValueError as error:
            raise ValueError(f"The payload is not JSON, which an event is: {error}") from None
        return function(event, LambdaContext(self.context))


# OpenFaaS, its template python3-http: https://docs.openfaas.com/languages/python/


class OpenFaasEvent:
    def __init__(self, method: str, path: str, query: Any, headers: Any, body: bytes) -> None:
        self.method = method
        self.path = path
        self.query = query
        self.headers = headers
        self.body = body


class OpenFaasContext:
    def __init__(self) -> None:
        self.hostname = os.environ.get("HOSTNAME", "localhost")


def openfaas_parts(value: Any) -> tuple[Any, Pairs, Any]:
    if value is None:
        return 200, [], b""
    if not isinstance(value, dict):
        return 200, [], value
    headers = _pairs(value.get("headers"))
    body = value.get("body", b"")
    if not isinstance(body, (str, bytes, bytearray, dict, list)):
        body = str(body)
    return _status_of(value.get("statusCode", 200)), headers, body


class OpenFaasHttpCall(PayloadHttpCall):
    def start(self, function: Any) -> Any:
        context = self.context
        assert context is not None
        event = OpenFaasEvent(
            self.request.method,
            self.request.path,
            context.query,
            context.headers,
            context.body or b"",
        )
        return function(event, OpenFaasContext())

    def parts(self, value: Any) -> tuple[Any, Pairs, Any]:
        return openfaas_parts(value)


class OpenFaasCall(ContextCall, ExecutedCall):
    """`execute`: the payload is the body of a POST, and the answer's body the result."""

    def start(self, function: Any) -> Any:
        none = Values(())
        event = OpenFaasEvent("POST", "/", none, none, self.payload.encode())
        return function(event, OpenFaasContext())

    def answer(self, value: Any, max_bytes: int) -> Answer | None:
        status, headers, body = openfaas_parts(value)
        encoded_head(status, headers)
        found = next((value for name, value in headers if name.lower() == b"content-type"), TEXT)
        if isinstance(body, (str, bytes, bytearray, memoryview)):
            content = body.encode() if isinstance(body, str) else bytes(body)
        elif status < 400:
            return super().answer(body, max_bytes)
        else:
            content = repr(body).encode()
        return application_answer(status, found, content, max_bytes)

    async def answer_on_loop(self, value: Any, max_bytes: int) -> Answer | None:
        return self.answer(value, max_bytes)


# Functions Framework, as Cloud Functions has it: https://github.com/GoogleCloudPlatform/functions-framework-python


_FRAMEWORK_TYPES = (None, "http", "cloudevent")


def flask_application(function: Any, name: str) -> Any:
    """Calls it with Flask's request, and makes of what it returns what Flask makes of it. Raises
    Uncallable where the function brings no Flask."""
    try:
        flask: Any = import_module("flask")
    except ModuleNotFoundError as error:
        if error.name != "flask":
            raise
        raise Uncallable(
            f"{name} is called with the request of Flask, as handler_kind functions-framework is:"
            " add flask, or functions-framework, to the requirements"
        ) from None
    type_ = _type_by_decorator(name)
    if type_ not in _FRAMEWORK_TYPES:
        raise Uncallable(
            f"{name} is a {type_} function of the Functions Framework:"
            " handler_kind functions-framework calls those of HTTP and of CloudEvents"
        )
    if is_async(function):
        raise Uncallable(
            f"{name} is an async def, which Flask doesn't await, as handler_kind"
            " functions-framework is: make it a def, or an application of ASGI"
        )
    takes_event = type_ == "cloudevent"

    class Application(flask.Flask):
        def dispatch_request(self) -> Any:
            # Whatever its path and its method.
            request = flask.request._get_current_object()
            if not takes_event:
                return function(request)
            events: Any = import_module("cloudevents.http")
            faults: Any = import_module("cloudevents.exceptions")
            try:
                event = events.from_http(dict(request.headers), request.get_data())
            except faults.GenericException as error:
                flask.abort(400, f"The request is no CloudEvent: {error}")
            else:
                function(event)
            return "OK"

    application = Application(getattr(function, "__module__", name), static_folder=None)
    # An error is the function's, with its traceback.
    application.config["PROPAGATE_EXCEPTIONS"] = True
    return application


def _type_by_decorator(name: str) -> str | None:
    registry = getattr(sys.modules.get("functions_framework"), "_function_registry", None)
    known = getattr(registry, "REGISTRY_MAP", {})
    type_: str | None = known.get(name)
    return type_


# Knative Functions: https://github.com/knative/func, its templates for Python


class KnativeFunction:
    """What `new` has made, as an application of ASGI."""

    def __init__(self, instance: Any) -> None:
        self._instance = instance

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http" and is_event(scope["headers"]):
            body = await _whole(receive)
            scope["event"] = packaged(event_of(scope["headers"], body))
            await self._instance.handle(scope, _Again(body, receive), EventSend(send))
            return
        if scope["type"] != "lifespan":
            await self._instance.handle(scope, receive, send)
            return
        await receive()
        try:
            await self._tell("start", dict(os.environ))
        except Exception as error:
            message = f"start raised {type(error).__name__}: {error}"
            await send({"type": "lifespan.startup.failed", "message": message})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._tell("stop")
        await send({"type": "lifespan.shutdown.complete"})

    async def _tell(self, what: str, *arguments: Any) -> None:
        method = getattr(self._instance, what, None)
        if method is None:
            return
        told = method(*arguments)
        if inspect.isawaitable(told):
            await told


class EventSend:
    """How functions of Knative answer: by messages of ASGI, or by one event."""

    def __init__(self, send: Any) -> None:
        self._send = send

    async def __call__(self, message: Any) -> None:
        if isinstance(message, Mapping):
            await self._send(message)
        else:
            await self.structured(message)

    async def structured(self, event: Any) -> None:
        await self._answer(event, "to_structured_event")

    async def binary(self, event: Any) -> None:
        await self._answer(event, "to_binary_event")

    async def _answer(self, event: Any, writer: str) -> None:
        # The event is of this package, so it is there.
        binding = importlib.import_module("cloudevents.core.bindings.http")
        message = getattr(binding, writer)(event)
        headers = _pairs(message.headers)
        await self._send({"type": "http.response.start", "status": 200, "headers": headers})
        await self._send({"type": "http.response.body", "body": message.body})


class _Again:
    """Gives a body that has been read once more."""

    def __init__(self, body: bytes, receive: Any) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Any:
        body, self._body = self._body, None
        if body is None:
            return await self._receive()
        return {"type": "http.request", "body": body, "more_body": False}


async def _whole(receive: Any) -> bytes:
    body = bytearray()
    more = True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Disconnected("Nobody waits for the answer any more.")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > _MOST_EVENT_BYTES:
            raise EventInvalid("data", f"The event has more than {_MOST_EVENT_BYTES} bytes.")
    return bytes(body)


def knative_application(new: Any) -> KnativeFunction:
    """Raises whatever the handler's file raises, and TypeError where it makes no function."""
    instance = new()
    if not callable(getattr(instance, "handle", None)):
        raise TypeError("What it returns has no method handle(scope, receive, send).")
    return KnativeFunction(instance)


def _status_of(value: Any) -> Any:
    """A number of any kind, or a text of one; what is none is told when it is sent."""
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        return value


def _pairs(headers: Any) -> Pairs:
    items = headers.items() if isinstance(headers, Mapping) else headers or ()
    return [
        latin_header(name, one)
        for name, value in items
        for one in (value if isinstance(value, (list, tuple)) else (value,))
    ]

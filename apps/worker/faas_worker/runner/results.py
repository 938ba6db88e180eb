"""The bytes of every answer."""

from __future__ import annotations

import json
from asyncio import sleep
from dataclasses import dataclass, replace
from time import monotonic_ns
from typing import Any

from ..confidential import masked
from .encoding import NoJsonForm, encode_plain, json_pieces
from .failures import Failure, cut, cut_middle, describe

# A manager reads no more than 64 KiB of a failure, and text beyond ASCII takes up to twelve bytes
# a character.
_ERROR_BYTES = 60 * 1024
_SHORTER_CHARS = (2 * 1024, 1024)
# So long other calls on the loop may wait for the conversion of one result.
_TURN_NS = 5_000_000


_RESULT, _RESULT_END = b'{"result":', b"}"
_SHOWN_CHARS = 500


@dataclass(frozen=True, slots=True)
class Answer:
    """Of the worker: a result, or why there is none."""

    status: int
    body: bytes
    close: bool = False
    #: Of an error.
    code: str = ""

    @property
    def is_good(self) -> bool:
        return self.status == 200


@dataclass(frozen=True, slots=True)
class Reply(Answer):
    """Of the handler, to an HTTP call."""

    #: Lines of headers.
    head: bytes = b""
    #: That the handler has announced, which may be another one than that of the body (HEAD).
    length: int | None = None

    @property
    def is_good(self) -> bool:
        return True


def json_in(answer: Answer) -> bytes:
    """Of a result."""
    return answer.body[len(_RESULT) : -len(_RESULT_END)]


def application_answer(status: int, media_type: bytes, body: bytes, max_bytes: int) -> Answer:
    """Of a web application that was executed: its answer's JSON or text is the result."""
    if status >= 400:
        shown = cut(body.decode("utf-8", "replace"), _SHOWN_CHARS)
        failure = Failure("ApplicationError", f"The application answered {status}: {shown}", "")
        return _handler_error(failure)
    try:
        is_json = media_type.partition(b";")[0].strip().lower() in (b"application/json",)
        return result_answer(json.loads(body) if is_json else body.decode(), max_bytes)
    except ValueError as error:
        kind = "JSON" if isinstance(error, json.JSONDecodeError) else "text"
        return _invalid(Failure(type(error).__name__, f"the answer is no {kind}", ""))


def result_answer(value: Any, max_bytes: int) -> Answer:
    """Raises what the handler's own code raises in it, such as a generator."""
    answer = _plain_answer(value, max_bytes)
    if answer is not None:
        return answer
    try:
        _converted_answer(value, max_bytes, takes_turns=False).send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("without turns it doesn't wait")


async def result_answer_on_loop(value: Any, max_bytes: int) -> Answer:
    """The same for a loop that has other calls to serve meanwhile."""
    return _plain_answer(value, max_bytes) or await _converted_answer(
        value, max_bytes, takes_turns=True
    )


def _plain_answer(value: Any, max_bytes: int) -> Answer | None:
    """None for what must be converted first, or can't be."""
    try:
        text = encode_plain(value)
    except MemoryError:
        raise
    except BaseException:
        return None
    if len(text) > max_bytes:
        return _too_large(f"it takes {len(text)} bytes and may take {max_bytes}")
    return Answer(200, b"%b%b%b" % (_RESULT, text.encode("ascii"), _RESULT_END))


async def _converted_answer(value: Any, max_bytes: int, *, takes_turns: bool) -> Answer:
    text = bytearray()
    end_ns = monotonic_ns() + _TURN_NS
    try:
        for piece in json_pieces(value):
            text += piece.encode("ascii")
            if len(text) > max_bytes:
                return _too_large(f"it takes more than {max_bytes} bytes")
            if takes_turns and monotonic_ns() >= end_ns:
                await sleep(0)
                end_ns = monotonic_ns() + _TURN_NS
    except NoJsonForm as error:
        return _invalid(Failure(error.type, masked(str(error)), ""), path=masked(error.path))
    return Answer(200, b"%b%b%b" % (_RESULT, text, _RESULT_END))


def _too_large(message: str) -> Answer:
    return _invalid(Failure("ResultTooLarge", message, ""))


def _invalid(failure: Failure, *, path: str | None = None) -> Answer:
    detail = f"The handler's return value is not JSON: {cut(failure.message, 1024)}"
    members = {} if path is None else {"path": path}
    return _error(500, detail, "handler_result_invalid", failure, close=False, **members)


def handler_error(error: BaseException, handler_file: str | None) -> Answer:
    return _handler_error(describe(error, handler_file))


def _handler_error(failure: Failure) -> Answer:
    return _error(
        400, f"Error executing handler function: {failure.message}", "handler_error", failure
    )


def response_invalid(message: str) -> Answer:
    """Of a handler whose answer can't be one of HTTP."""
    detail = f"The handler's answer can't be sent: {cut(message, 1024)}."
    failure = Failure("ResponseInvalid", message, "")
    return _error(502, detail, "handler_response_invalid", failure)


def websocket_unsupported(kind: str) -> Answer:
    message = f"A handler of the kind {kind} speaks no WebSocket: only applications of ASGI do."
    failure = Failure("WebSocketUnsupported", message, "")
    return _error(400, message, "websocket_unsupported", failure, close=True)


def payload_not_text() -> Answer:
    message = "The body is not UTF-8, which the payload of this handler must be."
    return _error(400, message, "payload_not_text", Failure("UnicodeDecodeError", message, ""))


def event_invalid(attribute: str, message: str) -> Answer:
    """Of a handler that has asked for the event that its call says it is."""
    failure = Failure("EventInvalid", message, "")
    return _error(400, message, "event_invalid", failure, path=attribute)


def payload_too_large(limit: int) -> Answer:
    message = f"The body may have at most {limit} bytes."
    failure = Failure("PayloadTooLarge", message, "")
    return _error(413, message, "payload_too_large", failure, close=True)


def handler_timeout(limit_ms: int, *, close: bool) -> Answer:
    message = f"The call ran past its time limit of {limit_ms} ms."
    failure = Failure("TimeoutError", message, "")
    return _error(504, message, "handler_timeout", failure, close=close)


def worker_draining() -> Answer:
    message = "This worker takes no new calls. The handler was not called."
    failure = Failure("WorkerDraining", message, "")
    return _error(503, message, "worker_draining", failure, close=True)


def worker_misdirected(
    status: int = 421, why: str = "This worker serves another function."
) -> Answer:
    message = f"{why} The handler was not called."
    failure = Failure("WorkerMisdirected", message, "")
    return _error(status, message, "worker_misdirected", failure, close=True)


def refused(status: int, detail: str, *, close: bool = False) -> Answer:
    return Answer(status, json.dumps({"detail": detail}).encode(), close)


def _error(
    status: int, detail: str, code: str, failure: Failure, *, close: bool = False, **members: str
) -> Answer:
    body = _error_body(detail, code, failure, members)
    for limit in _SHORTER_CHARS:
        if len(body) <= _ERROR_BYTES:
            break
        shorter = replace(
            failure,
            message=cut(failure.message, limit),
            traceback=cut_middle(failure.traceback, limit),
        )
        body = _error_body(cut(detail, limit), code, shorter, members)
    return Answer(status, body, close, code)


def _error_body(detail: str, code: str, failure: Failure, members: dict[str, str]) -> bytes:
    error = {
        "code": code,
        "type": failure.type,
        "message": failure.message,
        "traceback": failure.traceback,
        **members,
    }
    return json.dumps({"detail": detail, "error": error}).encode()

"""The bytes of every answer on `POST /`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from .failures import Failure, cut, cut_middle, describe

# A manager reads no more than 64 KiB of a failure, and text beyond ASCII takes up to twelve bytes
# a character.
_ERROR_BYTES = 60 * 1024
_SHORTER_CHARS = (2 * 1024, 1024)
# ensure_ascii (the default) is what lets lone surrogates survive the way through UTF-8.
_encode = json.JSONEncoder(allow_nan=False, separators=(",", ":")).encode


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: bytes
    close: bool = False


def result_answer(value: Any, max_bytes: int) -> Answer:
    """Encoding runs handler code too (dict subclasses, say), so it may raise anything."""
    try:
        text = _encode(value)
        if len(text) > max_bytes:
            message = f"it takes {len(text)} bytes and may take {max_bytes}"
            return _invalid(Failure("ResultTooLarge", message, ""))
        return Answer(200, b'{"result":%b}' % text.encode("ascii"))
    except BaseException as error:
        return _invalid(describe(error, None))


def _invalid(failure: Failure) -> Answer:
    detail = f"The handler's return value is not JSON: {cut(failure.message, 1024)}"
    return _error(500, detail, "handler_result_invalid", failure)


def handler_error(error: BaseException, handler_file: str | None) -> Answer:
    failure = describe(error, handler_file)
    return _error(
        400, f"Error executing handler function: {failure.message}", "handler_error", failure
    )


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


def _error(status: int, detail: str, code: str, failure: Failure, *, close: bool = False) -> Answer:
    body = _error_body(detail, code, failure)
    for limit in _SHORTER_CHARS:
        if len(body) <= _ERROR_BYTES:
            break
        shorter = replace(
            failure,
            message=cut(failure.message, limit),
            traceback=cut_middle(failure.traceback, limit),
        )
        body = _error_body(cut(detail, limit), code, shorter)
    return Answer(status, body, close)


def _error_body(detail: str, code: str, failure: Failure) -> bytes:
    error = {
        "code": code,
        "type": failure.type,
        "message": failure.message,
        "traceback": failure.traceback,
    }
    return json.dumps({"detail": detail, "error": error}).encode()
